"""The engine: runs any method, in compiled chunks of steps.

A phase's steps run as one compiled `while_loop` over (start, stop), so that one
program serves chunks of every length; a chunk takes about ten seconds. Between
chunks the engine reports progress, writes checkpoints and looks for a step
whose metrics are not finite, at which the loop has stopped. Data stays on the
device when it fits and is streamed chunk by chunk when it does not; images are
augmented on the device.

A run is a function of its settings and its seed. How it was cut into chunks,
interrupted and resumed leaves no trace but in timings: metrics are summed in
the loop's carry, and every random draw is a function of seed, phase, epoch and
step.

The devices may belong to several processes (`distributed`). All call `fit` with
the same arguments; process 0 alone writes rows and checkpoints.
"""

from collections.abc import Mapping

from natjax.training import batches, engine, evaluation
from natjax.training import devices as devices_lib
from natjax.training import method as base
from natjax.training import options as options_lib

# What a caller of `fit` names.
Listener = options_lib.Listener
Options = options_lib.Options
Preparation = options_lib.Preparation
Preparing = options_lib.Preparing
Split = options_lib.Split
check_splits = batches.check_splits
chunks = evaluation.chunks
evaluate = evaluation.evaluate
walk = evaluation.walk


def fit(method: base.Method, splits: Mapping[str, Split], *, batch_size: int,
        preparation: options_lib.Preparing, options: Options) -> base.State:
  """Runs all stages of a method, or what a checkpoint left of them.

  Args:
    method: what to run.
    splits: by the names that the method's phases use.
    batch_size: over all devices.
    preparation: from stored images to what the network sees.
    options: seed, devices, files.

  Returns:
    The final state, before the end of the last stage is asked; of several
    processes, each has its copy.

  Raises:
    InputError: a batch that the devices do not divide or a split of a phase
      that is smaller, a damaged or foreign checkpoint, a stage with an end that
      is not the last.
    Interrupted: asked to stop; the checkpoint is written.
    NotFinite: a metric was not finite; names the step and what it ran.
    errors.PeerLost: another process of this run is gone.
  """
  devices = tuple(options.devices or devices_lib.choose())
  devices_lib.check_batch(batch_size, len(devices))
  check_splits({name: splits[name] for stage in method.stages
                for phase in stage.phases for name in phase.splits}, batch_size)
  return devices_lib.fetch(engine.Engine(
      method, splits, batch_size=batch_size, preparation=preparation,
      options=options, layout=engine.Layout(
          devices, (options.seed,), (options.run,), method.divided)).run())

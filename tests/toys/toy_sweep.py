"""An experiment of parts, of which one is finished, one fails and one waits.

As the scripts in `experiments`, next to whose modules it is run. "b" fails, and
"c" waits to be asked to save, unless a file in --out says that it should not.
"""

import argparse
import os
import time

import recording
import sweeps
import transforming

from natjax import errors


def main(argv=None):
  parser = argparse.ArgumentParser()
  recording.add_flags(parser, ("small",))
  sweeps.add_flags(parser)
  parser.add_argument("--parts", default="abc")
  args = parser.parse_args(argv)
  sweep = sweeps.Sweep(__file__, args, argv, {"seed": args.seed})

  def make(name):
    with (sweep.out / "begun").open("a") as file:
      file.write(f"{name} {os.getpid()}\n")
    if name == "b" and not (sweep.out / "mended").exists():
      raise ValueError("it is\nbroken")
    end = time.monotonic() + 120
    while name == "c" and not (sweep.out / "saved").exists():
      assert time.monotonic() < end, "nobody asked"
      if recording.asked():
        (sweep.out / "saved").touch()
        raise errors.Interrupted(name)
      time.sleep(0.05)
    return {"seed": args.seed, "cards": os.environ.get("CUDA_VISIBLE_DEVICES")}

  found = sweep.run([sweeps.Part(f"part {name}", lambda name=name: make(name))
                     for name in args.parts])
  result = {"found": found, **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      "\n".join(recording.in_words(result)))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)

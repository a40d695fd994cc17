"""What the JSON files of a run hold, as far as they are read again.

A shape is a type; a tuple of one type and None, where null may stand; a list of
one shape; or a dictionary of shapes, where a key that ends with "?" may be
missing and the key "*" stands for any others.
"""

from typing import Any

from natjax import errors

NUMBER = float  # Whole ones too.
_WORDS = {dict: "an object", list: "a list", str: "a text", bool: "true or"
          " false", int: "a whole number", float: "a number"}

# Of `evaluate`: what `run_data.describe` writes.
CONFIG = {"dataset": str, "image_size": int, "classes": int, "crc32": int,
          "sampled?": int,
          "source?": {"name": str, "data_dir": (str, None), "resize?": str,
                      "renumber_labels?": bool, "test_fraction?": NUMBER,
                      "stream?": bool, "skip_damaged?": bool,
                      "train_fraction?": NUMBER, "normalize?": str},
          "normalization?": {"mean": [NUMBER], "std": [NUMBER]},
          "simclr?": dict, "arcface?": dict,
          "objective?": str}

# Of what is compared when a run is resumed, what is looked into.
RESUMED = {"source?": CONFIG["source?"], "versions?": dict,
           "versions_before?": [dict], "machine?": dict,
           "machine_before?": [dict], "compiler?": dict,
           "compiler_before?": [dict], "space?": (dict, None)}

# Images that were left out as damaged.
_SKIPPED = {"skipped?": {"train": int, "test": int}}
NETWORK = {"architecture": dict, "place": dict, "auxiliary": bool, "dtype": str,
           "mean": [NUMBER], "std": [NUMBER], "class_names": [str],
           "accuracy": NUMBER, "linear_accuracy?": NUMBER,
           "top5_accuracy?": NUMBER, "seed?": int,
           "params?": NUMBER, "madds?": NUMBER, "num_changes?": int,
           "resize?": str, "seconds?": NUMBER,
           "right?": {"images": int, "bits": str},
           **_SKIPPED}
# Of `derived.json`: of a search, and of what handed over to another program.
SEARCHED = {"architecture": dict, "scoring_batch_size": int,
            "search_seconds": NUMBER}
HANDED_OVER = {"train_accuracy_before_derivation?": NUMBER,
               "train_accuracy_after_derivation?": NUMBER}
# Of `time.json`, and in a result: seconds by what they were spent on.
TIME = {"*": NUMBER}
_COST = {"params": NUMBER, "madds": NUMBER}
_TRAINED = {f"{kind}{name}?": shape for kind in ("", "linear_", "top5_")
            for name, shape in (("accuracy", NUMBER), ("accuracy_std", NUMBER),
                                ("accuracies", [NUMBER]))}
_PART = {**_COST, **_TRAINED}
_PAIR = {**_PART, "accuracy": NUMBER, "accuracy_std": NUMBER}
_JOB = {"dataset": str, "seconds": NUMBER, "time?": TIME, **_SKIPPED,
        "architectures": {"*": dict},
        "paired?": {"images": int, "won": int, "lost": int},
        "seeds?": [{"seed": int, **_COST, "accuracy?": NUMBER}],
        "changes?": [{"cell": str, "source": int, "target": int, "before": str,
                      "after": str}]}
# Of a whole run, by its kind.
RUNS: dict[str, Any] = {
    "train": {**_PART, "accuracy": NUMBER, "dataset": str, "seconds": NUMBER,
              "time?": TIME, **_SKIPPED},
    "transform": {**_JOB, "original?": _PAIR, "transformed": _PAIR},
    "search": {**_JOB, "derived": _PART}}
RUNS["union"] = {"dataset": str, "seconds": NUMBER, "search_seconds": NUMBER,
                 "time?": TIME, "union": [RUNS["transform"]]}


def check(value: Any, shape: Any, where: str, advice: str,
          field: str | None = None) -> None:
  """Refuses a JSON value of another shape.

  Args:
    value: to look at.
    shape: see this module.
    where: what the error calls the value.
    advice: what the error tells to do.
    field: the setting at fault.

  Raises:
    InputError: names the key at fault.
  """
  try:
    _check(value, shape, "")
  except ValueError as e:
    raise errors.InputError(f"{where} is damaged: {e}; {advice}", field) from e


def _check(value, shape, name):
  if isinstance(shape, tuple):
    shape = object if value is None else shape[0]
  if shape is object:
    return
  kind = shape if isinstance(shape, type) else type(shape)
  taken = (int, float) if kind is float else (kind,)
  if type(value) not in taken:
    raise ValueError(f"{name or 'it'} is {errors.short(value)} and must be"
                     f" {_WORDS[kind]}")
  inside = f"{name}." if name else ""
  if isinstance(shape, list):
    for i, item in enumerate(value):
      _check(item, shape[0], f"{inside}{i}")
  if isinstance(shape, dict):
    for key, wanted in shape.items():
      known = key.removesuffix("?")
      for found in value if key == "*" else [known]:
        if found in value:
          _check(value[found], wanted, f"{inside}{found}")
        elif known == key:
          raise ValueError(f"{inside}{key} is missing")

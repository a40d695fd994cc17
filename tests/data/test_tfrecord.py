"""TensorFlow's files of records; `test_streamed` reads sets of them."""

import numpy as np
import pytest

from natjax.data import tfrecord


@pytest.mark.parametrize("lengths", [
    (0,), (5,), (0, 3, 300, 1, 300, 17), (255, 256, 257, 2, 4),
    (5000, 40_000, 5001, 1, 70_000)])
def test_sums_of_records_are_those_one_by_one(lengths):
  rng = np.random.default_rng(0)
  recs = [rng.bytes(length) for length in lengths]
  whole = b"".join(map(tfrecord.frame, recs))
  ends = np.cumsum([len(tfrecord.frame(r)) for r in recs])
  spans = [(int(end) - 4 - n, n) for end, n in zip(ends, lengths, strict=True)]
  assert tfrecord.damaged(whole, spans).tolist() == []
  for number, (at, length) in enumerate(spans):
    for place in ([at, at + length - 1] if length else []) + [at + length]:
      changed = bytearray(whole)
      changed[place] ^= 4  # Of the data or of their sum.
      assert tfrecord.damaged(bytes(changed), spans).tolist() == [number]

"""Benchmarks: every operation against the best peers a user could write, with bytes or operations, ceiling and percentage.

`lapcore bench [FAMILY ...] --peers` runs them from a checkout, and `lapcore bench contention` some of them beside other work;
`pytest bench/test_benchmarks.py` runs every case under pytest-benchmark; `python -m bench.gpu` is the one command for a machine
with a card.
"""

FAMILIES = (
    "pyramid",
    "gaussian",
    "random",
    "likelihood",
    "vector_quantize",
    "parzen",
    "masked_conv",
    "sampling",
)

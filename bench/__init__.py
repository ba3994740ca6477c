"""Benchmarks: every operation against the best peers a user could write, with bytes or operations, ceiling and percentage.

`lapcore bench [FAMILY ...] --peers` runs them, and `lapcore bench contention` some of them beside other work. In a checkout
`pytest tests/benchmarks.py` runs every case under pytest-benchmark, and `python -m bench.gpu` is the one command for a machine with
a card, where lapcore need not be installed yet.
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

"""Benchmarks: every operation against the best peers a user could write, with bytes, ceiling and percentage.

Run one with `python -m bench.pyramid`, or all of them under pytest-benchmark with `pytest bench/test_benchmarks.py`.
"""

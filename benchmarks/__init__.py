"""Benchmarks: each prints our figures beside a peer's, measured in the same run. `python -m benchmarks` lists them."""

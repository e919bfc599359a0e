"""Benchmarks: speed as a ratio to something measured in the same run, because machines are noisy."""

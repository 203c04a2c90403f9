"""Benchmarks: each through the whole `drp` command, beside its rival in the same run. See README.md."""

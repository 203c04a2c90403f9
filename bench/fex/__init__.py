"""Benchmarks of feature extraction, one module for each algorithm."""

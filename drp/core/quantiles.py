"""Buckets of the latency histograms, and quantiles from their counts.

The buckets are log-linear: every power of two is cut into 16 equal parts, so that a bucket is never wider
than 1/16 of its lower edge. A value v (ns, 0 <= v < 2^64) falls into

    bucket(v) = v                                  for v < 16
              = (e - 3) * 16 + (v >> (e - 4)) % 16  else, where e = floor(log2(v))

which ends at 975. The engine counts into arrays of N_BUCKETS with the same formula (a shift and a
count-leading-zeros). This module knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

SUB_BUCKETS = 16
N_BUCKETS = 64 * SUB_BUCKETS
_SUB_BITS = 4


def bucket(value: int) -> int:
    """Return the index of the bucket that holds `value`; negative values count as 0, those beyond 64 bits
    as the largest.
    """
    value = min(max(value, 0), (1 << 64) - 1)
    if value < SUB_BUCKETS:
        return value
    exponent = value.bit_length() - 1
    return (exponent - _SUB_BITS + 1) * SUB_BUCKETS + (value >> (exponent - _SUB_BITS)) % SUB_BUCKETS


def lower_edge(index: int) -> int:
    """Return the smallest value that falls into bucket `index`; that of the next bucket is its upper edge,
    exclusive.
    """
    if index < SUB_BUCKETS:
        return index
    exponent = index // SUB_BUCKETS + _SUB_BITS - 1
    return (SUB_BUCKETS + index % SUB_BUCKETS) << (exponent - _SUB_BITS)


def quantile(counts: Sequence[int], q: float) -> float | None:
    """Return the `q` quantile (0..1) of the values behind `counts`, linear within its bucket; None where
    there are none.

    The error is at most one bucket's width: 1/16 of the value.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
    total = sum(counts)
    if not total:
        return None
    rank = int(q * (total - 1))
    ends = accumulate(counts)
    index, end = next((index, end) for index, end in enumerate(ends) if end > rank)
    n = counts[index]
    low, width = lower_edge(index), lower_edge(index + 1) - 1 - lower_edge(index)
    return low + width * (rank - (end - n) + 0.5) / n if width else float(low)


def quantiles(
    counts: Sequence[int], wanted: Sequence[float] = (0.5, 0.9, 0.99, 0.999, 1.0)
) -> dict[str, float]:
    """Return {"p50": .., "p99": .., "max": ..} in the unit of the buckets; empty where there are none."""
    found = {_name(q): quantile(counts, q) for q in wanted}
    return {name: value for name, value in found.items() if value is not None}


def _name(q: float) -> str:
    return "max" if q == 1.0 else f"p{q * 100:g}".replace(".", "_")

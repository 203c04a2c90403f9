"""Buckets tile the 64-bit range; quantiles are right to a sixteenth."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.core.quantiles import N_BUCKETS, bucket, lower_edge, quantile, quantiles


@given(st.integers(0, (1 << 64) - 1))
def test_a_value_lies_between_the_edges_of_its_bucket(value: int) -> None:
    index = bucket(value)
    assert 0 <= index < N_BUCKETS
    low, high = lower_edge(index), lower_edge(index + 1)
    assert low <= value < high
    assert high - low <= max(1, low // 16)


def test_buckets_tile_without_gaps_and_clip_what_is_outside() -> None:
    edges = [lower_edge(index) for index in range(bucket((1 << 64) - 1) + 2)]
    assert edges == sorted(set(edges))
    assert edges[-1] == 1 << 64
    assert [bucket(edge) for edge in edges[:-1]] == list(range(len(edges) - 1))
    assert (bucket(-5), bucket(1 << 70)) == (0, 975)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.floats(0, 1))
def test_quantile_is_right_to_the_width_of_a_bucket(values: list[int], q: float) -> None:
    counts = [0] * N_BUCKETS
    for value in values:
        counts[bucket(value)] += 1
    true = sorted(values)[int(q * (len(values) - 1))]
    found = quantile(counts, q)
    assert found is not None
    assert abs(found - true) <= max(1.0, true / 16)


def test_quantiles_of_even_values_are_close_to_the_true_ones() -> None:
    values = range(1_000, 2_000_000, 7)
    counts = [0] * N_BUCKETS
    for value in values:
        counts[bucket(value)] += 1
    found = quantiles(counts)
    assert found["p50"] == pytest.approx(statistics.median(values), rel=0.01)
    assert found["p99"] == pytest.approx(1_980_000, rel=0.01)
    assert list(found) == ["p50", "p90", "p99", "p99_9", "max"]


def test_nothing_counted_gives_no_quantiles_and_a_wrong_q_is_refused() -> None:
    assert quantiles([0] * N_BUCKETS) == {}
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile([1], 1.5)

"""Histograms count as NumPy counts, to the last pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import FexError, Histogram

SHAPE = (2, 3, 150)
DTYPES = st.sampled_from([np.float32, np.uint8, np.uint16, np.int16])


def holds(made: Histogram, event: Any, used: Any) -> None:
    """A histogram is NumPy's over the same edges."""
    found = made.of(event)
    x = event[used].astype(np.float64)
    assert found.counts.tolist() == np.histogram(x[np.isfinite(x)], made.edges)[0].tolist()
    assert found.below == (x < made.edges[0]).sum()
    assert found.above == (x > made.edges[-1]).sum()
    assert found.nan == np.isnan(x).sum()
    assert found.counts.sum() + found.below + found.above + found.nan == used.sum()


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    dtype=DTYPES,
    bins=st.integers(1, 300),
    low=st.floats(-1000, 1000),
    width=st.floats(1e-3, 1e5),
)
def test_counts_are_numpys(data: st.DataObject, dtype: Any, bins: int, low: float, width: float) -> None:
    high = low + width
    event = np.zeros(SHAPE, dtype)
    made = Histogram(SHAPE, bins, (low, high), dtype=dtype)
    if dtype is np.float32:
        # Pixels on the edges and next to them are what rounding could misplace.
        near = made.edges.astype(np.float32)
        elements = st.one_of(
            st.sampled_from(
                sorted(
                    {*near, *np.nextafter(near, np.float32(np.inf)), *np.nextafter(near, np.float32(-np.inf))}
                )
            ),
            st.floats(low - width, high + width),
            st.floats(),
        )
        drawn = data.draw(st.lists(elements, max_size=60))
        with np.errstate(over="ignore"):
            event.reshape(-1)[7 : 7 + len(drawn)] = np.array(drawn, np.float64).astype(np.float32)
    else:
        event = data.draw(arrays(dtype, SHAPE))
    used = data.draw(arrays(bool, SHAPE, fill=st.just(True)))
    used[0, 0, 0] = True
    holds(Histogram(SHAPE, bins, (low, high), mask=used, dtype=dtype), event, used)


@pytest.mark.parametrize("limits", [(0.0, 35.0), (-5.0, 30.0), (0.1, 0.7), (1e6, 1e6 + 50), (-3e38, 3e38)])
def test_many_pixels_of_all_kinds_are_counted_right(limits: tuple[float, float]) -> None:
    rng = np.random.default_rng(2)
    low, high = limits
    event = rng.uniform(low - 0.1 * (high / 2 - low / 2), high, (2, 100, 700)).astype(np.float32)
    event[0, ::3] = np.round(event[0, ::3])
    event[1, 5, 5:9] = [np.nan, np.inf, -np.inf, high]
    for bins in (1, 7, 100, 5000):
        holds(Histogram(event.shape, bins, limits), event, np.ones(event.shape, bool))


def test_the_last_bin_holds_the_upper_edge() -> None:
    event = np.array([[[0, 1, 2, 3]]], np.uint8)
    found = Histogram(event.shape, 2, (0, 2), dtype=np.uint8).of(event)
    assert (found.counts.tolist(), found.below, found.above, found.nan) == ([1, 2], 0, 1, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bins": 0, "limits": (0, 1)}, "no histogram"),
        ({"bins": 65_001, "limits": (0, 1)}, "no histogram"),
        ({"bins": 3, "limits": (1, 1)}, "no histogram"),
        ({"bins": 3, "limits": (0, np.inf)}, "no histogram"),
        ({"bins": 3, "limits": (-1e308, 1e308)}, "no histogram"),
        ({"bins": 3, "limits": (np.nan, 1)}, "no histogram"),
        ({"bins": 9, "limits": (1.0, np.nextafter(1.0, 2))}, "narrower than numbers can tell"),
        ({"bins": 3, "limits": (0, 1), "dtype": np.int64}, "int64 cannot be worked with"),
    ],
)
def test_what_is_no_histogram_is_told(options: Any, words: str) -> None:
    with pytest.raises(FexError, match=words):
        Histogram((1, 2, 3), **options)

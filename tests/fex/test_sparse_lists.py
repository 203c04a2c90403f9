"""Thresholds and sparse photon events: what is found, and that it can be read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import FexError, SparseEvents, Threshold, decode_events, dense_events
from tests.fex.plain_statistics import sparse_words

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 70))


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    shape=SHAPES,
    low=st.floats(-10, 10, width=32),
    width=st.one_of(st.floats(0.5, 30), st.just(np.inf)),
)
def test_pixels_of_a_range_are_found_in_order(
    data: st.DataObject, shape: Any, low: float, width: float
) -> None:
    elements = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([low, np.nan, np.inf, -np.inf]))
    frame = data.draw(arrays(np.float32, shape, elements=elements, fill=st.just(np.float32(0))))
    used = data.draw(arrays(bool, shape, fill=st.just(True)))
    used[0, 0, 0] = True
    found = Threshold(shape, low, low + width, mask=used).of(frame)
    with np.errstate(invalid="ignore"):
        inside = used & (frame >= np.float32(low)) & (frame < np.float32(low + width))
    assert found.index.tolist() == np.flatnonzero(inside).tolist()
    assert np.array_equal(found.value, frame[inside])
    assert len(found) == inside.sum()


def test_every_pixel_may_be_above_the_threshold() -> None:
    frame = np.ones((2, 3, 50), np.float32)
    assert len(Threshold(frame.shape, 0.5).of(frame)) == 300


@pytest.mark.parametrize("limits", [(-np.inf, np.inf), (-np.inf, 1), (-1e300, 1e300)])
def test_limits_beyond_all_numbers_find_all_that_are_finite(limits: Any) -> None:
    frame = np.tile(np.array([-np.inf, np.nan, -3e38, 0, 0.5, np.inf], np.float32), 9).reshape(1, 1, -1)
    found = Threshold(frame.shape, *limits).of(frame)
    assert np.array_equal(found.value, frame[np.isfinite(frame)])


@pytest.mark.parametrize("limits", [(1, 1), (2, 1), (np.nan, 3)])
def test_a_range_without_values_is_told(limits: Any) -> None:
    with pytest.raises(FexError, match="there are no values"):
        Threshold((1, 2, 3), *limits)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), shape=SHAPES, dtype=st.sampled_from([np.uint8, np.uint16]))
def test_sparse_events_are_their_twins_and_come_back(data: st.DataObject, shape: Any, dtype: Any) -> None:
    most = int(np.iinfo(dtype).max)
    elements = st.one_of(st.integers(0, 9), st.integers(0, most))
    counts = data.draw(arrays(dtype, shape, elements=elements, fill=st.just(dtype(0))))
    words = SparseEvents(shape, dtype).of(counts)
    assert words.tolist() == sparse_words(counts)
    assert np.array_equal(dense_events(words, shape), counts)


def test_photons_far_apart_come_back() -> None:
    counts = np.zeros((3, 100, 400), np.uint16)
    for place in (0, 8191, 8192, 8193 + 8191, 50_000, 119_999):
        counts.reshape(-1)[place] = place % 9 + 1
    words = SparseEvents(counts.shape, np.uint16).of(counts)
    assert words.tolist() == sparse_words(counts)
    pixel, count = decode_events(words, counts.shape)
    assert np.array_equal(pixel, np.flatnonzero(counts))
    assert np.array_equal(count, counts.reshape(-1)[pixel])


def test_words_come_back_whatever_event_was_before() -> None:
    made = SparseEvents((1, 1, 5))
    full, empty = np.full((1, 1, 5), 255, np.uint8), np.zeros((1, 1, 5), np.uint8)
    assert len(made.of(full)) == 10
    assert made.of(empty).tolist() == []


@settings(max_examples=200, deadline=None)
@given(words=arrays(np.uint16, st.integers(0, 40)))
def test_any_words_are_read_or_refused(words: Any) -> None:
    shape = (1, 20, 300)
    try:
        pixel, count = decode_events(words, shape)
    except FexError as error:
        assert "damaged" in str(error)
        return
    assert (np.diff(pixel.astype(int)) > 0).all()
    assert (pixel < 6000).all()
    assert (count > 0).all()


@pytest.mark.parametrize("words", [np.zeros(3, np.uint8), np.zeros((2, 2), np.uint16), [1.5]])
def test_what_are_no_words_is_told(words: Any) -> None:
    with pytest.raises(FexError, match="uint16 of rank 1"):
        decode_events(words, (1, 2, 3))

"""Rebinned events are block by block what NumPy makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import FexError, Rebin
from tests.fex.plain_statistics import rebin

DTYPES = st.sampled_from([np.float32, np.uint8, np.uint16])


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    dtype=DTYPES,
    factors=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    blocks=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)),
    how=st.sampled_from(["sum", "mean"]),
)
def test_blocks_are_sums_and_means_of_their_used_pixels(
    data: st.DataObject, dtype: Any, factors: tuple[int, int], blocks: tuple[int, int, int], how: Any
) -> None:
    shape = (blocks[0], blocks[1] * factors[0], blocks[2] * factors[1])
    elements = st.floats(-1e4, 1e4, width=32) if dtype is np.float32 else None
    event = data.draw(arrays(dtype, shape, elements=elements))
    used = data.draw(arrays(bool, shape, fill=st.just(True)))
    used[0, 0, 0] = True
    made = Rebin(shape, factors, how, used, dtype)
    found = made.of(event)
    assert found.shape == made.result_shape == blocks
    assert found.dtype == (np.uint32 if how == "sum" and dtype is not np.float32 else np.float32)
    expected = rebin(event, factors, used, how == "mean")
    if found.dtype == np.uint32:
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(event).max(initial=0) * 20)


def test_counts_do_not_overflow() -> None:
    event = np.full((1, 256, 256), 65535, np.uint16)
    assert Rebin(event.shape, (256, 256), dtype=np.uint16).of(event).item() == 65535 * 65536


def test_a_block_without_a_used_pixel_is_zero_whatever_is_in_it() -> None:
    event = np.full((1, 2, 4), np.nan, np.float32)
    event[0, :, 2:] = 3
    mask = np.isfinite(event)
    for how in ("sum", "mean"):
        assert Rebin(event.shape, (2, 2), how, mask).of(event).tolist() == [[[0, 12 if how == "sum" else 3]]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factors": (3, 2)}, "no blocks of 3 x 2"),
        ({"factors": (0, 2)}, "no blocks of 0 x 2"),
        ({"factors": (2, 2), "how": "median"}, "Take one of sum, mean"),
        ({"factors": (2, 2), "dtype": np.float64}, "float64 cannot be worked with"),
        ({"factors": (2, 2), "dtype": ">u2"}, "cannot be worked with"),
        ({"factors": (2, 2), "mask": np.ones((4, 4))}, "the mask has shape"),
    ],
)
def test_what_does_not_fit_is_told(options: Any, words: str) -> None:
    with pytest.raises(FexError, match=words):
        Rebin((2, 4, 4), **options)


def test_an_event_of_another_type_is_told() -> None:
    made = Rebin((2, 4, 4), (2, 2), dtype=np.uint8)
    for event in (
        np.zeros((2, 4, 4), np.uint16),
        np.zeros((8, 4), np.uint8),
        [np.zeros((4, 4), np.uint8)] * 2,
        None,
    ):
        with pytest.raises(FexError):
            made.of(event)  # type: ignore[arg-type]


def test_segments_may_lie_apart_and_at_odd_addresses() -> None:
    event = np.random.default_rng(1).integers(0, 999, (2, 4, 4), np.uint16)
    apart = np.zeros((4, 4, 4), np.uint16)[::2]
    apart[...] = event
    odd = np.zeros(event.nbytes + 1, np.uint8)[1:].view(np.uint16).reshape(event.shape)
    odd[...] = event
    made = Rebin(event.shape, (2, 2), dtype=np.uint16)
    expected = made.of(event).copy()
    for other in (apart, odd, np.asfortranarray(event)):
        assert np.array_equal(made.of(other), expected)
    assert np.array_equal(Rebin((1, 4, 4), (2, 2), dtype=np.uint16).of(event[0])[0], expected[0])

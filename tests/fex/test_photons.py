"""Photons beside the plain twin, and what the finder refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.detectors import count_photons
from drp.fex import FexError, PhotonFinder
from drp.fex._droplet_kernels import find_droplets
from drp.fex._photon_kernels import find_single
from drp.fex.photons import warm_up
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of
from tests.fex import plain_photons as plain

ENERGY = 8.0
WILD = (np.nan, np.inf, -np.inf, -1e30, -5.0, 0.0, 1e-40, 0.8, 4.0, 8.0)


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """A frame with charge, noise, and numbers that are none, and what it is searched with."""
    shape = draw(
        st.tuples(st.integers(1, 3), st.integers(1, 7), st.sampled_from([1, 2, 15, 63, 64, 65, 130]))
    )
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    density = draw(st.sampled_from([0.01, 0.1, 0.5, 1.0]))
    energies = rng.choice([ENERGY, ENERGY / 2, 3 * ENERGY], shape) * (rng.random(shape) < density)
    frame = (energies * rng.choice([1, 0.5, 0.25, 0.7], shape)).astype(np.float32)
    frame += rng.normal(0, draw(st.sampled_from([0.0, 0.3, 2.0])), shape).astype(np.float32)
    wild = rng.random(shape) < draw(st.sampled_from([0.0, 0.1]))
    frame[wild] = rng.choice([one for one in WILD if one != np.inf], int(wild.sum()))
    threshold = draw(st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]))
    return {
        "frame": frame,
        "mask": (rng.random(shape) < draw(st.sampled_from([0.0, 0.8, 1.0]))).astype(np.uint8),
        "threshold": threshold,
        "low": threshold * draw(st.sampled_from([0.02, 0.2, 1.0])),
        "most": draw(st.sampled_from([None, 1, 5])),
    }


@pytest.mark.parametrize("method", ["single", "droplet"])
@settings(deadline=None, max_examples=300)
@given(case=cases())
def test_photons_are_those_of_the_plain_twin(method: str, case: dict[str, Any]) -> None:
    frame, mask, threshold, low = (case[one] for one in ("frame", "mask", "threshold", "low"))
    finder = PhotonFinder(
        frame.shape, ENERGY, method=method, threshold=threshold, low=low, mask=mask, most=case["most"]
    )
    finder.find(np.full(frame.shape, 3 * ENERGY, np.float32))  # leaves nothing behind
    found = finder.find(frame)
    law = (threshold,) if method == "single" else (threshold, low)
    expected = getattr(plain, method)(frame, mask, ENERGY, *law)
    assert np.array_equal(found.map, expected)
    assert found.total == expected.sum(dtype=int)
    entries = plain.listed(expected)
    assert found.sparse.tolist() == entries[: case["most"]]
    assert found.lost == len(entries) - len(found.sparse)
    bare = PhotonFinder(
        frame.shape, ENERGY, method=method, threshold=threshold, low=low, mask=mask, with_map=False
    ).find(frame)
    assert (bare.total, bare.sparse.tolist(), bare.map.size) == (found.total, entries, 0)


@settings(deadline=None, max_examples=100)
@given(case=cases(), bins=st.integers(1, 9), top=st.sampled_from([0.7, 2.0, 50.0]))
def test_droplets_are_counted_by_their_energies(case: dict[str, Any], bins: int, top: float) -> None:
    frame, mask, low = (case[one] for one in ("frame", "mask", "low"))
    finder = PhotonFinder(
        frame.shape,
        ENERGY,
        method="droplet",
        threshold=case["threshold"],
        low=low,
        mask=mask,
        spectrum=(bins, top),
    )
    finder.find(np.full(frame.shape, ENERGY / 2, np.float32))
    found = finder.find(frame)
    assert found.spectrum.tolist() == plain.spectrum(frame, mask, ENERGY, low, bins, top)
    assert np.array_equal(found.map, plain.droplet(frame, mask, ENERGY, case["threshold"], low))


def test_a_pixel_by_itself_is_counted_as_calib_counts() -> None:
    frame = np.random.default_rng(3).normal(4, 9, (2, 33, 100)).astype(np.float32)
    frame[0, 0, :4] = np.inf, np.nan, -np.inf, 1e9
    for threshold in (0.1, 0.5, 0.9):
        found = PhotonFinder(frame.shape, ENERGY, threshold=threshold).find(frame)
        assert np.array_equal(found.map, count_photons(frame, ENERGY, threshold=threshold))


@pytest.mark.parametrize("method", ["single", "droplet"])
def test_a_frame_that_is_saturated_everywhere_is_counted_whole(method: str) -> None:
    shape = (2, 5, 70)
    finder = PhotonFinder(shape, ENERGY, method=method)
    for kev in (np.inf, 1e30, ENERGY * 65535):
        found = finder.find(np.full(shape, kev, np.float32))
        assert (found.map == 65535).all()
        assert (found.total, len(found.sparse), found.lost) == (65535 * 700, 700, 0)
    assert finder.find(np.full(shape, -np.inf, np.float32)).total == 0


def test_of_equal_pixels_the_first_get_the_photons() -> None:
    shape = (1, 40, 90)  # one droplet of 3600 pixels with 0.75 photons each
    found = PhotonFinder(shape, ENERGY, method="droplet").find(np.full(shape, 0.75 * ENERGY, np.float32))
    assert found.map.ravel().tolist() == [1] * 2700 + [0] * 900


def test_photons_meet_over_edges_of_pixels_and_not_over_corners_or_segments() -> None:
    frame = np.zeros((2, 3, 65), np.float32)
    frame[0, 0, 63:65] = 0.6 * ENERGY, 0.4 * ENERGY
    frame[0, 2, [0, 64]] = 0.4 * ENERGY
    frame[1, 0, 0] = frame[1, 1, 1] = 0.4 * ENERGY
    found = PhotonFinder(frame.shape, ENERGY, method="droplet").find(frame)
    assert found.sparse.tolist() == [[0, 0, 63, 1]]


def test_a_list_has_room_for_no_more_than_there_is() -> None:
    found = PhotonFinder((1, 2, 3), ENERGY, most=10**15).find(np.full((2, 3), ENERGY, np.float32))
    assert (len(found.sparse), found.lost) == (6, 0)


def test_what_is_found_cannot_be_written_and_is_overwritten_by_the_next() -> None:
    finder = PhotonFinder((1, 2, 3), ENERGY)
    first = finder.find(np.full((2, 3), ENERGY, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        first.map[0, 0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        first.sparse[0] = 5
    assert finder.find(np.zeros((1, 2, 3), np.float32)).total == 0
    assert (first.total, int(first.map.sum())) == (6, 0)


def test_no_kernel_is_compiled_for_a_second_kind_of_arguments() -> None:
    correction = made(setup_of("jungfrau", 2), constants_of((3, 2, 512, 1024), [41.5, -1.39, -0.11]))
    raw = frame_of((2, 512, 1024), [1], 14, 0x3FFF)
    for method, kernel in (("single", find_single), ("droplet", find_droplets)):
        warm_up()
        for most, mask in ((None, None), (3, correction.mask())):
            options = {"spectrum": (5, 2.0)} if method == "droplet" and most else {"with_map": not most}
            finder = PhotonFinder((2, 512, 1024), ENERGY, method=method, mask=mask, most=most, **options)
            whole = finder.find(correction.calib(raw)).sparse.copy()
            assert np.array_equal(finder.find(correction.segments(raw)).sparse, whole)
        assert len(kernel.nopython_signatures) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shape": (3, 4)}, r"frames of \(3, 4\)"),
        ({"shape": (1, 0, 5)}, "frames of"),
        ({"shape": (1, 5000, 5000)}, "16777215 pixels"),
        ({"shape": (1, 2, 70000)}, "65535"),
        ({"photon_kev": 0.0}, "0.0 keV cannot"),
        ({"photon_kev": float("nan")}, "nan keV cannot"),
        ({"photon_kev": float("inf")}, "inf keV cannot"),
        ({"method": "drop"}, "no method 'drop'. Give single or droplet"),
        ({"threshold": 0.0}, "0.0 of one"),
        ({"threshold": 1.5}, "1.5 of one"),
        ({"threshold": 0.3, "low": 0.4}, "0.4 photons are no limit"),
        ({"low": 0.0}, "0.0 photons are no limit"),
        ({"mask": np.ones((1, 4, 3), np.uint8)}, r"uint8 \(1, 4, 3\), expected is uint8 \(1, 3, 4\)"),
        ({"mask": np.ones((1, 3, 4))}, "the mask is float64"),
        ({"mask": 1}, "the mask is int"),
        ({"threshold": 1e-9}, "1e-09 of one"),
        ({"low": 1e-9}, "1e-09 photons are no limit"),
        ({"most": 0}, "a list of 0"),
        ({"spectrum": (10, 2.0)}, "10 bins up to 2.0 photons can be made by single"),
        ({"spectrum": (0, 2.0), "method": "droplet"}, "0 bins"),
        ({"spectrum": (5, 0.0), "method": "droplet"}, "0.0 photons"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong: dict[str, Any], says: str) -> None:
    arguments = {"shape": (1, 3, 4), "photon_kev": ENERGY} | wrong
    with pytest.raises(FexError, match=says):
        PhotonFinder(**arguments)


def test_a_frame_of_another_shape_is_refused() -> None:
    with pytest.raises(FexError, match=r"float32 \(2, 3, 4\), expected is float32 \(1, 3, 4\)"):
        PhotonFinder((1, 3, 4), ENERGY).find(np.zeros((2, 3, 4), np.float32))

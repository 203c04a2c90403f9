"""Photons found by a GPU: those of the CPU, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calib.detectors import DetectorSetup, Panel
from calib.detectors.commonmode import CommonMode
from calib.detectors.generic import Generic
from calib.errors import CalibError
from drp.fex import FexError, PhotonFinder
from drp.fex.photons import METHODS, Photons
from tests.fex.gpu import KEV, choose_gpu, correction_of, events_of, photon_of

choose_gpu()
from drp.fex.cuda import GpuPhotonFinder, Launch  # noqa: E402 - after it is chosen

SHAPE = (4, 8, 20)
ADU = {"pedestals": np.zeros((1, 8, 20), np.float32)}
SMALL = Launch(blocks=3, threads=8)

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning",  # the simulator's, of numbers that are none
    "ignore:Grid size",  # a GPU's, of launches as small as these
)


def both(
    events: list[Any], correction: Any, launch: Launch = SMALL, **options: Any
) -> list[tuple[Photons, Photons]]:
    """What GPU and CPU find."""
    mask, photon = correction.mask(), photon_of(correction)
    finder = PhotonFinder(correction.shape, photon, mask=mask, **options)
    gpu = GpuPhotonFinder(finder, correction, batch=4, launch=launch)
    gpu.find(events[::-1])  # leaves nothing behind
    return [
        (found, PhotonFinder(correction.shape, photon, mask=mask, **options).find(correction.calib(one)))
        for found, one in zip(gpu.find(events), events, strict=True)
    ]


def assert_equal(pairs: list[tuple[Photons, Photons]]) -> None:
    for found, expected in pairs:
        assert found.total == expected.total
        assert np.array_equal(found.map, expected.map)
        assert np.array_equal(found.sparse, expected.sparse)
        assert found.lost == expected.lost
        assert np.array_equal(found.spectrum, expected.spectrum)


@pytest.mark.parametrize(
    ("shape", "dettype", "density", "options"),
    [
        (SHAPE, "epixm320", 0.1, {"most": None}),
        ((1, 4, 256), "jungfrau", 2.0, {"most": 50}),
        ((3, 5, 7), "camera", 0.01, {"threshold": 0.9, "with_map": False}),
    ],
)
def test_photons_are_those_of_the_cpu(
    shape: tuple[int, int, int], dettype: str, density: float, options: dict[str, Any]
) -> None:
    seed = shape[0]
    correction = correction_of(shape, dettype=dettype, seed=seed)
    events = events_of(correction, 3, seed=seed, density=density)
    pairs = both(events, correction, **options)
    assert_equal(pairs)
    assert all(found.total > 0 and not found.map.flags.writeable for found, _ in pairs)
    assert all((found.lost > 0) == (options.get("most") is not None) for found, _ in pairs)


@pytest.mark.parametrize(
    ("shape", "dettype", "density", "options"),
    [
        ((4, 7, 40), "epixm320", 0.05, {"low": 0.07, "spectrum": (30, 3.0)}),
        ((2, 4, 66), "camera", 0.2, {"threshold": 0.9, "low": 0.01, "most": 20}),
        ((1, 8, 20), "camera", 3.0, {"threshold": 0.2, "spectrum": (3, 0.5), "with_map": False}),
    ],
)
def test_droplets_are_those_of_the_cpu(
    shape: tuple[int, int, int], dettype: str, density: float, options: dict[str, Any]
) -> None:
    seed = shape[1]
    correction = correction_of(shape, dettype=dettype, seed=seed)
    events = events_of(correction, 2, seed=seed, density=density)
    pairs = both(events, correction, method="droplet", **options)
    assert_equal(pairs)
    assert all(found.total > 0 for found, _ in pairs)


def test_of_equal_pixels_of_a_droplet_those_get_photons_that_the_cpu_chooses() -> None:
    setup = DetectorSetup("det", "camera", "raw", (0, 0, 0), (Panel(0, "panel", {}),), (8, 20))
    correction = Generic(setup, ADU, Generic.derive(setup, ADU))
    event = np.random.default_rng(1).choice(np.array([0, 0, 0, 0, 2, 3, 5, 6, 12], np.uint16), (1, 8, 20))
    finder = PhotonFinder((1, 8, 20), 8.0, method="droplet", spectrum=(20, 40.0))
    (found,) = GpuPhotonFinder(finder, correction, batch=1, launch=SMALL).find([event])
    assert_equal([(found, finder.find(correction.calib(event)))])
    assert found.total > 20
    assert found.spectrum.sum() > 5


def test_results_do_not_depend_on_the_launch() -> None:
    correction = correction_of((2, 5, 17), dettype="camera")
    events = events_of(correction, 2, density=0.5)
    for launch in (Launch(blocks=1, threads=1), Launch(blocks=2, threads=21)):
        for method in METHODS:
            assert_equal(both(events, correction, launch, method=method, most=30))


def test_a_batch_may_be_less_than_full_or_empty() -> None:
    correction = correction_of((1, 4, 8), dettype="camera")
    finder = PhotonFinder(correction.shape, KEV)
    gpu = GpuPhotonFinder(finder, correction, batch=2, launch=SMALL)
    (one,) = gpu.find([np.full((1, 4, 8), 200, np.uint16)])
    assert one.total > 0
    (one,) = gpu.find([np.zeros((1, 4, 8), np.uint16)])
    assert (one.total, len(one.sparse), one.map.any()) == (0, 0, False)
    assert gpu.find([]) == []


def test_what_cannot_be_done_is_told() -> None:
    correction = correction_of((1, 4, 8), dettype="camera")
    finder = PhotonFinder(correction.shape, KEV)
    with pytest.raises(FexError, match=r"finder is for frames of \(2, 4, 8\), det has \(1, 4, 8\)"):
        GpuPhotonFinder(PhotonFinder((2, 4, 8), KEV), correction, launch=SMALL)
    with pytest.raises(FexError, match="a batch of 0 events is none"):
        GpuPhotonFinder(finder, correction, batch=0, launch=SMALL)
    gpu = GpuPhotonFinder(finder, correction, batch=1, launch=SMALL)
    event = np.zeros((1, 4, 8), np.uint16)
    with pytest.raises(FexError, match="2 events are more than a batch of 1"):
        gpu.find([event, event])
    with pytest.raises(CalibError, match="Rows and columns are exchanged"):
        gpu.find([event.swapaxes(1, 2).copy()])
    with pytest.raises(FexError, match="1 to 256 threads"):
        Launch(threads=2048)


def test_common_mode_is_left_out_only_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    correction = correction_of((1, 4, 8), dettype="camera")
    monkeypatch.setattr(type(correction), "common_mode", CommonMode.of((7, 1, 100, 10)))
    finder = PhotonFinder(correction.shape, KEV)
    for wish in (None, True):
        with pytest.raises(FexError, match=r"common mode of det is not corrected .*Give common_mode=False"):
            GpuPhotonFinder(finder, correction, launch=SMALL, common_mode=wish)
    GpuPhotonFinder(finder, correction, batch=1, launch=SMALL, common_mode=False)

"""Peaks are those of psana's peakfinder8, on synthetic frames of several layouts and masks and on a recorded one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.detectors import correction_type
from drp.fex.peakfinder8 import PeakFinder8, Peaks
from tests.fex.plain_peakfinder8 import Array, connected
from tests.real.conftest import Psana, psana_environment
from tests.real.test_calib_psana import FILES, given_constants, recorded

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ORACLE = Path(__file__).with_name("psana_peaks.py")
MARGIN = 1e-4
FRAMES = 8
DEFAULTS: dict[str, Any] = {
    "max_num_peaks": 5000,
    "adc_thresh": 0.0,
    "min_snr": 5.0,
    "min_pix_count": 2,
    "max_pix_count": 50,
    "local_bg_radius": 3,
}


@dataclass(frozen=True)
class Layout:
    """Frames as the reference takes them: one array of `shape`, of ASICs of shape `asic`."""

    shape: tuple[int, int]
    asic: tuple[int, int]
    noise: float = 1.0
    mean: float = 0.0
    bad: float = 0.01
    holes: bool = False
    given: tuple[tuple[str, float], ...] = ()


LAYOUTS = {
    "one panel": Layout((192, 256), (192, 256)),
    "ASICs, no adc threshold, low SNR": Layout((192, 256), (64, 64), given=(("min_snr", 3.0),)),
    "ASICs of odd shape": Layout((210, 198), (70, 33), 2.0, 1.0, given=(("min_pix_count", 1), ("local_bg_radius", 1))),
    "tiny ASICs": Layout((96, 200), (8, 10), 0.3, 3.0, given=(("min_snr", 4.0), ("local_bg_radius", 4))),
    "epixHR segments": Layout((576, 768), (144, 768), 0.3, 0.2, 0.1, given=(("adc_thresh", 2.0), ("min_snr", 8.0))),
    "jungfrau ASICs, holes": Layout((512, 1024), (256, 256), 5.0, 15.0, 0.0, True, (("max_pix_count", 10),)),
    "bright background, holes": Layout((352, 384), (176, 192), 2.0, 20.0, 0.03, True, (("min_snr", 4.0), ("local_bg_radius", 2))),
}  # fmt: skip


def scene(layout: Layout, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Frames with a ring and spots, a mask, and the radius of each pixel."""
    rows, cols = layout.shape
    y, x = np.indices(layout.shape)
    radius = np.hypot(y - rng.uniform(-20, rows + 20), x - rng.uniform(0, cols)).astype(np.float32)
    mask = (rng.random(layout.shape) >= layout.bad).astype(np.int8)
    if layout.holes:
        mask[rows // 3 : rows // 2, : cols // 4] = 0
    frames = rng.normal(layout.mean, layout.noise, (FRAMES, *layout.shape))
    frames += 3 * layout.noise * np.exp(-(((radius - 80) / 15) ** 2))
    for frame in frames:
        for _ in range(rows * cols // 1500):
            row, col, width = rng.uniform(0, rows), rng.uniform(0, cols), rng.uniform(0.3, 1.6)
            near = slice(max(int(row) - 8, 0), int(row) + 9), slice(max(int(col) - 8, 0), int(col) + 9)
            away = (y[near] - row) ** 2 + (x[near] - col) ** 2
            frame[near] += layout.noise * np.exp(rng.uniform(1, 7) - away / 2 / width**2)
    frames[:, 5::37, 3::41] = np.nan if layout.holes else frames[:, 5::37, 3::41]
    return frames.astype(np.float32), mask, radius


class Judge:
    """Real psana's peakfinder8."""

    def __init__(self, psana: Psana, folder: Path) -> None:
        self._psana = psana
        self._folder = folder

    def ask(
        self, frames: Array, mask: Array, radius: Array, asic: tuple[int, int], given: dict[str, Any]
    ) -> list[Array]:
        """Return what it finds in each frame, a row (x, y, intensity, maximum, sigma, snr, pixels) for each peak."""
        np.savez(self._folder / "in.npz", frames=frames, mask=mask.astype(np.int8), radius=radius)
        case = {
            "input": str(self._folder / "in.npz"),
            "out": str(self._folder / "out.npz"),
            "asic": asic,
            "parameters": given,
        }
        (self._folder / "cases.json").write_text(json.dumps([case]))
        done = subprocess.run(
            [self._psana.python, ORACLE, self._folder / "cases.json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            env=psana_environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(case["out"]) as file:
            ends = np.cumsum(file["counts"])
            return np.split(file["peaks"][:, [0, 1, 2, 5, 6, 7, 4]], ends[:-1])


@pytest.fixture
def judge(psana: Psana, tmp_path: Path) -> Judge:
    return Judge(psana, tmp_path)


def columns(peaks: Peaks) -> Array:
    """A row for each peak, as the judge's."""
    fields = peaks.x, peaks.y, peaks.intensity, peaks.maximum, peaks.sigma, peaks.snr, peaks.pixels
    return np.stack(fields, axis=1).astype(float)


def differing(ours: Array, theirs: Array) -> Array:
    """Return the peaks of either that the other has not, to float32; AssertionError where those of both come in another order."""
    here = {(*np.round(one[[0, 1]], 2), one[6]): number for number, one in enumerate(ours)}
    pairs, alone = [], []
    for number, one in enumerate(theirs):
        same = here.pop((*np.round(one[[0, 1]], 2), one[6]), None)
        if same is None or not np.allclose(ours[same], one, rtol=MARGIN, atol=1e-4):
            alone.append(one)
        else:
            pairs.append((same, number))
    assert pairs == sorted(pairs)
    return np.array(alone + [ours[number] for number in here.values()]).reshape(-1, 7)


def on_the_margin(peak: Array, frame: Array, finder: PeakFinder8, given: dict[str, Any]) -> bool:
    """Say whether rounding decides on a peak: a pixel about it lies on its threshold, or one of its bin on one while it is clipped; the
    peak's SNR lies on its threshold; or its centre halfway between two pixels.
    """
    row, col = int(peak[1]), int(peak[0])
    bins = finder.background.bins.reshape(frame.shape)
    near = np.unique(bins[max(row - 12, 0) : row + 13, max(col - 12, 0) : col + 13])
    return bool(
        any(
            clipped_on_the_margin(frame[bins == one], given) for one in near if one < finder.background.n_bins
        )
        or abs(peak[5] - given["min_snr"]) <= MARGIN * given["min_snr"]
        or (np.abs(centre_above(peak, frame, finder) % 1 - 0.5) <= MARGIN * peak[:2]).any()
    )


def clipped_on_the_margin(pixels: Array, given: dict[str, Any]) -> bool:
    """Say whether one of a bin's pixels lies on a threshold in any turn."""
    thresholds = np.array([-1e9, 1e9])
    for _ in range(5):
        inside = pixels[(pixels > thresholds[0]) & (pixels < thresholds[1])].astype(float)
        if len(inside):
            away = given["min_snr"] * inside.std()
            thresholds = np.array([inside.mean() - away, max(inside.mean() + away, given["adc_thresh"])])
        if (np.abs(pixels[:, None] - thresholds) <= MARGIN * np.abs(thresholds)).any():
            return True
    return False


def centre_above(peak: Array, frame: Array, finder: PeakFinder8) -> Array:
    """Return the centre (x, y) of a peak by what is above the radial mean, which the local background is around."""
    bins = finder.background.bins.reshape(frame.shape)
    mean, upper = (np.append(one, np.nan) for one in (finder.background.mean, finder.background.threshold))
    hot = frame > upper[bins]
    places = np.argwhere(hot)
    seed = places[np.argmin(np.hypot(*(places - peak[1::-1]).T))]
    members = connected(*seed.tolist(), hot, np.zeros(frame.shape, bool), [(0, 0)] * (hot.size + 1), False)
    weights = np.array([frame[at] - mean[bins[at]] for at in members], float)
    return np.array(weights @ np.array(members)[:, ::-1] / weights.sum())


def compare(
    judge: Judge, frames: Array, mask: Array, radius: Array, asic: tuple[int, int], given: dict[str, Any]
) -> tuple[int, int]:
    """Ask psana, compare every frame, and return how many peaks there are and how many are left to rounding."""
    panels = (-1, asic[0], frames.shape[2])
    finder = PeakFinder8(radius.reshape(panels), mask.reshape(panels), asic_shape=asic, **given)
    total = margins = 0
    for frame, theirs in zip(frames, judge.ask(frames, mask, radius, asic, given), strict=True):
        for peak in differing(columns(finder.find(frame.reshape(panels))), theirs):
            assert on_the_margin(peak, frame, finder, given), peak
            margins += 1
        total += len(theirs)
    return total, margins


@pytest.mark.parametrize("name", LAYOUTS)
def test_synthetic_frames_have_the_peaks_of_psana(judge: Judge, name: str) -> None:
    layout = LAYOUTS[name]
    frames, mask, radius = scene(layout, np.random.default_rng(list(LAYOUTS).index(name)))
    total, margins = compare(judge, frames, mask, radius, layout.asic, DEFAULTS | dict(layout.given))
    assert total > 5 * FRAMES
    assert margins <= 0.001 * total


def test_no_more_peaks_than_asked_for_and_the_first_ones(judge: Judge) -> None:
    layout = LAYOUTS["one panel"]
    frames, mask, radius = scene(layout, np.random.default_rng(9))
    assert compare(judge, frames, mask, radius, layout.asic, DEFAULTS | {"max_num_peaks": 5}) == (
        5 * FRAMES,
        0,
    )


def test_a_recorded_frame_has_the_peaks_of_psana(judge: Judge, xtc2_data: Path) -> None:
    setup, events = recorded(xtc2_data / FILES["jungfrau"][0], "jungfrau")
    constants = given_constants()["jungfrau"]
    kind = correction_type(setup)
    correction = kind(setup, constants, kind.derive(setup, constants))
    frames = np.stack([correction.calib(segments) for segments in events]).reshape(
        len(events), -1, correction.shape[2]
    )
    mask = correction.mask().reshape(frames.shape[1:])
    y, x = np.indices(frames.shape[1:])
    radius = np.hypot(y - 260, x - 530).astype(np.float32)
    choices = {}, {"min_snr": 3.0, "min_pix_count": 1}, {"adc_thresh": 5.0, "local_bg_radius": 2}
    found = [compare(judge, frames, mask, radius, (256, 256), DEFAULTS | given) for given in choices]
    assert all(total > 50 for total, _ in found), found
    # In one peak of the lowest SNR two pixels are equal: which of them is its centre, and so what surrounds it, is rounding.
    assert [margins for _, margins in found] == [0, 1, 0]

"""ms per frame to find Bragg peaks, exact and with a sampled background, one core and both; how many of the simulated peaks are found.

Input: frames of the simulated epixHR of 20 segments of 144 x 768 pixels and of 5, with Bragg peaks, a water ring of 0.5 photons per pixel and 0.02 elsewhere. Beside
it: one read of raw, pedestal and gain (the floor); calibration alone; psana's peakfinder8 (`PSANA_PYTHON`, else it is left out) on the same calibrated frames, as its
wheel has it and compiled with -O3 for this processor from the sources that the wheel brings. Times are the calling thread's own, of the median frame.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench._common import Setting, Table, number, say_where, setting, turns
from bench.fex._frames import Camera, Work, both_cores, typical
from drp.fex import PeakFinder8

ORACLE = Path(__file__).parents[2] / "tests" / "real" / "psana_peaks.py"
SEARCH: dict[str, Any] = {
    "adc_thresh": 30.0,
    "min_snr": 6.0,
    "min_pix_count": 2,
    "max_pix_count": 50,
    "local_bg_radius": 3,
}
MODES = {"exact": None, "per_bin=32": 32}
RAW = "raw to peaks, {}"
ALONE = "calibrated to peaks, {}"
WHEEL, REBUILT = "psana's peakfinder8, from the wheel", "psana's peakfinder8, rebuilt"
TARGETS_MS = {20: {"exact": "10 (100 Hz)", "per_bin=32": "4 (250 Hz)"}, 5: {"per_bin=32": "2.38 (420 Hz)"}}
NEAR = 3.0
CAMERAS = (20, 5)


def finder_of(camera: Camera, per_bin: int | None) -> PeakFinder8:
    """Return a finder for a camera."""
    return PeakFinder8(camera.radius_px, camera.correction.mask(), per_bin=per_bin, **SEARCH)


def from_raw(camera: Camera, per_bin: int | None) -> Work:
    """Return what finds the peaks of an event of raw segments."""
    finder, correction = finder_of(camera, per_bin), camera.correction
    if per_bin:
        return lambda event: finder.find(correction.segments(camera.event(event)))
    out = np.empty(camera.shape, np.float32)
    return lambda event: finder.find(correction.calib(camera.event(event), out=out))


def from_calibrated(camera: Camera, per_bin: int | None) -> Work:
    """Return what finds the peaks of a calibrated frame."""
    finder = finder_of(camera, per_bin)
    frames = [camera.correction.calib(one) for one in camera.raw]
    return lambda event: finder.find(frames[event % len(frames)])


def calibrating(camera: Camera) -> Work:
    """Return what calibrates an event's segments, one after the other."""

    def work(event: int) -> None:
        for _ in camera.correction.segments(camera.event(event)):
            pass

    return work


class Rival:
    """psana's peakfinder8 on a camera's calibrated frames."""

    def __init__(self, python: str, camera: Camera, folder: Path) -> None:
        self._python = python
        self._folder = folder
        rows, cols = camera.shape[1:]
        frames = np.stack([camera.correction.calib(one) for one in camera.raw]).reshape(
            camera.frames, -1, cols
        )
        mask = camera.correction.mask().astype(np.int8).reshape(frames.shape[1:])
        radius = camera.radius_px.reshape(frames.shape[1:])
        np.savez(folder / "in.npz", frames=frames, mask=mask, radius=radius)
        self._case = {
            "input": str(folder / "in.npz"),
            "out": str(folder / "out.npz"),
            "asic": (rows, cols),
            "parameters": {"max_num_peaks": 2048, **SEARCH},
        }

    def run(self, table: Table, name: str, module: Path | None) -> None:
        """Add the median of its seconds for a frame, of the module in that folder or of psana's."""
        case = self._case | ({"module": str(module)} if module else {})
        (self._folder / "cases.json").write_text(json.dumps([case]))
        ask(self._python, ORACLE, self._folder / "cases.json")
        with np.load(self._case["out"]) as file:
            table.add(name, "ms", 1e3 * float(np.median(file["seconds"])))


def ask(*words: object) -> str:
    """Run a program and return what it prints; SystemExit with its output where it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "OMPI_MCA_btl": "self"
    }
    done = subprocess.run(
        [str(word) for word in words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"bench: {words[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def rebuilt(python: str, folder: Path) -> Path | None:
    """Compile the wheel's peakfinder8 for this processor; return the folder with the module, None where cython or a compiler is missing."""
    try:
        from Cython.Compiler.Main import compile as to_cpp  # noqa: PLC0415 - need not be there
    except ImportError:
        return None
    packages = Path(ask(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    include = ask(python, "-c", "import sysconfig; print(sysconfig.get_path('include'))")
    source = folder / "peakfinder8.pyx"
    source.write_text((packages / "psana" / "peakFinder" / "peakfinder8.pyx").read_text())
    to_cpp(str(source), cplus=True, output_file=str(folder / "peakfinder8.cpp"))
    sources = folder / "peakfinder8.cpp", packages / "psana" / "peakFinder" / "peakfinder8.cc"
    compiler = (sysconfig.get_config_var("CXX") or "g++").split()[0]
    ask(compiler, "-O3", "-march=native", "-shared", "-fPIC", f"-I{packages}", f"-I{include}", *sources, "-o", folder / "peakfinder8.so")  # fmt: skip
    return folder


def measure(settings: Setting, segments: int, python: str | None, folder: Path, module: Path | None) -> None:
    """Print the times of frames of so many segments."""
    frames = settings.events(60, least=12)
    camera = Camera(segments)
    table = Table(f"{segments} segments, {40 * segments // 20} peaks in each frame")
    makes: dict[str, Callable[[], Work]] = {
        "one read of raw and constants": camera.floor,
        "calibration alone": lambda: calibrating(camera),
    }
    for mode, per_bin in MODES.items():
        makes[ALONE.format(mode)] = lambda per_bin=per_bin: from_calibrated(camera, per_bin)
        makes[RAW.format(mode)] = lambda per_bin=per_bin: from_raw(camera, per_bin)
    work = {name: make() for name, make in makes.items()}
    each = [
        lambda name=name, one=one: table.add(name, "ms", 1e3 * typical(frames, one))
        for name, one in work.items()
    ]
    ratios = [(RAW.format(mode), "one read of raw and constants") for mode in MODES]
    targets = {RAW.format(mode): text for mode, text in TARGETS_MS[segments].items()}
    if python and segments == CAMERAS[0]:
        rival = Rival(python, camera, folder)
        each.append(lambda: rival.run(table, WHEEL, None))
        ratios.append((WHEEL, ALONE.format("exact")))
        if module:
            each.append(lambda: rival.run(table, REBUILT, module))
            ratios += [(REBUILT, ALONE.format(mode)) for mode in MODES]
            targets |= {
                f"{REBUILT} / {ALONE.format(mode)}": text for mode, text in zip(MODES, "37", strict=True)
            }
    turns(settings, *each)
    for mode in MODES:
        both = both_cores(makes[RAW.format(mode)], frames)
        table.add(f"the same on both cores, {mode}", "ms", 1e3 * both)
    table.print(ratios, targets)
    bins = 2 * int(np.prod(camera.shape))
    print(
        f"  bytes read and written per frame: {number(camera.floor_bytes)} of raw and constants, {number(bins)} of the bins of the pixels "
        f"(exact) or a sixteenth of them; exact {number(8 * int(np.prod(camera.shape)))} of the calibrated frame"
    )
    quality(camera)


def quality(camera: Camera) -> None:
    """Print how many of the true peaks are found, how many of the found are true, and how many of exact's a sample finds."""
    found = {mode: places(camera, per_bin) for mode, per_bin in MODES.items()}
    true = [
        np.stack([peaks["segment"], peaks["row"], peaks["col"]], axis=1)
        for peaks in map(camera.truth.peaks, range(camera.frames))
    ]
    for mode, one in found.items():
        print(
            f"  {mode:<11} recall {share(true, one):.4f}, precision {share(one, true):.4f}; "
            f"of exact's peaks {share(found['exact'], one):.4f}, of its own in exact {share(one, found['exact']):.4f}"
        )


def places(camera: Camera, per_bin: int | None) -> list[npt.NDArray[Any]]:
    """Return segment, row and column of the peaks of each frame."""
    find = from_raw(camera, per_bin)
    peaks: list[Any] = []
    for event in range(camera.frames):
        one: Any = find(event)
        peaks.append(np.stack([one.segment, one.row, one.col], axis=1))
    return peaks


def share(here: list[npt.NDArray[Any]], there: list[npt.NDArray[Any]]) -> float:
    """Return how many of the places of frames here are there too."""
    apart = np.array([1e6, 1.0, 1.0])
    near = [
        np.hypot.reduce((a[:, None] - b) * apart, axis=2).min(axis=1, initial=np.inf) < NEAR
        for a, b in zip(here, there, strict=True)
    ]
    return float(np.concatenate(near).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    python = os.environ.get("PSANA_PYTHON")
    if python is None:
        print("psana: PSANA_PYTHON names no Python that has it; left out")
    with tempfile.TemporaryDirectory(prefix="drp-bench-") as name:
        module = rebuilt(python, Path(name)) if python else None
        if python and module is None:
            print("psana rebuilt: cython is not there; left out")
        for segments in CAMERAS:
            measure(settings, segments, python, Path(name), module)


if __name__ == "__main__":
    main()

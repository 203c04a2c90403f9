"""Detectors, constants and frames made for tests: every gain code, masked and bad pixels, photons in clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from calib.detectors import Correction, DetectorSetup, Panel, correction_type

Array = npt.NDArray[Any]


def setup_of(
    dettype: str,
    segments: int,
    *,
    version: tuple[int, int, int] = (0, 0, 0),
    config: list[dict[str, object]] | None = None,
) -> DetectorSetup:
    """A detector named "det" of so many segments."""
    configs = config or [{}] * segments
    panels = tuple(Panel(at, f"panel-{at}", configs[at]) for at in range(segments))
    bare = DetectorSetup("det", dettype, "raw", version, panels, (0, 0))
    return DetectorSetup("det", dettype, "raw", version, panels, correction_type(bare).panel_shape)


def constants_of(shape: tuple[int, ...], gains: list[float], seed: int = 1) -> dict[str, Array]:
    """Pedestals, gains (some 0), offsets and status (1 of 500 pixels bad) of `shape` (ranges, segments, rows, cols)."""
    rng = np.random.default_rng(seed)
    like = np.array(gains, np.float32).reshape(-1, *[1] * (len(shape) - 1))
    gain = (like * rng.uniform(0.95, 1.05, shape)).astype(np.float32)
    gain[rng.random(shape) < 0.001] = 0
    status = np.where(rng.random(shape) < 0.002, 1 << rng.integers(0, 7, shape), 0).astype(np.uint64)
    return {
        "pedestals": rng.uniform(1400, 1600, shape).astype(np.float32),
        "pixel_gain": gain,
        "pixel_offset": rng.uniform(-3, 3, shape).astype(np.float32),
        "pixel_status": status,
    }


def frame_of(shape: tuple[int, ...], codes: list[int], shift: int, top: int, seed: int = 2) -> Array:
    """uint16 pixels: mostly code 0, clusters in each other code, and one whole row of each."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(1400, min(1900, top), shape).astype(np.uint16)
    rows = raw.reshape(-1, shape[-1])
    for number, code in enumerate(codes):
        rows[number + 3] |= np.uint16(code << shift)
        for start in rng.integers(0, raw.size - 12, raw.size // 1000):
            raw.reshape(-1)[start : start + 10] = rng.integers(0, top + 1, 10) | (code << shift)
    return raw


def made(setup: DetectorSetup, constants: dict[str, Array], **options: Any) -> Correction:
    """The correction of a detector."""
    from calib.detectors import MaskOptions

    kind = correction_type(setup)
    return kind(setup, constants, kind.derive(setup, constants), MaskOptions.of(options))

"""The GPU of the tests: numba's simulator, or with DRP_TEST_GPU=1 a real one; and raw events of small detectors."""

from __future__ import annotations

import os
import sys
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from calib.detectors import Correction, DetectorSetup, Panel, correction_type

REAL = os.environ.get("DRP_TEST_GPU") == "1"
KEV = 8.0
Array = npt.NDArray[Any]


def choose_gpu() -> None:
    """Have numba.cuda, imported after this, be the simulator, unless a real GPU is asked for; skip where it is imported already, and real."""
    if REAL:
        return
    before = os.environ.get("NUMBA_ENABLE_CUDASIM")
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    numba.config.reload_config()
    from numba import cuda

    if before is None:
        del os.environ["NUMBA_ENABLE_CUDASIM"]
    if "numba.cuda.simulator.kernel" not in sys.modules or not cuda.is_available():
        pytest.skip("numba.cuda was imported without its simulator", allow_module_level=True)
    if cuda.device_array is not dirty_array:
        cuda.device_array = dirty_array


def dirty_array(shape: Any, dtype: Any) -> Any:
    """An array on the simulated device that holds what another program left there."""
    from numba import cuda

    return cuda.to_device(np.random.default_rng(0).integers(0, 9, shape).astype(dtype))


def correction_of(shape: tuple[int, int, int], *, dettype: str = "epixm320", seed: int = 1) -> Correction:
    """The correction of a small detector, which gives 1 keV for 10 ADU or so, with masked pixels and with constants that are NaN, infinite or 0."""
    rng = np.random.default_rng(seed)
    kind = correction_type(DetectorSetup("det", dettype, "raw", (0, 0, 0), (), (0, 0)))
    panels = tuple(Panel(at, f"panel-{at}", {}) for at in range(shape[0] // kind.parts))
    setup = DetectorSetup("det", dettype, "raw", (0, 0, 0), panels, shape[1:])
    ranged = (kind.ranges[0], *shape) if kind.ranges[0] > 1 else shape
    gain = rng.uniform(9, 11, ranged)
    gain[rng.random(ranged) < 0.02] = np.nan
    gain[rng.random(ranged) < 0.02] = 1e-30
    pedestals = rng.uniform(90, 110, ranged)
    pedestals[rng.random(ranged) < 0.01] = np.inf
    constants = {
        "pedestals": pedestals.astype(np.float32),
        "pixel_gain": gain.astype(np.float32),
        "pixel_status": (rng.random(ranged) < 0.03).astype(np.uint64),
    }
    return kind(setup, constants, kind.derive(setup, constants))


def events_of(
    correction: Correction, count: int, *, seed: int = 2, density: float = 0.1
) -> list[list[Array]]:
    """Raw uint16 events: noise, charge of photons shared by neighbours, and every gain code."""
    rng = np.random.default_rng(seed)
    shape = (count, *correction.shape)
    charge = rng.poisson(density, shape) * 10 * KEV
    shared = charge * rng.uniform(0, 0.6, shape)
    charge += np.roll(shared, 1, -1) - shared
    raw = np.clip(np.rint(rng.normal(100, 4, shape) + charge), 0, 2047).astype(np.uint16)
    coding = correction.coding
    if coding is not None:
        raw <<= np.uint16(coding.data_shift)
        codes = rng.choice(len(coding.planes), shape, p=rarely(len(coding.planes))).astype(np.uint16)
        raw |= codes << np.uint16(coding.range_shift)
    of_panels = (count, len(correction.setup.panels), -1, *correction.shape[1:])
    return [[panel.squeeze() for panel in event] for event in raw.reshape(of_panels)]


def photon_of(correction: Correction) -> float:
    """A photon's energy in calibrated pixels, keV, or ADU where the detector has no gains."""
    return KEV if "pixel_gain" in correction.used else 10 * KEV


def rarely(codes: int) -> list[float]:
    """How often pixels have each gain code."""
    return [1 - 0.02 * (codes - 1)] + [0.02] * (codes - 1)

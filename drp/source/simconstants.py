"""The constants of a simulated camera, true to the last photon, as a calibration store keeps them; and its geometry.

It knows what a constant is, and how the camera's type orders its gain ranges. Ranges that are not simulated are NaN, for nothing is true of
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from calib import CalibError, Constant, DetectorId
from calib.dark.ranges import range_names
from calib.detectors import DetectorSetup, Panel
from calib.geometry import Geometry
from calib.store import open_store
from drp.core.errors import SourceError
from drp.source.truth import SimTruth

VERSION = "simulated"


def put_truth(truth: SimTruth, url: str, experiment: str) -> bool:
    """Put the true constants in the store at `url`, for every run from 0 on; False where it holds just these already.

    A store that is not there is made. Raises SourceError.
    """
    detector = detector_of(truth)
    made = constants_of(truth, experiment)
    try:
        with open_store(url, create=True) as store:
            there = {
                (one.ctype, one.digest)
                for one in store.history(name=detector.dettype, experiment=experiment)
                if one.detector.serials == detector.serials
            }
            if there.issuperset((one.ctype, one.digest) for one in made):
                return False
            store.put(detector, made)
    except CalibError as error:
        raise SourceError(
            f"the true constants cannot be put: {error}", source="sim", hint="See constants="
        ) from error
    return True


def detector_of(truth: SimTruth) -> DetectorId:
    """Return the detector as its Configure names it."""
    serials = tuple(truth.camera.detid(segment) for segment in range(truth.segments))
    return DetectorId(truth.options.detname, truth.camera.dettype, serials)


def constants_of(truth: SimTruth, experiment: str = "") -> list[Constant]:
    """Return pedestals, gains, rms, status, offsets (where the camera has them) and geometry."""
    detector = detector_of(truth)
    values: dict[str, Any] = {
        "pedestals": _placed(truth, truth.pedestals),
        "pixel_gain": _placed(truth, truth.gains),
        "pixel_rms": _placed(truth, truth.rms),
    }
    values["pixel_status"] = np.zeros(values["pedestals"].shape, np.uint64)
    if truth.camera.offset_spread:
        values["pixel_offset"] = _placed(truth, truth.offsets)
    values["geometry"] = geometry_of(truth).text()
    return [
        Constant.make(
            ctype,
            value,
            () if isinstance(value, str) else detector.serials,
            experiment=experiment,
            version=VERSION,
            comment=f"true constants of the simulator, seed {truth.options.seed}",
        )
        for ctype, value in values.items()
    ]


def geometry_of(truth: SimTruth) -> Geometry:
    """Return where the simulated panels are: plain matrices, rows down the image, columns along it."""
    camera = truth.camera
    x, y = truth.positions_um
    size = f"{camera.pixel_um:g}"
    panels = [
        (float(y[at].astype(np.float64).mean()), float(x[at].astype(np.float64).mean()), 0.0, 90.0)
        for at in range(truth.segments)
    ]
    return Geometry.from_panels(
        f"MTRX:V2:{camera.rows}:{camera.cols}:{size}:{size}",
        panels,
        name=camera.dettype.upper(),
        distance_um=100_000.0,
        comments=("simulated detector",),
    )


def _placed(truth: SimTruth, simulated: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return values by simulated range laid out by the ranges of the detector's constants."""
    camera, detector = truth.camera, detector_of(truth)
    panels = tuple(Panel(at, serial, {}) for at, serial in enumerate(detector.serials))
    shape = camera.rows, camera.cols
    setup = DetectorSetup(detector.name, camera.dettype, "raw", camera.raw_alg.version, panels, shape)
    names = range_names(setup)
    out = np.full((len(names), *truth.shape), np.nan, np.float32)
    for one, values in zip(camera.ranges, simulated, strict=True):
        out[names.index(one.name)] = values
    return out

"""The constants of a simulated camera, true to the last photon, as a calibration store keeps them; and its geometry.

It knows what a constant is, and how the camera's type orders its gain ranges. Ranges that are not simulated are NaN, for nothing is true of
them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from calib import CalibError, Constant, DetectorId
from calib.dark.ranges import range_names
from calib.detectors import DetectorSetup, Panel
from calib.geometry import Geometry
from calib.panels import for_panels
from calib.store import open_store
from drp.core.errors import SourceError
from drp.source.cameras import CAMERAS
from drp.source.simoptions import CAMERA_KINDS, parse
from drp.source.truth import SimTruth

VERSION = "simulated"
SCHEME = "sim"


class SimulatedConstants:
    """A source of constants, as `calib.open_source` gives one, that knows the truth of `sim:...`, whose text is its address.

    Everything is made when it is first asked for, and is valid for every experiment and run. Raises SourceError for options that are none.
    """

    def __init__(self, address: str) -> None:
        self.url = address
        self._options = parse(address.removeprefix(SCHEME).removeprefix(":"))
        self._made: dict[str, Constant] = {}

    def find(
        self,
        detector: DetectorId,
        experiment: str | None,  # noqa: ARG002 - as above
        run: int,  # noqa: ARG002 - as above
        *,
        ctypes: Collection[str] | None = None,
    ) -> dict[str, Constant]:
        """Return the constants of the simulated detector's panels; nothing for another detector. Raises ConstantsMissing for other panels."""
        if self._options.kind not in CAMERA_KINDS:
            return {}
        if not self._made:
            self._made = {one.ctype: one for one in constants_of(SimTruth(self._options))}
        if detector.dettype != CAMERAS[self._options.kind].dettype:
            return {}
        return {
            ctype: for_panels(one, detector.serials, self.url)
            for ctype, one in self._made.items()
            if ctypes is None or ctype in ctypes
        }

    def close(self) -> None:
        """Forget what was made."""
        self._made = {}


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

"""From calibrated pixels to photons: how many photons of one energy each pixel holds. It knows pixels and energies, no detector.

psana has no such method. A pixel counts floor(energy / photon + 1 - threshold) photons: with the threshold 0.5 the nearest number, with 0.9 only
photons nearly all of whose charge is in the pixel. Charge shared between pixels is put together by `drp.fex.PhotonFinder`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import within
from calib.errors import CalibError

MOST = 65535


def count_photons(
    calibrated: npt.NDArray[np.float32],
    photon_kev: float,
    *,
    threshold: float = 0.5,
    out: npt.NDArray[np.uint16] | None = None,
) -> npt.NDArray[np.uint16]:
    """Return how many photons of `photon_kev` each pixel of `calibrated` (float32, keV, any shape) holds, uint16 of its shape.

    `threshold` is the part of a photon that counts as one, above 1e-7 and up to 1. Negative pixels and NaN hold none; 65535 is the most. `out` is
    filled and returned where it is given. Raises CalibError where energy, threshold, dtypes or shapes cannot be used.
    """
    if not photon_kev > 0 or not 0 < threshold <= 1 or np.float32(1 - threshold) == 1:
        raise CalibError(
            f"photons of {photon_kev} keV from a part of {threshold} on cannot be counted",
            hint="Give a positive energy",
        )
    if out is None:
        out = np.empty(calibrated.shape, np.uint16)
    fits = out.shape == calibrated.shape and out.dtype == np.uint16 and out.flags.c_contiguous
    if not fits or calibrated.dtype != np.float32 or not calibrated.flags.c_contiguous:
        raise CalibError(
            f"calibrated is {calibrated.dtype} {calibrated.shape}, out {out.dtype} {out.shape}",
            hint="Give float32 and uint16 of one shape, in C order",
        )
    flat = calibrated.reshape(-1).view()
    flat.flags.writeable = False
    to_photons(flat, np.float32(1 / photon_kev), np.float32(1 - threshold), out.reshape(-1))
    return out


@within
def whole(kev: Any, per_kev: Any, up: Any) -> Any:
    """Return how many photons a pixel holds, uint16."""
    photons = kev * per_kev + up
    photons = photons if photons > np.float32(0) else np.float32(0)
    photons = photons if photons < np.float32(MOST) else np.float32(MOST)
    return np.uint16(np.int32(photons))


@numba.njit(cache=True, nogil=True)
def to_photons(calibrated: Any, per_kev: Any, up: Any, out: Any) -> None:
    """Count; arrays are flat."""
    for j in range(len(out)):
        out[j] = whole(calibrated[j], per_kev, up)


def warm_up() -> None:
    """Compile."""
    count_photons(np.zeros(1, np.float32), 1.0)

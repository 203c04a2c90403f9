"""PhotonFinder: the photons of one energy in calibrated frames, as numbers, as a map and as a list of the pixels that hold any.

It knows energies, masks and shapes; what is done with pixels is in `_photon_kernels` and `_droplet_kernels`. Two methods:

* `single`: each pixel by itself, floor(energy / photon + 1 - threshold), as `calib.detectors.count_photons` counts.
* `droplet`: charge that a photon left in several pixels is put together first. Pixels of at least `low` photons that share an edge, within a
  segment, are a droplet (Livet et al., Nucl. Instrum. Meth. A 451 (2000) 596); its energy gives its number of photons, as above, which are placed
  greedily (Sun et al., J. Synchrotron Rad. 27 (2020) 999): one after the other on the pixel with most energy left, which then has one photon's
  energy less; of equal pixels on the first. Energies are cut to whole 65536ths of a photon.

A pixel that is masked, NaN or negative holds none; one of infinite energy holds 65535, which is the most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from calib.detectors.photons import MOST
from drp.fex._droplet_kernels import MOST_PIXELS, NUMBERS, PARTS, SUMS, find_droplets
from drp.fex._photon_kernels import LISTED, PHOTONS, WORD, find_single
from drp.fex.errors import FexError
from drp.fex.frames import Frame, Shape, read_only, segments_of

METHODS = ("single", "droplet")
MOST_ACROSS = 65535
MOST_BINS = 1 << 20
LEAST = 0.0001
"""The least part of a photon that may be a threshold: single precision must tell 1 - threshold from 1."""
U16 = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Photons:
    """The photons of one frame; arrays are read-only views that the next frame overwrites."""

    total: int
    """All photons of the frame."""
    map: U16
    """How many each pixel holds, (segments, rows, cols); it has no pixels where the finder makes none."""
    sparse: U16
    """The pixels that hold any, (pixels, 4): segment, row, column, photons; in the order of the map."""
    lost: int
    """How many pixels there was no room for in `sparse`; `total` and `map` have them."""
    spectrum: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """How many droplets there are by energy, (bins,); no bins where none were asked for."""


class PhotonFinder:
    """Finds photons of `photon_kev` in frames of `shape` (segments, rows, cols); one instance for a thread.

    `threshold` is the part of a photon's energy from which on it counts as one, up to 1. `low` is the part from which on a pixel
    belongs to a droplet, up to the threshold: some 4 to 5 times the noise. `mask`: uint8 of `shape`, 1 for pixels that are used. `most`: how many
    pixels the list has room for, by default all. `with_map`: whether to make the map; the list alone is quicker. `spectrum`: the energies of
    droplets are counted too, in so many bins from 0 to so many photons. Raises FexError.
    """

    def __init__(
        self,
        shape: Shape,
        photon_kev: float,
        *,
        method: str = "single",
        threshold: float = 0.5,
        low: float = 0.1,
        mask: npt.NDArray[Any] | None = None,
        most: int | None = None,
        with_map: bool = True,
        spectrum: tuple[int, float] | None = None,
    ) -> None:
        self.shape = _checked_shape(shape)
        _check_energies(photon_kev, threshold, low)
        if method not in METHODS:
            raise FexError(f"there is no method {method!r}", f"Give {' or '.join(METHODS)}")
        pixels = self.shape[0] * self.shape[1] * self.shape[2]
        room = pixels if most is None else min(most, pixels)
        if room < 1:
            raise FexError(f"a list of {most} pixels holds nothing", "Give most=1 or more, or leave it out")
        self._used = [read_only(one) for one in mask_words(mask, self.shape)]
        self._map = np.zeros(self.shape if with_map else (self.shape[0], 0, 0), np.uint16)
        self._listed = np.zeros(room + 1, np.uint64)
        self._found = np.zeros(2, np.uint64)
        self._room = room
        self._sparse = read_only(self._listed.view(np.uint16).reshape(-1, 4))
        self._seen = read_only(self._map)
        self._segments = list(zip(self._used, self._map, strict=True))
        per_kev = np.float32(1 / photon_kev)
        bins, top = _checked_spectrum(spectrum, method)
        self._spectrum = np.zeros(bins, np.uint32)
        self._energies = read_only(self._spectrum)
        self._kernel: Any = find_single
        self._law: tuple[Any, ...] = (per_kev, np.float32(1 - threshold))
        if method == "droplet":
            up = np.uint64((1 - threshold) * PARTS)
            self._kernel = find_droplets
            self._law = (
                per_kev,
                np.float32(low * photon_kev),
                up,
                *_scratch(self.shape),
                np.float64(top * PARTS / max(bins, 1)),
                self._spectrum,
            )
        self.find(np.zeros(self.shape, np.float32))

    def find(self, frame: Frame) -> Photons:
        """Return the photons of a calibrated frame in keV: an array float32 of `shape`, or `det.raw.calib_segments(evt)`.

        Raises FexError where it does not fit.
        """
        kernel, law, listed, found = self._kernel, self._law, self._listed, self._found
        found[:] = 0
        self._spectrum[:] = 0
        for number, kev in enumerate(segments_of(frame, self.shape)):
            used, photons = self._segments[number]
            kernel(kev, used, *law, number, photons, listed, found)
        count = int(found[LISTED])
        sparse = self._sparse[: min(count, self._room)]
        return Photons(int(found[PHOTONS]), self._seen, sparse, max(0, count - self._room), self._energies)


def mask_words(mask: npt.NDArray[Any] | None, shape: Shape) -> npt.NDArray[np.uint64]:
    """Return a mask (uint8 or bool of `shape`; None: all pixels) as words of 64 pixels, uint64 (segments, rows, words).

    The lowest bit is that of the first pixel. Raises FexError.
    """
    if mask is None:
        mask = np.ones(shape, np.uint8)
    if not isinstance(mask, np.ndarray) or mask.shape != shape or mask.dtype not in (np.uint8, np.bool_):
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise FexError(f"the mask is {found}, expected is uint8 {shape}", "Give det.raw.mask()")
    padded = np.zeros((*shape[:2], -(-shape[2] // WORD) * WORD), np.uint8)
    padded[..., : shape[2]] = mask
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def _scratch(shape: Shape) -> tuple[npt.NDArray[Any], ...]:
    _, rows, cols = shape
    words = -(-cols // WORD)
    return (
        np.zeros(words, np.uint64),
        np.zeros(words + rows + 1, np.uint32),
        np.zeros(rows * cols, np.uint16),
        np.zeros((NUMBERS, rows * cols), np.uint32),
        np.zeros((SUMS, rows * cols), np.uint64),
    )


def _checked_spectrum(spectrum: tuple[int, float] | None, method: str) -> tuple[int, float]:
    """Return bins, and where they end in photons."""
    if spectrum is None:
        return 0, 1.0
    bins, top = spectrum
    if method != "droplet" or not 1 <= bins <= MOST_BINS or not LEAST <= top <= MOST:
        raise FexError(
            f"no spectrum of {bins} bins up to {top} photons can be made by {method}",
            "Give method='droplet' and spectrum=(200, 4.0); drp.fex.Histogram counts energies of pixels",
        )
    return int(bins), float(top)


def _checked_shape(shape: Shape) -> Shape:
    fits = len(shape) == 3 and all(1 <= one <= MOST_ACROSS for one in shape)
    if not fits or shape[1] * shape[2] > MOST_PIXELS:
        raise FexError(
            f"frames of {shape} cannot be searched for photons",
            f"Give (segments, rows, cols), 1 to {MOST_ACROSS} each and up to {MOST_PIXELS} pixels in a segment",
        )
    segments, rows, cols = (int(one) for one in shape)
    return segments, rows, cols


def _check_energies(photon_kev: float, threshold: float, low: float) -> None:
    if not 1e-6 <= photon_kev <= 1e6:
        raise FexError(f"a photon of {photon_kev} keV cannot be counted", "Give its energy in keV")
    if not LEAST <= threshold <= 1:
        raise FexError(
            f"photons cannot be counted from {threshold} of one on",
            f"Give threshold=0.5, or another of {LEAST} to 1",
        )
    if not LEAST <= low <= threshold:
        raise FexError(
            f"pixels of {low} photons are no limit of droplets whose threshold is {threshold}",
            f"Give low=0.1, or another of {LEAST} to the threshold",
        )


def warm_up() -> None:
    """Compile."""
    for method in METHODS:
        PhotonFinder((1, 1, 1), 1.0, method=method).find(np.zeros((1, 1, 1), np.float32))

"""epixUHR: 12 bits a pixel, eleven of data and one that says that it switched to low gain. As a panel of 3x2 ASICs, and as four ASICs.

A pixel's configuration has seven bits of which these choose a mode: 5 LG2 for LG1, 4 automatic, 3 medium for high, 0 low; bit 1 turns the
pixel off, bit 2 injects charge. psana's table (UtilsEpixUHR), x either:

    100x00 FHG 0    101x00 FMG 1    x00x01 FLG1 2 (bit 5 = 0), FLG2 3 (1)    010x00 AHLG1 4    110x00 AHLG2 5    011x00 AMLG1 6    111x00 AMLG2 7

An automatic pixel that switched is in AHLG1_L 8, AHLG2_L 9, AMLG1_L 10, AMLG2_L 11; where constants have only eight ranges, in FLG1 or
FLG2. Every other value is no mode, and its pixels are 0. psana 4.3 never arrives at the switched modes nor at FMG, as it masks their bits out,
and takes the lowest data bit for the gain bit; here they are what the table says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from calib.detectors import _kernels
from calib.detectors.arrays import Array, Floats, by_range, inverse, read_only
from calib.detectors.base import Correction
from calib.detectors.epix10ka import Bits, chosen, needed_config
from calib.detectors.facts import Coding, DetectorSetup, Panel
from calib.detectors.mask import Constants
from calib.errors import CalibError, ConstantsMisshapen

MODES = ("FHG", "FMG", "FLG1", "FLG2", "AHLG1", "AHLG2", "AMLG1", "AMLG2")
SWITCHED = ("AHLG1_L", "AHLG2_L", "AMLG1_L", "AMLG2_L")
NO_MODE = len(MODES) + len(SWITCHED)
LOW_OF_SWITCHED = (2, 3, 2, 3)
"""The fixed mode that stands for each switched one where constants have eight ranges."""
TYPICAL_GAINS = (1.51, 0.54, 0.0172, 0.0086, 1.51, 1.51, 0.54, 0.54)
"""Of the eight modes, psana's; used where there are no gains."""
ASIC = (168, 192)

_AUTO = ((0b010000, 4, 8), (0b110000, 5, 9), (0b011000, 6, 10), (0b111000, 7, 11))


def mode_tables() -> npt.NDArray[np.uint8]:
    """Return the mode of each of the 64 values of the control bits, uint8 (2, 64): not switched, switched."""
    bits = np.arange(64) & ~0b100
    table = np.full((2, 64), NO_MODE, np.uint8)
    table[:, bits == 0b100000] = 0
    table[:, bits == 0b101000] = 1
    table[:, bits & ~0b1000 == 0b000001] = 2
    table[:, bits & ~0b1000 == 0b100001] = 3
    for value, stays, switched in _AUTO:
        table[0, bits == value] = stays
        table[1, bits == value] = switched
    return table


class EpixUhr(Correction):
    """What both share: modes, tables, and that raw segments are put in order first."""

    used: ClassVar[tuple[str, ...]] = (
        "pedestals",
        "pixel_gain",
        "pixel_status",
        "status_extra",
        "pixel_mask",
    )
    ranges: ClassVar[tuple[int, int | None]] = (len(MODES), NO_MODE)
    n_asics: ClassVar[int] = 0
    raw_dtype: ClassVar[type] = np.uint16
    raw_size: ClassVar[int] = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ordered = np.empty((self.shape[0], self.shape[1] * self.shape[2]), np.uint16)

    @classmethod
    def asic_bits(cls, panel: Panel) -> Bits:
        """Return the control bits of a panel's ASICs, uint8 (ASICs, 168, 192): gainAsic where it is not 0, else gainCSVAsic."""
        whole = needed_config(panel.config, "gainAsic").reshape(-1)
        pixels = needed_config(panel.config, "gainCSVAsic")
        if len(whole) < cls.n_asics or pixels.size != cls.n_asics * ASIC[0] * ASIC[1]:
            raise ConstantsMisshapen(
                f"gainAsic {whole.shape} and gainCSVAsic {pixels.shape} are not those of {cls.n_asics} ASICs"
            )
        bits = pixels.astype(np.uint8).reshape(cls.n_asics, *ASIC)
        return np.where(whole[: cls.n_asics, None, None] > 0, whole[: cls.n_asics, None, None], bits).astype(
            np.uint8
        )

    @classmethod
    def panel_bits(cls, panel: Panel) -> Bits:
        """Return the control bits as the calibrated segments of a panel, uint8 (parts, rows, cols)."""
        raise NotImplementedError

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return pedestal and 1 / gain of each pixel's two modes."""
        bits = np.concatenate([cls.panel_bits(panel) for panel in setup.panels]) & np.uint8(63)
        modes = mode_tables()[:, bits]
        pedestals = by_range("pedestals", constants, len(MODES), shape, where=setup.name)
        offset = chosen(pedestals, fit(modes, len(pedestals)))
        if "pixel_gain" in constants:
            gains = by_range("pixel_gain", constants, len(MODES), shape, where=setup.name)
        else:
            ones = np.ones(shape, np.float32)
            gains = np.stack([np.float32(gain) * ones for gain in TYPICAL_GAINS])
        return offset, chosen(inverse(gains), fit(modes, len(gains)))

    def raw(
        self, segments: Sequence[Array], *, out: npt.NDArray[np.uint16] | None = None
    ) -> npt.NDArray[np.uint16]:
        """Return the segments' pixels in order, uint16 (segments, rows, cols), as psana's det.raw.raw; a new array where no `out` is given."""
        if out is None:
            out = np.empty(self.shape, np.uint16)
        flat = out.reshape(self.shape[0], -1)
        for at, one in enumerate(segments):
            self._order(self._checked_raw(one), flat[at * self.parts : (at + 1) * self.parts])
        return out

    def _flat(self, segments: Sequence[Array] | Array) -> list[tuple[int, Array]]:
        if isinstance(segments, np.ndarray):
            if self._in_order(segments, len(self._ordered)):
                return super()._flat(segments)
            segments = list(segments)
        if len(segments) != len(self.setup.panels):
            return super()._flat(segments)
        for at, one in enumerate(segments):
            into = self._ordered[at * self.parts : (at + 1) * self.parts]
            if self._in_order(one, self.parts):
                np.copyto(into, one.reshape(self.parts, -1))
            else:
                self._order(self._checked_raw(one), into)
        return [(0, read_only(self._ordered))]

    def _in_order(self, pixels: Array, segments: int) -> bool:
        rows, cols = self.shape[1:]
        whole = pixels.size == segments * rows * cols and pixels.shape[-2:] == (rows, cols)
        return whole and pixels.dtype == np.uint16

    def _checked_raw(self, raw: Array) -> Array:
        if raw.dtype != self.raw_dtype or raw.size != self.raw_size:
            raise CalibError(
                f"a raw segment is {raw.dtype} {raw.shape}, expected are {self.raw_size} of {np.dtype(self.raw_dtype)}",
                where=self.setup.name,
            )
        return read_only(np.require(raw, requirements=("C", "A")).reshape(-1))

    def _order(self, raw: Array, into: Array) -> None:
        raise NotImplementedError


class EpixUhr3x2(EpixUhr):
    """Panels of 336 x 576 pixels: uint16 (6, 32256), the pixel in bits 11:0, the lowest of which is the gain bit."""

    panel_shape: ClassVar[tuple[int, int]] = (336, 576)
    asics: ClassVar[tuple[int, int]] = (2, 3)
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x0FFE, data_shift=1, range_mask=0x0001, range_shift=0, planes=(0, 1)
    )
    n_asics: ClassVar[int] = 6
    raw_size: ClassVar[int] = 6 * 168 * 192

    @classmethod
    def panel_bits(cls, panel: Panel) -> Bits:
        """ASICs 0 to 2 are the upper half, each turned left to right; 3 to 5 the lower, each turned upside down."""
        bits = cls.asic_bits(panel)
        return np.vstack((np.hstack(list(bits[:3, :, ::-1])), np.hstack(list(bits[3:, ::-1, :]))))[None]

    def _order(self, raw: Array, into: Array) -> None:
        _kernels.order_uhr3x2(raw, into)

    @classmethod
    def warm_up(cls) -> None:
        """Compile for all that events can pass."""
        super().warm_up()
        _kernels.order_uhr3x2(
            read_only(np.zeros(cls.raw_size, np.uint16)), np.empty((1, cls.raw_size), np.uint16)
        )


class EpixUhr1x4(EpixUhr):
    """Four ASICs of 168 x 192 pixels: uint8 (4, 48384), packed 12-bit pixels of eight lanes, given here with the gain bit on top (bit 11)."""

    panel_shape: ClassVar[tuple[int, int]] = ASIC
    parts: ClassVar[int] = 4
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x07FF, range_mask=0x0800, range_shift=11, planes=(0, 1)
    )
    n_asics: ClassVar[int] = 4
    raw_dtype: ClassVar[type] = np.uint8
    raw_size: ClassVar[int] = 4 * 48384

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = read_only(packed_places())

    @classmethod
    def panel_bits(cls, panel: Panel) -> Bits:
        """The ASICs lie as they are."""
        return cls.asic_bits(panel)

    def _order(self, raw: Array, into: Array) -> None:
        _kernels.unpack_uhr(raw, self._places, into)

    @classmethod
    def warm_up(cls) -> None:
        """Compile for all that events can pass."""
        super().warm_up()
        raw = read_only(np.zeros(cls.raw_size, np.uint8))
        _kernels.unpack_uhr(raw, read_only(packed_places()), np.empty((4, 168 * 192), np.uint16))


def packed_places() -> npt.NDArray[np.int32]:
    """Return where in its ASIC's 48384 bytes each of 168 x 192 pixels begins, int32: twice the byte, plus 1 where it begins in the middle.

    The bytes of eight lanes alternate; a lane's bytes are 12-bit pixels, lowest bits first, two times two for every six. A lane feeds 24 columns,
    twelve by its first two of four pixels. Its order of pixels is psana's `_lane_map_uhr35kHzv2`: 14 clusters of 72, from the last row up.
    """
    row, col = np.indices(ASIC)
    place = (ASIC[0] - 1 - row) * 12 + col % 12
    half = place % 12 // 6
    in_half = place // 12 * 6 + place % 6
    cluster, in_cluster = in_half // 72, in_half % 72
    line, at = in_cluster // 6, in_cluster % 6
    order = np.where(at < 3, line * 3 + at, 36 + line * 3 + (5 - at))
    word = 2 * (14 * order + cluster) + half
    lane = col // 24
    of_four = 2 * (col // 12 % 2) + word % 2
    byte = word // 2 * 6 + of_four // 2 * 3 + of_four % 2
    places: npt.NDArray[np.int32] = (2 * (8 * byte + lane) + of_four % 2).astype(np.int32).reshape(-1)
    return places


def fit(modes: Bits, ranges: int) -> Bits:
    """Return modes for constants of so many ranges."""
    if ranges >= NO_MODE:
        return modes
    lookup = np.array([*range(len(MODES)), *LOW_OF_SWITCHED, NO_MODE], np.uint8)
    return lookup[modes]

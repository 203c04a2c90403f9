"""The epix10ka family: epix10ka, epixhr2x2, epixhr1x4 and its emulator. Seven gain modes, of configuration and data together.

Per pixel the configuration has two gain bits (`asicPixelConfig` bits 3:2) and, of its ASIC, `trbit`; the data have one bit, which
says that the pixel switched to low gain. psana's UtilsEpix10ka gives the modes, most significant first data bit, trbit, bits 3:2 (x either):

    x111 FH 0   x011 FM 1   xx10 FL 2   0100 AHL_H 3   0000 AML_M 4   1100 AHL_L 5   1000 AML_L 6

xx01 is none of them: such a pixel is 0. As the configuration stands for a run, a pixel has two modes, one for each value of its data bit,
and the tables have two planes. Where ASICs lie in a panel is told by their functions below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from calib.detectors.arrays import Array, Floats, by_range, inverse
from calib.detectors.base import Correction
from calib.detectors.facts import Coding, DetectorSetup
from calib.detectors.mask import Constants
from calib.errors import ConstantsMisshapen, ConstantsMissing

MODES = ("FH", "FM", "FL", "AHL_H", "AML_M", "AHL_L", "AML_L")
NO_MODE = len(MODES)
NOT_LOW = (0, 1, 3, 4)
"""The modes of high and medium gain: those whose pixels common mode is taken of, and corrected in."""

_PIXEL_BITS = 0b1100
_TRBIT = 1 << 4
_SWITCHED = 1 << 5
Bits = npt.NDArray[np.uint8]


def mode_table() -> Bits:
    """Return the mode of each of the 64 values of the control bits, NO_MODE for those that mean nothing."""
    bits = np.arange(64)
    table = np.full(64, NO_MODE, np.uint8)
    for mode, (which, value) in enumerate(
        ((28, 28), (28, 12), (12, 8), (60, 16), (60, 0), (60, 48), (60, 32))
    ):
        table[(bits & which) == value] = mode
    return table


class EpixMultiGain(Correction):
    """What the family shares; a class of it says how its panel's configuration is laid out."""

    needed: ClassVar[tuple[str, ...]] = ("pedestals", "pixel_gain")
    used: ClassVar[tuple[str, ...]] = (*Correction.used, "common_mode")
    ranges: ClassVar[tuple[int, int | None]] = (len(MODES), len(MODES))
    asics: ClassVar[tuple[int, int]] = (2, 2)
    banks: ClassVar[tuple[int, int] | None] = (2, 8)

    @classmethod
    def control_bits(cls, config: Mapping[str, object]) -> Bits:
        """Return bits 3:2 and trbit of each pixel of a panel, uint8 (rows, cols)."""
        raise NotImplementedError

    @classmethod
    def modes(cls, setup: DetectorSetup) -> Bits:
        """Return the gain mode of each pixel for data bit 0 and 1, uint8 (2, segments, rows, cols)."""
        bits = np.stack(
            [_checked(setup, cls.control_bits(panel.config), cls.panel_shape) for panel in setup.panels]
        )
        table = mode_table()
        return np.stack((table[bits & ~np.uint8(_SWITCHED)], table[bits | _SWITCHED]))

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return pedestal and 1 / gain of each pixel's two modes."""
        modes = cls.modes(setup)
        pedestals = by_range("pedestals", constants, len(MODES), shape, where=setup.name)
        factors = inverse(by_range("pixel_gain", constants, len(MODES), shape, where=setup.name))
        return chosen(pedestals, modes), chosen(factors, modes)

    @classmethod
    def level_planes(cls, setup: DetectorSetup, shape: tuple[int, int, int]) -> Array:
        """Return the planes of each pixel that are of high or medium gain."""
        del shape
        level = np.isin(cls.modes(setup), NOT_LOW).astype(np.uint8)
        planes: Bits = level[0] | level[1] << 1
        return planes


class Epix10ka(EpixMultiGain):
    """epix10ka panels of 352 x 384 pixels, single or as a quad; 14 data bits, bit 14 switched to low."""

    panel_shape: ClassVar[tuple[int, int]] = (352, 384)
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x3FFF, range_mask=0x4000, range_shift=14, planes=(0, 1)
    )

    @classmethod
    def control_bits(cls, config: Mapping[str, object]) -> Bits:
        """Return the control bits of `cbitsConfig` (alg 3), which has them panel-wide, or else of asicPixelConfig and trbit by ASIC.

        ASICs 2 and 1 are the upper half, turned by 180 degrees; 3 and 0 the lower.
        """
        if "cbitsConfig" in config:
            return np.asarray(config["cbitsConfig"], np.uint8)
        asics = needed_config(config, "asicPixelConfig")
        trbit = needed_config(config, "trbit")
        if asics.ndim != 3 or len(asics) != 4 or asics.shape[1] < 176:
            raise ConstantsMisshapen(f"asicPixelConfig has shape {asics.shape}, expected is (4, 176, 192)")
        bits = (asics[:, :176] & _PIXEL_BITS | _trbits(trbit)[:, None, None]).astype(np.uint8)
        upper = np.hstack((bits[2, ::-1, ::-1], bits[1, ::-1, ::-1]))
        panel: Bits = np.vstack((upper, np.hstack((bits[3], bits[0]))))
        return panel


class EpixHr2x2(EpixMultiGain):
    """epixHR panels of 288 x 384 pixels; 14 data bits, bits 15 and 14 both switched to low."""

    panel_shape: ClassVar[tuple[int, int]] = (288, 384)
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x3FFF, range_mask=0x8000, range_shift=15, planes=(0, 1)
    )
    asic_at: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 3), (0, 2))
    """The number of the ASIC at each place of the panel's grid."""

    @classmethod
    def control_bits(cls, config: Mapping[str, object]) -> Bits:
        """Return the control bits of asicPixelConfig, which is as the panel, and of each ASIC's trbit."""
        rows, cols = cls.panel_shape
        pixels = needed_config(config, "asicPixelConfig")
        if pixels.size != rows * cols:
            raise ConstantsMisshapen(
                f"asicPixelConfig has shape {pixels.shape}, expected is {cls.panel_shape}"
            )
        trbits = _trbits(needed_config(config, "trbit"))[np.array(cls.asic_at)]
        of_asics = trbits.repeat(rows // cls.asics[0], axis=0).repeat(cols // cls.asics[1], axis=1)
        panel: Bits = (pixels.reshape(rows, cols) & _PIXEL_BITS | of_asics).astype(np.uint8)
        return panel


class EpixHr1x4(EpixHr2x2):
    """epixHR panels of 144 x 768 pixels, four ASICs in a row."""

    panel_shape: ClassVar[tuple[int, int]] = (144, 768)
    asics: ClassVar[tuple[int, int]] = (1, 4)
    asic_at: ClassVar[tuple[tuple[int, ...], ...]] = ((0, 1, 2, 3),)


class EpixHrEmu(EpixHr1x4):
    """The emulated epixHR 1x4. Its configuration is not its data's: all pixels are in AML, as in psana."""

    @classmethod
    def control_bits(cls, config: Mapping[str, object]) -> Bits:
        """Return 0 for every pixel."""
        del config
        return np.zeros(cls.panel_shape, np.uint8)


def chosen(by_mode: Floats, modes: Bits) -> Floats:
    """Return the value that each pixel has in its modes, 0 for none; (planes, segments, ...) of modes become (segments, planes, ...)."""
    out = np.zeros((modes.shape[1], modes.shape[0], *modes.shape[2:]), np.float32)
    for mode, values in enumerate(by_mode):
        for plane, here in enumerate(modes):
            np.copyto(out[:, plane], values, where=here == mode)
    return out


def needed_config(config: Mapping[str, object], field: str) -> Array:
    """Return a field of a panel's configuration as an array; ConstantsMissing where it has none."""
    if field not in config:
        raise ConstantsMissing(
            f"the configuration has no {field}, which says the gain modes",
            hint="The Configure of the run must declare the detector's alg config",
        )
    return np.asarray(config[field])


def _trbits(trbit: Array) -> npt.NDArray[np.uint8]:
    if trbit.size != 4:
        raise ConstantsMisshapen(f"trbit has {trbit.size} values, expected are those of 4 ASICs")
    return np.where(trbit.reshape(4) != 0, np.uint8(_TRBIT), np.uint8(0))


def _checked(setup: DetectorSetup, bits: Bits, shape: tuple[int, int]) -> Any:
    if bits.shape != shape:
        raise ConstantsMisshapen(
            f"gain control bits have shape {bits.shape}, a panel {shape}", where=setup.name
        )
    return bits & np.uint8(_PIXEL_BITS | _TRBIT)

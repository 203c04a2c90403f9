"""The epix detectors: gain modes from configuration and data, and where their pixels lie."""

from __future__ import annotations

import numpy as np
import pytest

from calib import CalibError, ConstantsMisshapen, ConstantsMissing
from calib.detectors import correction_type
from calib.detectors.epix10ka import MODES, NO_MODE, Epix10ka, EpixHr2x2, mode_table
from calib.detectors.epixuhr import EpixUhr1x4, EpixUhr3x2
from tests.calib import plain_corrections as plain
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of

# Data bit, trbit, gain bits 3:2 as psana's table writes them; x stands for both.
WRITTEN = ("x111xx", "x011xx", "xx10xx", "0100xx", "0000xx", "1100xx", "1000xx")
UHR_WRITTEN = ("x100x00", "x101x00", "x00xx01", "x10xx01", "0010x00", "0110x00", "0011x00", "0111x00")
UHR_SWITCHED = ("1010x00", "1110x00", "1011x00", "1111x00")


def fits(value: int, written: str) -> bool:
    """Whether a number has the bits of a written pattern."""
    bits = f"{value:0{len(written)}b}"
    return all(one in ("x", bit) for one, bit in zip(written, bits, strict=True))


def test_modes_are_those_of_the_table() -> None:
    for value, mode in enumerate(mode_table()):
        expected = [number for number, written in enumerate(WRITTEN) if fits(value, written)]
        assert [mode] == (expected or [NO_MODE])


@pytest.mark.parametrize("trbit", [(0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 0, 1)])
def test_asics_of_epix10ka_lie_where_they_are(trbit: tuple[int, ...]) -> None:
    bits = np.random.default_rng(0).integers(0, 16, (4, 178, 192)).astype(np.uint8)
    panel = Epix10ka.control_bits({"asicPixelConfig": bits, "trbit": np.array(trbit)})
    for asic, (row, col, rest, along) in enumerate(
        [(176, 192, 1, 1), (175, 383, -1, -1), (175, 191, -1, -1), (176, 0, 1, 1)]
    ):
        for r, c in ((0, 0), (5, 9), (175, 191)):
            assert panel[row + rest * r, col + along * c] == bits[asic, r, c] & 12 | trbit[asic] << 4


def test_asics_of_epixhr2x2_lie_where_they_are() -> None:
    panel = EpixHr2x2.control_bits(
        {"asicPixelConfig": np.full(288 * 384, 8), "trbit": np.array([1, 0, 0, 1])}
    )
    assert [panel[0, 0], panel[0, -1], panel[-1, 0], panel[-1, -1]] == [8, 24, 24, 8]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_uses_its_constants(mode: str) -> None:
    index = MODES.index(mode)
    bits, trbit, switched = [(12, 1, 0), (12, 0, 1), (8, 1, 0), (0, 1, 0), (0, 0, 0), (0, 1, 1), (0, 0, 1)][
        index
    ]
    config = {"asicPixelConfig": np.full((4, 176, 192), bits, np.uint8), "trbit": np.full(4, trbit)}
    setup = setup_of("epix10ka", 1, config=[config])
    constants = constants_of((7, 1, 352, 384), [16.4, 5.5, 0.16, 16.4, 5.5, 0.16, 0.16])
    raw = frame_of((1, 352, 384), [], 0, 0x3FFF) | np.uint16(switched << 14)
    of_mode = {name: array[index] for name, array in constants.items()}
    expected = plain.generic(raw & 0x3FFF, of_mode, plain.good_everywhere(constants["pixel_status"]))
    plain.check(made(setup, constants).calib(raw), expected, constants)


def test_configuration_that_is_missing_or_misshapen_is_named() -> None:
    setup = setup_of("epix10ka", 1)
    with pytest.raises(ConstantsMissing, match="has no asicPixelConfig"):
        correction_type(setup).derive(setup, constants_of((7, 1, 352, 384), [1.0]))
    config: dict[str, object] = {"asicPixelConfig": np.zeros((4, 100, 192)), "trbit": np.zeros(4)}
    setup = setup_of("epix10ka", 1, config=[config])
    with pytest.raises(ConstantsMisshapen, match="asicPixelConfig has shape"):
        correction_type(setup).derive(setup, constants_of((7, 1, 352, 384), [1.0]))


@pytest.mark.parametrize("ranges", [8, 12])
def test_epixuhr_switched_by_its_lowest_bit(ranges: int) -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 64, (6, 168, 192)).astype(np.uint8)
    config = {"gainAsic": np.array([0, 0, 40, 0, 0, 0]), "gainCSVAsic": bits.reshape(6, -1)}
    setup = setup_of("epixuhr3x2", 1, config=[config])
    constants = constants_of(
        (ranges, 1, 336, 576), [1.51, 0.54, 0.0172, 0.0086, 1.51, 1.51, 0.54, 0.54] + [0.02] * (ranges - 8)
    )
    raw = rng.integers(0, 0x10000, (6, 168, 192)).astype(np.uint16)
    correction = made(setup, constants)
    found = correction.calib([raw.reshape(6, -1)])
    bits[2] = 40
    written = [*UHR_WRITTEN, *UHR_SWITCHED]
    mask = correction.mask()
    for asic, r, c in rng.integers(0, (6, 168, 192), (3000, 3)):
        row, col = (r, 192 * asic + 191 - c) if asic < 3 else (335 - r, 192 * (asic - 3) + c)
        value = int(bits[asic, r, c]) | int(raw[asic, r, c] & 1) << 6
        modes = [number for number, one in enumerate(written) if fits(value, one)]
        expected = 0.0
        if modes:
            mode = modes[0] if modes[0] < ranges else (2, 3, 2, 3)[modes[0] - 8]
            gain = float(constants["pixel_gain"][mode, 0, row, col])
            data = int(raw[asic, r, c] >> 1 & 0x7FF)
            pedestal = float(constants["pedestals"][mode, 0, row, col])
            expected = (data - pedestal) / gain * mask[0, row, col] if gain else 0.0
        assert abs(found[0, row, col] - expected) <= 1e-5 * abs(expected) + 1e-3


def test_epixuhr3x2_in_order_is_calibrated_as_recorded() -> None:
    config = {"gainAsic": np.full(6, 48), "gainCSVAsic": np.zeros((6, 32256), np.uint8)}
    setup = setup_of("epixuhr3x2", 2, config=[config] * 2)
    correction = made(setup, constants_of((8, 2, 336, 576), [1.0]))
    assert isinstance(correction, EpixUhr3x2)
    segments = [
        np.random.default_rng(one).integers(0, 4096, (6, 32256)).astype(np.uint16) for one in range(2)
    ]
    assert np.array_equal(correction.calib(correction.raw(segments)), correction.calib(segments))
    assert np.array_equal(correction.calib(np.stack(segments)), correction.calib(segments))
    with pytest.raises(CalibError, match="expected are 193536 of uint16"):
        correction.calib([segments[0], segments[1][:5]])


def test_packed_epixuhr_is_unpacked_and_calibrated() -> None:
    config = {"gainAsic": np.full(4, 16), "gainCSVAsic": np.zeros((4, 32256), np.uint8)}
    setup = setup_of("epixuhr", 1, config=[config])
    constants = constants_of((8, 4, 168, 192), [1.0])
    correction = made(setup, constants)
    assert isinstance(correction, EpixUhr1x4)
    packed = np.random.default_rng(0).integers(0, 256, (4, 48384)).astype(np.uint8)
    pixels = correction.raw([packed])
    assert pixels.max() < 4096
    expected = np.where(pixels >> 11, 2, 4)
    data = (pixels & 0x7FF) - np.take_along_axis(constants["pedestals"], expected[None], 0)[0].astype(float)
    factor = np.take_along_axis(plain.inverse(constants["pixel_gain"].astype(float)), expected[None], 0)[0]
    plain.check(correction.calib([packed]), data * factor * correction.mask(), constants)
    assert np.array_equal(correction.calib(pixels), correction.calib([packed]))

"""Every correction beside its plain twin, and what all of them refuse."""

from __future__ import annotations

import numpy as np
import pytest

from calib import CalibError, ConstantsMisshapen, ConstantsMissing
from calib.detectors import correction_type
from tests.calib import plain_corrections as plain
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of

JUNGFRAU = (3, 2, 512, 1024)


@pytest.fixture(scope="module")
def jungfrau_constants() -> dict[str, np.ndarray]:
    return constants_of(JUNGFRAU, [41.5, -1.39, -0.11])


def test_jungfrau_is_as_its_twin_for_every_gain_code(jungfrau_constants: dict[str, np.ndarray]) -> None:
    raw = frame_of(JUNGFRAU[1:], [1, 2, 3], 14, 0x3FFF)
    mask = plain.good_everywhere(jungfrau_constants["pixel_status"])
    found = made(setup_of("jungfrau", 2), jungfrau_constants).calib(raw)
    plain.check(found, plain.jungfrau(raw, jungfrau_constants, mask), jungfrau_constants)
    assert (found[raw >> 14 == 2] == 0).all()


def test_segments_one_by_one_are_as_all_at_once(jungfrau_constants: dict[str, np.ndarray]) -> None:
    raw = frame_of(JUNGFRAU[1:], [1, 2, 3], 14, 0x3FFF)
    correction = made(setup_of("jungfrau", 2), jungfrau_constants)
    out = np.full(raw.shape, np.nan, np.float32)
    assert correction.calib([raw[0][None], raw[1]], out=out) is out
    assert np.array_equal(out, correction.calib(raw))


def test_raw_data_may_be_read_only_and_lie_at_odd_bytes(jungfrau_constants: dict[str, np.ndarray]) -> None:
    raw = frame_of(JUNGFRAU[1:], [1, 3], 14, 0x3FFF)
    odd = np.frombuffer(b"\0" + raw.tobytes(), np.uint8)[1:].view(np.uint16).reshape(raw.shape)
    assert not odd.flags.aligned
    correction = made(setup_of("jungfrau", 2), jungfrau_constants)
    assert np.array_equal(correction.calib(odd), correction.calib(raw))


def test_masked_pixels_are_zero_whatever_their_constants(jungfrau_constants: dict[str, np.ndarray]) -> None:
    hurt = {name: array.copy() for name, array in jungfrau_constants.items()}
    hurt["pedestals"][0, 0, 7, 9] = np.nan
    hurt["pixel_status"][1, 0, 7, 9] = 64
    found = made(setup_of("jungfrau", 2), hurt).calib(np.zeros(JUNGFRAU[1:], np.uint16))
    assert found[0, 7, 9] == 0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_unknown_detector_is_corrected_as_one_range(dtype: type) -> None:
    constants = constants_of((3, 40, 50), [2.0])
    raw = np.random.default_rng(0).integers(0, 200, (3, 40, 50)).astype(dtype)
    mask = (constants["pixel_status"] == 0).astype(np.uint8)
    plain.check(
        made(setup_of("opal", 3), constants).calib(raw), plain.generic(raw, constants, mask), constants
    )


def test_epix100_without_gains_has_its_typical_one() -> None:
    constants = constants_of((1, 704, 768), [16.0])
    del constants["pixel_gain"]
    raw = frame_of((1, 704, 768), [], 0, 0xFFFF)
    mask = (constants["pixel_status"] == 0).astype(np.uint8)
    plain.check(
        made(setup_of("epix100", 1), constants).calib(raw),
        plain.generic(raw, constants, mask, 0.06),
        constants,
    )


def test_missing_constants_are_named() -> None:
    with pytest.raises(ConstantsMissing, match=r"^det: no pedestals, pixel_gain for this jungfrau"):
        correction_type(setup_of("jungfrau", 1)).derive(setup_of("jungfrau", 1), {})


@pytest.mark.parametrize("shape", [(3, 1, 512, 1024), (2, 2, 512, 1024), (3, 2, 512, 1000)])
def test_misshapen_constants_are_refused(shape: tuple[int, ...]) -> None:
    setup = setup_of("jungfrau", 2)
    with pytest.raises(ConstantsMisshapen, match="needed is"):
        correction_type(setup).derive(setup, constants_of(shape, [1.0] * shape[0]))


def test_what_does_not_fit_is_refused(jungfrau_constants: dict[str, np.ndarray]) -> None:
    correction = made(setup_of("jungfrau", 2), jungfrau_constants)
    raw = np.zeros(JUNGFRAU[1:], np.uint16)
    with pytest.raises(CalibError, match="are not those of"):
        correction.calib(raw[:1])
    with pytest.raises(CalibError, match=r"expected is uint16 \(1, 512, 1024\)"):
        correction.calib([raw[0].astype(np.int32), raw[1]])
    with pytest.raises(CalibError, match="needed is float32"):
        correction.calib(raw, out=np.empty(JUNGFRAU[1:]))
    with pytest.raises(CalibError, match="no option edges"):
        correction.calib(raw, edges=True)
    with pytest.raises(CalibError, match="umask has shape"):
        made(setup_of("jungfrau", 2), jungfrau_constants, umask=np.ones((3, 3)))


@pytest.mark.parametrize("dtype", [np.int16, np.float64, ">u2"])
def test_pixels_of_any_number_type_are_corrected(dtype: str) -> None:
    constants = constants_of((1, 40, 50), [2.0])
    raw = np.random.default_rng(0).integers(0, 200, (1, 40, 50))
    correction = made(setup_of("opal", 1), constants)
    assert np.array_equal(correction.calib(raw.astype(dtype)), correction.calib(raw.astype(np.uint16)))


def test_what_is_no_frame_of_the_detector_is_refused(jungfrau_constants: dict[str, np.ndarray]) -> None:
    correction = made(setup_of("jungfrau", 2), jungfrau_constants)
    raw = np.zeros((2, 512, 1024), np.uint16)
    for wrong, said in (
        (raw.swapaxes(1, 2), "Rows and columns are exchanged"),
        ([raw[0].T, raw[1]], "Rows and columns are exchanged"),
        ([None, raw[1]], "a raw segment is a NoneType"),
        (None, "raw data are a NoneType"),
    ):
        with pytest.raises(CalibError, match=said):
            correction.calib(wrong)
    out = np.empty(raw.shape, np.float32)
    out.flags.writeable = False
    for target, said in ((out, "out cannot be written"), ([1], "out is a list")):
        with pytest.raises(CalibError, match=said):
            correction.calib(raw, out=target)
    with pytest.raises(CalibError, match="a number type"):
        made(setup_of("opal", 1), constants_of((1, 4, 5), [2.0])).calib(np.zeros((1, 4, 5), complex))

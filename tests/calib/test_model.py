"""What a constant is: dtypes, shapes, digests, run ranges."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from calib import CTYPES, Constant, ConstantsMisshapen, DetectorId
from calib.model import MAX_TEXT_BYTES, digest_of
from tests.conftest import ROOT

PANELS = ("a-1", "b-2")


def test_values_get_the_dtype_of_their_type_and_cannot_be_written() -> None:
    made = Constant.make("pedestals", np.ones((3, 2, 4, 5)), PANELS)
    assert isinstance(made.value, np.ndarray)
    assert made.value.dtype == np.dtype("<f4")
    assert made.value.flags.c_contiguous
    assert not made.value.flags.writeable


def test_an_array_that_fits_is_not_copied_and_stays_writable_for_its_owner() -> None:
    mine = np.zeros((2, 4, 5), np.float32)
    made = Constant.make("pixel_rms", mine, PANELS)
    assert np.shares_memory(mine, made.value)
    assert mine.flags.writeable


def test_big_endian_and_strided_arrays_are_made_plain() -> None:
    value = np.arange(80, dtype=">f4").reshape(2, 4, 10)[..., ::2]
    made = Constant.make("pedestals", value, PANELS)
    assert np.array_equal(made.value, value)
    assert made.digest == Constant.make("pedestals", value.astype("<f4"), PANELS).digest


@pytest.mark.parametrize(
    ("ctype", "value"),
    [
        ("pixel_status", np.full((2, 3, 3), -1)),
        ("pixel_status", np.ones((2, 3, 3), np.float32)),
        ("pixel_mask", np.full((2, 3, 3), 256)),
        ("pedestals", np.full((2, 3, 3), 1e300)),
        ("pedestals", np.full((2, 3, 3), "x")),
        ("pedestals", np.full((2, 3, 3), 1j)),
        ("pedestals", np.zeros((2, 0, 3))),
        ("pedestals", np.float32(1)),
        ("pedestals", "text"),
        ("geometry", np.zeros((2, 3, 3))),
        ("geometry", "half a pair \ud800"),
        ("geometry", "x" * (MAX_TEXT_BYTES + 1)),
    ],
)
def test_values_that_the_type_cannot_hold_are_refused(ctype: str, value: object) -> None:
    with pytest.raises(ConstantsMisshapen) as failure:
        Constant.make(ctype, value, PANELS)  # type: ignore[arg-type]
    assert ctype in str(failure.value)


def test_more_bytes_than_the_limit_are_refused_before_they_are_copied() -> None:
    vast = np.broadcast_to(np.float32(0), (2, 1 << 15, 1 << 15))
    with pytest.raises(ConstantsMisshapen, match="more than"):
        Constant.make("pedestals", vast, PANELS)


def test_an_unknown_type_names_the_near_misses() -> None:
    with pytest.raises(ConstantsMisshapen, match="pedestals"):
        Constant.make("pedestal", np.zeros((2, 3, 3)), PANELS)


@pytest.mark.parametrize("shape", [(3, 4), (4, 5, 6), (3, 3, 4, 5), (4, 3, 5)])
def test_shapes_that_do_not_hold_the_panels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConstantsMisshapen, match="2 panels"):
        Constant.make("pedestals", np.zeros(shape), PANELS)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (3, 1, 3, 4), (2, 4, 3, 4)])
def test_one_panel_owns_all_there_is(shape: tuple[int, ...]) -> None:
    assert Constant.make("pedestals", np.zeros(shape), ("only",)).serials == ("only",)


def test_two_panels_of_one_serial_are_refused() -> None:
    with pytest.raises(ConstantsMisshapen, match="'a'"):
        Constant.make("pedestals", np.zeros((2, 3, 4)), ("a", "a"))


def test_what_has_no_pixels_has_no_panels() -> None:
    assert Constant.make("geometry", "text", PANELS).serials == ()
    assert Constant.make("common_mode", np.zeros(4), PANELS).serials == ()


@pytest.mark.parametrize(("run", "run_end"), [(-1, None), (5, 4)])
def test_a_run_range_that_is_none_is_refused(run: int, run_end: int | None) -> None:
    with pytest.raises(ConstantsMisshapen, match="range"):
        Constant.make("geometry", "text", run=run, run_end=run_end)


def test_the_digest_is_of_dtype_shape_and_bytes() -> None:
    value = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert digest_of(value) == hashlib.sha256(b"<f4[1, 2, 3]\n" + value.tobytes()).hexdigest()
    assert digest_of(value) != digest_of(value.reshape(1, 3, 2))
    assert digest_of(value) != digest_of(value.view(np.int32))
    assert digest_of("abc") == hashlib.sha256(b"str\nabc").hexdigest()


def test_constants_survive_pickling() -> None:
    made = Constant.make("pedestals", np.ones((2, 3, 4)), PANELS, experiment="xpp", run=3, created=1.5)
    back = pickle.loads(pickle.dumps(made))
    assert (back.ctype, back.serials, back.digest, back.run) == (made.ctype, made.serials, made.digest, 3)


def test_a_detector_has_psanas_unique_name() -> None:
    assert DetectorId("epixquad", "epix10ka", PANELS).long_name == "epix10ka_a-1_b-2"


def test_importing_calib_brings_neither_database_nor_network() -> None:
    code = "import sys, calib; print({'sqlalchemy', 'httpx', 'starlette', 'zmq', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_every_type_says_what_it_is() -> None:
    assert all(kind.what and (kind.dtype is None or kind.dtype.str[0] in "<|") for kind in CTYPES.values())

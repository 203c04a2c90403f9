"""Compressed frames of a recorded file are read as arrays, calibrated frames and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp import DataSource
from drp.fex import Compressor
from drp.script.compressed_alg import FIELDS
from drp.script.declare import parse_fields
from drp.script.errors import CompressedDataError, ScriptError
from tests.support.constants_world import DET, DETTYPE, RAW_VALUE, SHAPE, Panels, put_constants, serial
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

pytest.importorskip("bitshuffle")

PANELS = Panels({0: 4, 1: 7})


def names(segment: int, alg: str = "fex") -> Names:
    """What a drp declares of its compressed frames."""
    fields = tuple(Field(name, *kind) for name, kind in FIELDS.items())
    return Names(1 << 8 | 100 + segment, DETTYPE, DET, serial(4), segment, Alg(alg, (1, 0, 0)), fields)


def write(path: Path, declared: Sequence[Names], events: Sequence[Sequence[dict[str, Any] | None]]) -> Path:
    """Write a run whose events hold these fields; None where a segment is missing."""
    out = [encode_dgram(TransitionId.Configure, 1, [one.encode() for one in (*PANELS.names, *declared)])]
    for service in (TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable):
        out.append(encode_dgram(service, len(out) + 1))
    for event in events:
        parts = [
            encode_shapes_data(one, values) for one, values in zip(declared, event, strict=True) if values
        ]
        out.append(encode_dgram(TransitionId.L1Accept, len(out) + 1, parts, env=1))
    path.write_bytes(b"".join(out))
    return path


def fields(frame: Any, bound: float = 0.0, **others: Any) -> dict[str, Any]:
    """The fields of a compressed frame."""
    found = Compressor(frame.shape, frame.dtype, bound).of(frame)
    return {name: getattr(found, name) for name in Compressor.fields} | others


def events(path: Path, **options: Any) -> Any:
    """Each event with its detector."""
    for run in DataSource(files=str(path), **options).runs():
        det = run.Detector(DET)
        for evt in run.events():
            yield det, evt


RAW = np.full((2, *SHAPE), RAW_VALUE, np.uint16) + np.arange(12, dtype=np.uint16)
ENERGY = np.random.default_rng(1).normal(3, 2, (2, *SHAPE)).astype(np.float32)


def test_raw_frames_come_back_and_are_calibrated_and_drawn(tmp_path: Path) -> None:
    path, store = write(tmp_path / "x.xtc2", [names(0)], [[fields(RAW)], [None]]), tmp_path / "calib.db"
    put_constants(store, [4, 7])
    geometry = np.zeros((2, *SHAPE), np.float32)
    reader = events(path, calib=str(store))
    det, evt = next(reader)
    assert np.array_equal(det.fex.array(evt), RAW)
    assert [one.tolist() for one in det.fex.segments(evt)] == RAW.tolist()
    expected = RAW.astype(np.float32) - np.array([4, 7], np.float32)[:, None, None]
    assert np.array_equal(det.fex.calib(evt), expected)
    assert np.array_equal(det.fex.calib(evt, nda_raw=RAW + 1), expected + 1)
    assert det.fex.codec(evt) == "bslz4"
    with pytest.raises(ScriptError, match="cannot be drawn"):
        det.fex.image(evt, geometry)  # this type of detector has no geometry
    det, evt = next(reader)
    assert det.fex.array(evt) is det.fex.calib(evt) is det.fex.image(evt) is det.fex.segments(evt) is None


def test_calibrated_frames_come_back_within_the_bound_without_constants(tmp_path: Path) -> None:
    for det, evt in events(write(tmp_path / "x.xtc2", [names(0)], [[fields(ENERGY, 0.125)]])):
        found = det.fex.calib(evt)
        assert found.dtype == np.float32
        assert np.abs(found - ENERGY).max() <= 0.125
        with pytest.raises(ScriptError, match="calibrated before it was compressed"):
            det.fex.calib(evt, cmpars=(7, 7, 10, 10))
        with pytest.raises(ScriptError, match="no raw data"):
            det.fex.segments(evt)


def test_frames_of_several_drps_are_one_array(tmp_path: Path) -> None:
    declared = [names(0, "packed"), names(1, "packed")]
    both = [fields(RAW[:1]), fields(RAW[1:] + 5)]
    path = write(tmp_path / "x.xtc2", declared, [both, [both[0], None]])
    found = [det.packed.array(evt) for det, evt in events(path)]
    assert np.array_equal(found[0], RAW + np.array([0, 5], np.uint16)[:, None, None])
    assert found[1] is None


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"codec": "fpc"}, "there is no codec 'fpc'"),
        ({"shape": np.array([2, 9, 9], np.uint32)}, "segment 0 of 2 .bslz4.: the bytes are damaged"),
        ({"dtype": "complex128"}, "says that it is 'complex128'"),
    ],
)
def test_damaged_frames_are_told_with_detector_and_event(
    tmp_path: Path, others: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "x.xtc2", [names(0)], [[fields(RAW, **others)]])
    for det, evt in events(path):
        with pytest.raises(CompressedDataError, match=rf"cam.fex of the event at 5: .*{words}"):
            det.fex.array(evt)


def test_other_algs_are_what_they_were(tmp_path: Path) -> None:
    for det, _ in events(write(tmp_path / "x.xtc2", [names(0)], [[fields(RAW)]])):
        assert not hasattr(det.raw, "array")
        assert det.raw.fields == {"raw": (np.dtype(np.uint16), 2)}


def test_compressed_frames_are_known_by_the_fields_that_the_compressor_declares(tmp_path: Path) -> None:
    declared = parse_fields(Compressor.fields)
    assert {name: (dtype, rank) for name, dtype, rank in declared} == FIELDS
    other = replace(names(0), fields=(*names(0).fields[1:], Field("data", DataType.UINT16, 1)))
    values = fields(RAW) | {"data": np.zeros(3, np.uint16)}
    for det, evt in events(write(tmp_path / "x.xtc2", [other], [[values]])):
        assert not hasattr(det.fex, "array")
        assert det.fex.data(evt).tolist() == [0, 0, 0]

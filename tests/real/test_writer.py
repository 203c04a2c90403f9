"""Files that our format package writes, read by real psana."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import goldens
from tests.xtc.reencode import reencode_file
from xtc import (
    Alg,
    Config,
    DataType,
    Dgram,
    Editor,
    Field,
    FileName,
    Names,
    Reader,
    TransitionId,
    daq_smd_id,
    encode_dgram,
    encode_shapes_data,
    smd_twin,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

SAID = ("timestamp", "service", "env", "damage", "xtc_damage")


def fields_of(dgram: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields in an order that does not depend on the writer."""
    return sorted(
        dgram["fields"], key=lambda field: (field["det"], field["seg"], field["alg"], field["field"])
    )


@pytest.mark.parametrize("golden", goldens())
def test_file_encoded_again_loses_nothing(golden: Path, psana: Any, xtc2_data: Path, tmp_path: Path) -> None:
    about = json.loads(golden.read_text())
    first = xtc2_data / about["external_config"] if about["external_config"] else None
    theirs, ours = xtc2_data / about["file"], tmp_path / "again.xtc2"
    reencode_file(theirs, ours, first)
    before, after = psana.dgrams(theirs, config=first), psana.dgrams(ours, config=first)
    assert after["tail_bytes"] == 0
    assert len(after["dgrams"]) == about["ndgrams"]
    assert [one["names"] for one in after["configs"]] == [one["names"] for one in before["configs"]]
    for old, new in zip(before["dgrams"], after["dgrams"], strict=True):
        assert {key: new[key] for key in SAID} == {key: old[key] for key in SAID}
        assert fields_of(new) == fields_of(old)


def test_every_data_type_and_rank_reaches_psana(psana: Any, tmp_path: Path) -> None:
    path, arrays = tmp_path / "types.xtc2", every_array()
    fields = tuple(Field(name, dtype, array.ndim) for name, (dtype, array) in arrays.items())
    enum = (Field("gain:Gain", DataType.ENUMVAL), Field("Low:Gain", DataType.ENUMDICT))
    fields += (Field("text", DataType.CHARSTR, 1), *enum)
    names = Names(0x100, "type", "det", "serial", 3, Alg("raw", (1, 2, 3)), fields)
    values = [array if array.ndim else array[()] for _, array in arrays.values()]
    config = encode_dgram(TransitionId.Configure, 1 << 32, [names.encode()])
    event = encode_dgram(
        TransitionId.L1Accept, 2 << 32, [encode_shapes_data(names, [*values, "é", -7, -7], damage=0x20)]
    )
    path.write_bytes(config + event)
    answer = psana.dgrams(path, arrays=tmp_path / "arrays")
    (described,) = answer["configs"][0]["names"]
    assert (described["det"], described["seg"], described["version"]) == ("det", 3, [1, 2, 3])
    read = {field["field"]: field for field in answer["dgrams"][1]["fields"]}
    assert answer["dgrams"][1]["xtc_damage"] == [["det", 3, "raw", 0x20]]
    assert read["text"]["value"] == "é"
    assert (read["gain"]["value"], read["gain"]["names"]) == (-7, {"-7": "Low"})
    for name, (dtype, array) in arrays.items():
        assert read[name]["type"] == dtype.name
        if array.ndim == 0:
            assert read[name]["value"] == array[()].item()
        else:
            assert read[name]["shape"] == list(array.shape)
            assert Path(read[name]["file"]).read_bytes() == array.tobytes()


def every_array() -> dict[str, tuple[DataType, np.ndarray[Any, Any]]]:
    """Return an array of each numeric type and rank 0 to 4, an empty one of each type among them."""
    numeric = [dtype for dtype in DataType if dtype < DataType.CHARSTR]
    kinds = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8")
    made = {}
    for dtype, kind in zip(numeric, kinds, strict=True):
        for rank in range(5):
            shape = (2, 3, 1, 4)[:rank]
            array = np.arange(np.prod(shape, dtype=int), dtype=kind).reshape(shape) + np.array(7, dtype=kind)
            made[f"{dtype.name}_{rank}"] = (dtype, np.asarray(array))
        made[f"{dtype.name}_empty"] = (dtype, np.empty((0, 3), dtype=kind))
    return made


def test_edited_file_and_its_smalldata_are_opened_as_a_run(
    psana: Any, xtc2_data: Path, tmp_path: Path
) -> None:
    source = Reader(xtc2_data / "test_epix_calib.xtc2")
    edited = [edit(dgram) for dgram in source]
    last = next(reversed(list(source))).timestamp
    for service in (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun):
        edited.append(encode_dgram(service, last + int(service)))
    big = tmp_path / str(FileName("ueddaq02", 109, 0, 0))
    small = tmp_path / "smalldata" / f"{big.stem}.smd.xtc2"
    small.parent.mkdir()
    big.write_bytes(b"".join(edited))
    twins, offset = [], 0
    smd_id = daq_smd_id(Dgram(edited[0]).src)
    for raw in edited:
        twins.append(smd_twin(Dgram(raw), smd_id, offset))
        offset += len(raw)
    small.write_bytes(b"".join(twins))

    (run,) = psana.run("ueddaq02", 109, tmp_path, "epixquad", steps=True)
    assert (run["expt"], run["runnum"]) == ("ueddaq02", 109)
    (step,) = run["steps"]
    assert [event["raw"]["epixquad"] for event in step["events"]] == [None, None]
    sums = [
        [field["value"] for field in event["streams"][0]["fields"] if field["field"] == "sum"]
        for event in step["events"]
    ]
    events = [dgram for dgram in source if dgram.service == TransitionId.L1Accept]
    assert sums == [[int(raw_of(event).sum(dtype=np.uint64))] for event in events]


def edit(dgram: Dgram) -> bytes:
    """Add the sum of segment 2 to every event, and drop raw."""
    names = Names(
        0x7F, "epix10ka", "epixquad", "", 7, Alg("fex", (0, 0, 1)), (Field("sum", DataType.UINT64),)
    )
    editor = Editor(dgram)
    if dgram.service == TransitionId.Configure:
        editor.add_names(names)
    elif dgram.service == TransitionId.L1Accept:
        assert dgram.config is not None
        editor = Editor(dgram, Config.of([*dgram.config.names.values(), names]))
        editor.drop("epixquad", "raw")
        editor.add(names, {"sum": raw_of(dgram).sum(dtype=np.uint64)})
    return editor.encode()


def raw_of(dgram: Dgram) -> np.ndarray[Any, Any]:
    """Return the frame of segment 2."""
    (frame,) = (
        value.value for value in dgram.fields() if value.names.segment == 2 and value.field.name == "raw"
    )
    return np.asarray(frame)

"""Files that our format package writes, read by real psana."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    TypeId,
    daq_smd_id,
    encode_dgram,
    encode_shapes_data,
    encode_xtc,
    smd_twin,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

FILES = (
    "chunking/xpptut15-r0014-s000-c000.xtc2",
    "chunking/smalldata/xpptut15-r0014-s000-c000.smd.xtc2",
    "fakesteps/xpptut15-r0014-s001-c000.xtc2",
    "generated/dgramedit-scratch.xtc2",
    "generated/json2xtc_test.xtc2",
    "intg_det/xpptut15-r0014-s000-c000.xtc2",
    "test_epix_calib.xtc2",
    "test_jungfrau05M_calib.xtc2",
    "test_timetool_psana.xtc2",
    "test_ts.xtc2",
)
SAID = ("timestamp", "service", "env", "damage", "xtc_damage")


def encode_again(dgram: Dgram) -> bytes:
    """Return the dgram with everything in it decoded to records and values, and encoded from those."""
    return encode_dgram(
        dgram.service,
        dgram.timestamp,
        parts(dgram, -1),
        env=dgram.env,
        src=dgram.src,
        damage=int(dgram.damage),
        contains=dgram.contains,
    )


def parts(dgram: Dgram, parent: int) -> Iterator[bytes]:
    """Yield the Xtcs below one Parent, each encoded again."""
    shapes_data = {found.offset: found for found in dgram.shapes_data()}
    for index, xtc in enumerate(dgram.xtcs()):
        if xtc.parent != parent:
            continue
        if xtc.type == TypeId.Parent:
            yield encode_xtc(TypeId.Parent, parts(dgram, index), src=xtc.src, damage=xtc.damage)
        elif xtc.type == TypeId.Names:
            yield Names.decode(dgram.view[xtc.offset : xtc.offset + xtc.extent]).encode()
        else:
            found = shapes_data[xtc.offset]
            yield encode_shapes_data(found.names, found.values(), damage=int(found.damage))


def fields_of(dgram: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields in an order that does not depend on the writer."""
    return sorted(
        dgram["fields"], key=lambda field: (field["det"], field["seg"], field["alg"], field["field"])
    )


@pytest.mark.parametrize("name", FILES)
def test_file_encoded_again_loses_nothing(name: str, psana: Any, data: Path, tmp_path: Path) -> None:
    ours = tmp_path / "again.xtc2"
    ours.write_bytes(b"".join(encode_again(dgram) for dgram in Reader(data / name)))
    before, after = psana.dgrams(data / name), psana.dgrams(ours)
    assert after["tail_bytes"] == 0
    assert [c["names"] for c in after["configs"]] == [c["names"] for c in before["configs"]]
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


def test_edited_file_and_its_smalldata_are_opened_as_a_run(psana: Any, data: Path, tmp_path: Path) -> None:
    source = Reader(data / "test_epix_calib.xtc2")
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

"""The conventions above the bytes: chunks, small data, file names."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.xtc import builders as b
from xtc import (
    ChunkInfo,
    Config,
    Dgram,
    Editor,
    FileName,
    Reader,
    Stream,
    TransitionId,
    XtcError,
    chunk,
    chunkinfo_names,
    daq_smd_id,
    encode_chunkinfo,
    encode_dgram,
    read_chunkinfo,
    smd_twin,
    smdinfo_names,
    writer_smd_id,
)
from xtc.chunk import BLOCK, find_config

CHUNKINFO = chunkinfo_names(252)
DATA_NAMES = b.names(1, [("n", b.UINT8, 0)])


def enable(filename: str, chunkid: int) -> bytes:
    return encode_dgram(TransitionId.Enable, 9, [encode_chunkinfo(CHUNKINFO, ChunkInfo(filename, chunkid))])


def chunks(folder: Path, *announced: tuple[str, int]) -> Path:
    """A first chunk and those announced, each with one event that holds its number, and an Enable for the
    next.
    """
    names = ["run-s000-c000.xtc2", *(name for name, _ in announced)]
    for number, name in enumerate(names):
        raw = b"" if number else encode_dgram(TransitionId.Configure, 0, [DATA_NAMES, CHUNKINFO.encode()])
        raw += b.dgram(b.L1ACCEPT, b.shapes_data(1, [], bytes([number])), time=number)
        if number < len(announced):
            raw += enable(*announced[number])
        (folder / name).write_bytes(raw)
    return folder / names[0]


def values(stream: Stream) -> list[int]:
    return [one.fields()[0].value for one in stream if one.service == TransitionId.L1Accept]


def test_a_stream_goes_through_its_chunks_with_the_first_ones_configure(tmp_path: Path) -> None:
    stream = Stream(chunks(tmp_path, ("other-c001.xtc2", 1), ("run-s000-c002.xtc2", 2)))
    assert values(stream) == [0, 1, 2] == values(stream)
    assert [Path(one).name for one in stream.paths] == [
        "run-s000-c000.xtc2",
        "other-c001.xtc2",
        "run-s000-c002.xtc2",
    ]


def test_the_order_of_chunkinfo_fields_does_not_matter() -> None:
    fields = [("chunkid", b.UINT32, 0), ("filename", b.CHARSTR, 1)]
    config = b.dgram(b.CONFIGURE, b.names(7, fields, det="chunkinfo", alg="chunkinfo"))
    body = struct.pack("<I", 3) + b"x-c003.xtc2\0"
    dgram = Dgram(b.dgram(b.ENABLE, b.shapes_data(7, [b.shape(12)], body)), config=Dgram(config).config)
    assert read_chunkinfo(dgram) == ChunkInfo("x-c003.xtc2", 3)
    assert read_chunkinfo(Dgram(b.dgram(b.ENABLE), config=Dgram(config).config)) is None


def test_a_chunk_whose_number_does_not_rise_ends_the_stream(tmp_path: Path) -> None:
    path = chunks(tmp_path, ("a-c001.xtc2", 1), ("b-c001.xtc2", 1))
    assert values(Stream(path)) == [0, 1]


def test_a_missing_chunk_is_named(tmp_path: Path) -> None:
    path = chunks(tmp_path, ("run-s000-c001.xtc2", 1))
    (tmp_path / "run-s000-c001.xtc2").unlink()
    with pytest.raises(XtcError, match=r"next chunk is missing; expected .*c001\.xtc2"):
        values(Stream(path))


@pytest.mark.parametrize("ending", [".inprogress", ".noendrun"])
def test_a_chunk_whose_writer_has_not_ended_it_is_followed(tmp_path: Path, ending: str) -> None:
    path = chunks(tmp_path, ("run-s000-c001.xtc2", 1))
    wanted = values(Stream(path))
    last = tmp_path / "run-s000-c001.xtc2"
    unfinished = last.rename(last.with_name(last.name + ending))
    assert values(Stream(path)) == wanted
    found = find_config(unfinished)
    assert found is not None
    assert found[1] == str(path)
    first = path.rename(path.with_name(path.name + ending))
    assert values(Stream(first)) == wanted
    found = find_config(unfinished)
    assert found is not None
    assert found[1] == str(first)


@pytest.mark.parametrize("name", ["../evil-c001.xtc2", "/etc/passwd", "..", ""])
def test_a_chunk_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run-s000-c000.xtc2"
    path.write_bytes(encode_dgram(TransitionId.Configure, 0, [CHUNKINFO.encode()]) + enable(name, 1))
    with pytest.raises(XtcError, match="same folder") as caught:
        list(Stream(path))
    assert caught.value.path == str(path)


def test_the_configure_of_a_later_chunk_is_found_beside_it(tmp_path: Path) -> None:
    first = chunks(tmp_path, ("other-c001.xtc2", 1), ("run-s000-c002.xtc2", 2))
    (tmp_path / "broken-c000.xtc2").write_bytes(b"\xff" * 99)
    for name in ("other-c001.xtc2", "run-s000-c002.xtc2"):
        found = find_config(tmp_path / name)
        assert found is not None
        assert (found[1], set(found[0].names)) == (str(first), {1, 252})
    assert find_config(first) is None


def test_neighbours_that_cannot_be_read_hide_no_configure(tmp_path: Path) -> None:
    first = chunks(tmp_path, ("other-c001.xtc2", 1))
    os.mkfifo(tmp_path / "a-pipe.xtc2")
    (tmp_path / "a-folder.xtc2").mkdir()
    (tmp_path / "a-link.xtc2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a-loop.xtc2").symlink_to(tmp_path / "a-loop.xtc2")
    found = find_config(tmp_path / "other-c001.xtc2")
    assert found is not None
    assert found[1] == str(first)


def test_the_first_chunk_of_a_run_is_known_by_its_name_and_other_runs_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure = encode_dgram(TransitionId.Configure, 0, [DATA_NAMES, CHUNKINFO.encode()])
    for run in range(5, 9):
        for stream in (0, 1):
            (tmp_path / f"x-r000{run}-s00{stream}-c000.xtc2").write_bytes(configure)
    wanted = tmp_path / "x-r0007-s001-c003.xtc2"
    wanted.write_bytes(enable("x-r0007-s001-c004.xtc2", 4))
    opened: list[str] = []

    class Counted(Reader):
        def __init__(self, path: str | Path, *, config: Config | None = None) -> None:
            opened.append(Path(path).name)
            super().__init__(path, config=config)

    monkeypatch.setattr(chunk, "Reader", Counted)
    found = find_config(wanted)
    assert found is not None
    assert found[1] == str(tmp_path / "x-r0007-s001-c000.xtc2")
    assert opened == ["x-r0007-s001-c000.xtc2"]


def test_a_stream_without_its_events_has_all_else(tmp_path: Path) -> None:
    path = chunks(tmp_path, ("run-s000-c001.xtc2", 1))
    many = b"".join(b.dgram(b.L1ACCEPT, b.shapes_data(1, [], b"x"), time=9) for _ in range(2 * BLOCK))
    path.write_bytes(path.read_bytes() + many + b.dgram(b.ENABLE) + many[:50])
    whole, short = Stream(path), Stream(path, events=False)
    wanted = [bytes(one) for one in whole if one.service != TransitionId.L1Accept]
    assert [bytes(one) for one in short] == wanted
    assert len(wanted) == 3
    assert short.paths == whole.paths


def test_real_chunks_are_followed(xtc2_data: Path) -> None:
    stream = Stream(xtc2_data / "chunking" / "xpptut15-r0014-s000-c000.xtc2")
    assert sum(1 for one in stream if one.service == TransitionId.L1Accept and one.fields()) == 15
    assert [Path(one).name for one in stream.paths] == [
        "xpptut15-r0014-s000-c000.xtc2",
        "data-r0001-s000-c001.xtc2",
    ]


def test_file_names_are_made_and_taken_apart() -> None:
    name = FileName("rixx1000", 12, 3, 4, smd=True)
    assert str(name) == "rixx1000-r0012-s003-c004.smd.xtc2"
    assert FileName.parse(str(name)) == name
    assert FileName.parse("rixx1000-r0012-s003-c004.xtc2.inprogress") == FileName("rixx1000", 12, 3, 4)
    assert FileName.parse("rixx1000-r0012-s003-c004.xtc2.noendrun.2") == FileName("rixx1000", 12, 3, 4)
    assert FileName.parse("anything.xtc2") is None


def test_smd_twins_follow_the_rules() -> None:
    raw = b.dgram(b.L1ACCEPT, b.shapes_data(1, [], b"\1"), time=5, env=0x400001, src=3, damage=0x21)
    twin = Dgram(smd_twin(Dgram(raw), 0x20000, 123456789012))
    assert (twin.size, twin.timestamp, twin.env, twin.src, twin.damage) == (76, 5, 0x0C400001, 0, 0)
    config = Editor.new(TransitionId.Configure, 0)
    config.add_names(smdinfo_names(0x20000))
    read = Dgram(bytes(twin), config=config.config)
    assert [one.value for one in read.fields()] == [123456789012, len(raw)]
    end = b.dgram(b.ENDRUN, b.xtc(9, b"cube"), time=7, src=3)
    assert smd_twin(Dgram(end), 0x20000, 0) == b.dgram(b.ENDRUN, time=7, src=3)
    slow = b.dgram(b.SLOWUPDATE, b.xtc(9, b"epics"), damage=2)
    assert smd_twin(Dgram(slow), 0x20000, 0) == slow


def test_a_smd_configure_is_a_copy_with_smdinfo() -> None:
    configure = b.dgram(b.CONFIGURE, DATA_NAMES, src=2)
    assert (daq_smd_id(2), writer_smd_id()) == (0x2FE, 0x20000)
    twin = smd_twin(Dgram(configure), daq_smd_id(2), 0)
    assert twin[24:-2096] == DATA_NAMES
    assert list(Dgram(twin).config.names) == [1, 0x2FE]  # type: ignore[union-attr]
    with pytest.raises(XtcError, match="smdinfo is taken"):
        smd_twin(Dgram(configure), 1, 0)


def test_reader_takes_the_configure_of_another_file(tmp_path: Path) -> None:
    first = chunks(tmp_path, ("other-c001.xtc2", 1))
    reader = Reader(tmp_path / "other-c001.xtc2", config=Reader(first).config)
    assert [one.fields()[0].value for one in reader] == [1]

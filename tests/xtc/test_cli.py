"""The xtc command: what it prints, its exit codes, and typed JSON into XTC2."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.xtc import builders as b
from tests.xtc.hostile import Hostile, corpus
from xtc import Dgram, XtcError, check_file, cut_file, json_to_dgram
from xtc.cli import main

DOCUMENT: dict[str, Any] = {
    "alg:RO": {"alg:RO": "raw", "doc:RO": "", "version:RO": [1, 2, 3]},
    "detName:RO": "test1",
    "detType:RO": "test",
    "detId:RO": "serial1234",
    "doc:RO": "No comment",
    ":types:": {
        ":enum:": {"q": {"Off": 0, "On": 1}, "r": {"Down": -1, "Up": 1}},
        "aa": "INT8", "ad": "INT64", "ah": "UINT64", "ai": "FLOAT", "aj": "DOUBLE", "ak": "CHARSTR",
        "al": ["INT32", 3], "am": ["INT16", 2, 3], "flag": "UINT8",
        "b": {"b": "INT32", "c": "INT32"},
        "c": {"d": {"e": "FLOAT", "g": "q", "k": "r"}},
    },
    "aa": -5, "ad": -51000303030, "ah": 839394939393, "ai": 52.4, "aj": -39.455, "ak": "A random string!",
    "al": [1, 3, 7], "am": [4, 6, 8, 7, 8, 3], "flag": True,
    "b": [{"c": 72, "b": 33}, {"b": 95, "c": 973}],
    "c": {"d": {"k": -1, "g": 0, "e": 42.49}},
}  # fmt: skip


def changed(path: str, value: object) -> str:
    document = json.loads(json.dumps(DOCUMENT))
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


def test_json_becomes_fields_in_the_references_order() -> None:
    dgram = Dgram(json_to_dgram(json.dumps(DOCUMENT)))
    assert dgram.config is not None
    (names,) = dgram.config.names.values()
    assert (names.names_id, names.detname, names.alg.name, names.alg.version) == (
        0x100,
        "test1",
        "raw",
        (1, 2, 3),
    )
    assert [one.name for one in names.fields] == [
        "Off:q", "On:q", "Down:r", "Up:r", "aa", "ad", "ah", "ai", "aj", "ak", "al", "am",
        "b_0.b", "b_0.c", "b_1.b", "b_1.c", "c.d.e", "c.d.g:q", "c.d.k:r", "flag",
    ]  # fmt: skip
    values = {one.field.label: one.value for one in dgram.fields()}
    assert (values["ak"], values["al"].tolist(), values["am"].shape) == (
        "A random string!",
        [1, 3, 7],
        (2, 3),
    )
    assert (values["b_1.c"], values["c.d.g"], values["c.d.k"], values["flag"]) == (973, 0, -1, 1)
    assert (values["aj"], round(values["ai"], 4)) == (-39.455, 52.4)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("detName:RO", None), (":types:", None), ("alg:RO/version:RO", [1, 2]), ("aa", 200),
        ("aa", 1.0), ("aa", True),
        ("ai", 5), ("ak", 7), ("al", [1, 2]), ("al", [[1, 2, 3]]), ("am", 7), ("al", [1, 2, 1 << 31]),
        ("zz", 1), (":types:/aa", "INT7"), (":types:/aa", {}), (":types:/al", ["CHARSTR", 3]),
        (":types:/al", ["q", 3]),
        (":types:/al", ["INT32", -3]), (":types:/al", []), ("c", 5), ("c/d/g", 0.5), ("detName:RO", "a b"),
        (":types:/:enum:/q/On", "one"), ("detName:RO", 7), ("ah", 1 << 64), ("ad", 10**400), ("ai", 1e39),
        ("detName:RO", "\ud800"), ("ak", "\ud800"),
    ],
)  # fmt: skip
def test_json_that_breaks_the_typing_rules_is_refused(path: str, value: object) -> None:
    with pytest.raises(XtcError):
        json_to_dgram(changed(path, value))


@pytest.mark.parametrize("dims", [[0, (1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1], [0] * 70])
def test_an_array_of_no_elements_and_dims_beyond_all_is_refused(dims: list[int]) -> None:
    document = json.loads(changed(":types:/al", ["UINT8", *dims]))
    document["al"] = []
    with pytest.raises(XtcError, match="dims that an array can have"):
        json_to_dgram(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', '{"a": 1e400}', '{"a": -1e400}',
     f'{{"a": {"9" * 5000}}}', "[" * 100000],
    ids=lambda text: text[:16],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(XtcError):
        json_to_dgram(text)


def test_a_number_too_large_for_the_elements_of_a_json_array_is_refused() -> None:
    document = json.loads(changed(":types:/al", ["FLOAT", 3]))
    document["al"] = [1e39, 1.0, 2.0]
    with pytest.raises(XtcError, match="al: the JSON value does not fit"):
        json_to_dgram(json.dumps(document))


def test_the_references_own_output_is_made_byte_for_byte_but_for_junk(xtc2_data: Path) -> None:
    """Take the values of the file that json2xtc made, write JSON of them, and compare what is read."""
    golden = json.loads((xtc2_data / "golden" / "generated-json2xtc_test.xtc2.json").read_text())
    theirs = Dgram((xtc2_data / golden["file"]).read_bytes())
    kept = {"aa", "ad", "ah", "ak", "al", "am"}
    mine = Dgram(json_to_dgram(json.dumps(DOCUMENT)))
    got = {one.field.label: one for one in mine.fields()}
    for one in theirs.fields():
        if one.field.label in kept:
            assert got[one.field.label].field == one.field
            assert str(got[one.field.label].value) == str(one.value)
    assert (mine.env, mine.timestamp, mine.src) == (theirs.env, theirs.timestamp, theirs.src)


def test_from_json_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "in.json", tmp_path / "out.xtc2"
    source.write_text(json.dumps(DOCUMENT))
    assert main(["from-json", str(source), str(target)]) == 0
    assert main(["dump", str(target)]) == 0
    assert "test1[0].raw.c.d.g = 0 (Off)" in capsys.readouterr().out
    source.write_text(changed("aa", 200))
    assert main(["from-json", str(source), str(target)]) == 1
    assert "out of range" in capsys.readouterr().err


def test_usage_and_missing_files_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.xtc2")
    for arguments in (
        [],
        ["ls"],
        ["nonsense"],
        ["ls", missing],
        ["dump", missing],
        ["check", missing],
        ["ls", str(tmp_path)],
    ):
        assert main(arguments) == 2, arguments
    assert "none.xtc2" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_dump_says_where_the_bytes_go_wrong_and_keeps_its_json_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.xtc2"
    path.write_bytes(b.small_file(1) + b.dgram(b.L1ACCEPT, extent=0))
    assert main(["dump", "--json", str(path)]) == 1
    caught = capsys.readouterr()
    said = json.loads(caught.out)
    assert (len(said["dgrams"]), said["ndgrams"]) == (2, 2)
    assert said["error"] in caught.err
    path.write_bytes(b.small_file(1)[:-1])
    assert main(["dump", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["truncated_tail"] == {"offset": 2644, "have": 111, "need": 112}
    assert main(["ls", str(path)]) == 0
    assert "cut off: 111 of 112 bytes" in capsys.readouterr().out


def test_check_lists_all_problems_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.xtc2", tmp_path / "bad.xtc2"
    good.write_bytes(b.small_file(2))
    stray = b.shapes_data(99, [], b"")
    short = b.shapes_data(0x101, [b.shape(9, 9), b.shape(4)], b"??")
    names = b.names(7, [("n", b.UINT8, 5)]) + b.names(8, [("n", b.UINT8, 0)], num_arrays=3)
    events = b.dgram(b.L1ACCEPT, stray + short + b.names(9, [])) + b.dgram(14)
    bad.write_bytes(b.dgram(b.CONFIGURE, names) + b.small_file(0) + events + b"tail")
    assert main(["check", str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check", str(bad), str(good)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "names",
        "names",
        "time",
        "names",
        "data",
        "data",
        "service",
        "tail",
    ]
    assert all(line.startswith(f"{bad}: 0x") for line in lines)
    assert main(["check", str(bad), str(tmp_path / "none.xtc2")]) == 2


def said_of(raw: bytes, folder: Path) -> list[str]:
    path = folder / "a.xtc2"
    path.write_bytes(raw)
    return [str(one).removeprefix(f"{path}: ") for one in check_file(path)]


def test_check_names_a_top_xtc_that_is_no_parent_and_reads_on(tmp_path: Path) -> None:
    raw = bytearray(b.small_file(2))
    raw[2644 + 18] = b.NAMES
    assert said_of(bytes(raw), tmp_path) == [
        "0xa66: type: the top Xtc is no Parent; found type 4 (in L1Accept dgram 1)"
    ]


def test_check_names_a_time_that_goes_back_within_a_run(tmp_path: Path) -> None:
    head = b.small_file(0)
    steps = b.dgram(b.BEGINSTEP, time=7) + b.dgram(b.BEGINSTEP, time=7)
    run = b.dgram(b.BEGINRUN, time=7) + steps + b.dgram(b.ENDRUN, time=9)
    assert said_of(head + run + run + head + run, tmp_path) == []
    back = b.dgram(b.L1ACCEPT, time=5 << 32 | 6) + b.dgram(b.L1ACCEPT, time=9) + b.dgram(b.L1ACCEPT, time=10)
    assert said_of(head + back, tmp_path) == [
        "0xa6c: time: the time goes back from 5.000000006 to 0.000000009 (in L1Accept dgram 2)"
    ]


JUNK = {
    "zeros": (bytes(100), "0xad0: extent: an extent is out of range; found 0; "),
    "ones": (b"\xff" * 100, "0xad0: extent: an extent is out of range; found 4294967295; "),
    "text": (b"text" * 25, "0xac4: tail: the last dgram is cut off: 100 of 1954047360 bytes; "),
    "a part of a header": (bytes(9), "0xac4: tail: the last dgram is cut off: 9 of 24 bytes; "),
}


@pytest.mark.parametrize("kind", JUNK)
def test_check_says_where_the_whole_dgrams_end_and_cut_makes_a_file_of_them(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = b.small_file(1)
    junk, said = JUNK[kind]
    assert said_of(good + junk, tmp_path) == [f"{said}the dgrams before it, 2, are whole and end at 0xac4"]
    source, target = tmp_path / "a.xtc2", tmp_path / "b.xtc2"
    assert main(["cut", str(source), str(target)]) == 0
    assert target.read_bytes() == good
    assert list(check_file(target)) == []
    told = capsys.readouterr().out
    assert f"{target}: 2 dgrams, 2756 bytes\nleft out {len(junk)} bytes from byte 0xac4 on: " in told
    assert source.read_bytes() == good + junk


def test_cut_ends_before_a_dgram_whose_inner_extents_do_not_add_up(tmp_path: Path) -> None:
    broken = b.dgram(b.L1ACCEPT, b.xtc(b.SHAPES_DATA, bytes(40), src=0x101))
    source, target = tmp_path / "a.xtc2", tmp_path / "b.xtc2"
    source.write_bytes(b.small_file(3) + broken + b.small_file(1))
    assert main(["cut", str(source), str(target)]) == 0
    assert target.read_bytes() == b.small_file(3)


def test_cut_copies_a_file_that_is_whole_and_never_writes_over_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.xtc2", tmp_path / "b.xtc2"
    source.write_bytes(b.small_file(3))
    assert main(["cut", str(source), str(target)]) == 0
    assert capsys.readouterr().out == f"{target}: 4 dgrams, 2980 bytes\n"
    assert target.read_bytes() == source.read_bytes()
    assert main(["cut", str(source), str(source)]) == 2
    assert main(["cut", str(source), str(target)]) == 2
    assert source.read_bytes() == b.small_file(3)


def test_cut_leaves_no_part_of_a_file_that_it_could_not_write(tmp_path: Path) -> None:
    source, target = tmp_path / "a.xtc2", tmp_path / "b.xtc2"
    source.write_bytes(b.small_file(3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            cut_file(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not target.exists()


@pytest.mark.parametrize("raw", [b"", b"junk", bytes(100)])
def test_cut_makes_no_file_where_no_dgram_is_whole(raw: bytes, tmp_path: Path) -> None:
    source, target = tmp_path / "a.xtc2", tmp_path / "b.xtc2"
    source.write_bytes(raw)
    assert main(["cut", str(source), str(target)]) == 1
    assert not target.exists()


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.name)
def test_check_finds_a_problem_in_every_hostile_file_that_a_reader_refuses(
    case: Hostile, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.xtc2"
    path.write_bytes(case.raw)
    problems = list(check_file(path))
    assert len(problems) < 500
    assert all(0 <= one.offset < len(case.raw) for one in problems)
    if case.verdict != "fine":
        assert problems
    wanted = 1 if case.verdict == "error" else 0
    assert main(["dump", str(path)]) == wanted
    assert main(["dump", "--json", str(path)]) == wanted
    assert main(["ls", str(path)]) <= wanted


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    path = tmp_path / "a.xtc2"
    path.write_bytes(b.small_file(3000))
    code = "import sys; from xtc.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "dump", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"")

"""Real files: what we say of each is what psana said, and our writer makes them again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import goldens
from tests.xtc.reencode import reencode
from xtc import Config, Dgram, Reader, TransitionId, TypeId, find_smdinfo, smd_twin
from xtc.cli import main


@pytest.fixture(params=goldens())
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def open_golden(xtc2_data: Path, golden: dict[str, Any]) -> Iterator[Dgram]:
    external = golden["external_config"]
    config = Reader(xtc2_data / external).config if external else None
    return iter(Reader(xtc2_data / golden["file"], config=config))


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(arguments)
    return code, out.getvalue()


def test_dump_agrees_with_the_golden_in_every_field(
    golden: dict[str, Any], xtc2_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(xtc2_data)
    code, text = run("dump", "--json", golden["file"])
    assert code == 0
    said = json.loads(text)
    for config in said["configs"]:
        for names in config["names"]:
            assert names.pop("names_ids")
    for key, wanted in golden.items():
        assert said[key] == wanted, key


BACKWARDS = """\
{0}: 0x8c70: time: the time goes back from 7.000000009 to 7.000000007 (in EndStep dgram 10)
{0}: 0x8c88: time: the time goes back from 7.000000007 to 7.000000005 (in EndRun dgram 11)
"""


def test_check_finds_nothing_wrong_but_what_is(golden: dict[str, Any], xtc2_data: Path) -> None:
    path = xtc2_data / golden["file"]
    wanted = (1, BACKWARDS.format(path)) if path.name == "dgramedit-scratch.xtc2" else (0, "")
    assert run("check", str(path)) == wanted


def without_names(text: str) -> int:
    return sum(1 for line in text.split("\n") if line and not line.startswith("   Names"))


def test_other_commands_read_it(golden: dict[str, Any], xtc2_data: Path) -> None:
    code, listed = run("ls", str(xtc2_data / golden["file"]))
    assert code == 0
    assert without_names(listed) == golden["ndgrams"]
    code, dumped = run("dump", str(xtc2_data / golden["file"]))
    assert code == 0
    assert without_names(dumped) == golden["ndgrams"] + sum(len(one["fields"]) for one in golden["dgrams"])


def test_our_writer_makes_every_dgram_again(golden: dict[str, Any], xtc2_data: Path) -> None:
    again_config: Config | None = None
    count = 0
    for dgram in open_golden(xtc2_data, golden):
        own = None if dgram.service == TransitionId.Configure else again_config or dgram.config
        again = Dgram(reencode(dgram), config=own)
        again_config = again.config
        assert same_structure(again, dgram)
        assert same_values(again, dgram)
        count += 1
    assert count == golden["ndgrams"]


def same_structure(one: Dgram, other: Dgram) -> bool:
    def outline(dgram: Dgram) -> object:
        return [
            (xtc.src, xtc.damage, xtc.type, xtc.parent) for xtc in dgram.xtcs() if xtc.type != TypeId.Shapes
        ]

    def header(dgram: Dgram) -> object:
        return (dgram.timestamp, dgram.env, dgram.src, dgram.damage, dgram.contains)

    return outline(one) == outline(other) and header(one) == header(other)


def same_values(one: Dgram, other: Dgram) -> bool:
    mine, theirs = one.fields(), other.fields()
    return len(mine) == len(theirs) and all(
        (a.names, a.field, a.damage) == (b.names, b.field, b.damage) and same_value(a.value, b.value)
        for a, b in zip(mine, theirs, strict=True)
    )


def same_value(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(
            one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and bool(one == other or (one != one and other != other))


@pytest.mark.parametrize("name", ["intg_det/xpptut15-r0014-s000-c000", "fakesteps/xpptut15-r0014-s001-c000"])
def test_smd_twins_are_those_that_the_reference_wrote(name: str, xtc2_data: Path) -> None:
    big = xtc2_data / f"{name}.xtc2"
    small = Reader(big.parent / "smalldata" / f"{big.stem}.smd.xtc2")
    assert small.config is not None
    smdinfo = find_smdinfo(small.config)
    assert smdinfo is not None
    for mine, theirs in zip(Reader(big), small, strict=True):
        twin = smd_twin(mine, smdinfo.names_id, mine.offset)
        if mine.service == TransitionId.Configure:
            assert Dgram(twin).config.names == theirs.config.names  # type: ignore[union-attr]
            assert len(twin) == theirs.size
        else:
            assert twin == bytes(theirs)

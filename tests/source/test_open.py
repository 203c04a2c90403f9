"""Sources are found by name, file and entry point; the page for who writes one holds one that works."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.source import END, SourceError, SourceOptions, open_source, source_names
from drp.source.replay import Replay
from drp.source.sim import Simulator
from tests.xtc import hostile
from xtc import Dgram, TransitionId, encode_dgram

PAGE = Path(__file__).resolve().parents[2] / "docs" / "write_a_source.md"
CONFIGURE = encode_dgram(TransitionId.Configure, 1)


def test_the_simulator_has_a_name() -> None:
    assert isinstance(open_source("sim:digitizer", SourceOptions(events=1)), Simulator)
    assert {"sim", "xtc2"} <= set(source_names())


def test_a_file_is_opened_by_its_path_or_as_xtc2(tmp_path: Path) -> None:
    path = tmp_path / "a.xtc2"
    path.write_bytes(CONFIGURE)
    for text in (str(path), f"xtc2:{path}", [str(path)]):
        assert isinstance(open_source(text), Replay)


def test_a_file_may_have_the_name_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sim").write_bytes(CONFIGURE)
    assert isinstance(open_source("sim"), Replay)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("simm", "did you mean sim"),
        ("nothing-like-it", "Known are"),
        ("xtc2", "needs a file"),
        ("/no/such/folder/a.xtc2", "no folder"),
        ([], "no source"),
        (["sim", "sim"], "sim: it cannot be read together with others"),
        (["a.xtc2", "sim:jungfrau"], "sim:jungfrau: it cannot be read together with others"),
        (str(Path(__file__).parent), "it is a folder. Name the files in it"),
    ],
)
def test_what_cannot_be_opened_says_what_could(text: str | list[str], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e10])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(SourceError, match="rate"):
        SourceOptions(rate_hz=rate)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the page's source, with its entry point, as pip would: a module and a dist-info."""
    page = PAGE.read_text()
    found = {kind: re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml")}
    assert found["python"] is not None
    assert found["toml"] is not None
    folder = tmp_path / "site"
    info = folder / "npyplay-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "npyplay.py").write_text(found["python"][1])
    declared = found["toml"][1].replace('[project.entry-points."drp.sources"]', "[drp.sources]")
    (info / "entry_points.txt").write_text(declared.replace('"', ""))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: npyplay\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "npyplay", raising=False)
    return folder


def test_the_source_of_the_page_plays_its_frames(package: Path, tmp_path: Path, drain: Any) -> None:
    frames = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    np.save(tmp_path / "frames.npy", frames)
    assert "npy" in source_names()
    source = open_source(f"npy:{tmp_path / 'frames.npy'}")
    basket = drain(source)
    assert basket.services == [2, 12, 12, 12]
    assert basket.pulse_ids == [0, 1, 2, 3]
    config = Dgram(basket.dgrams[0]).config
    for frame, raw in zip(frames, basket.dgrams[1:], strict=True):
        assert np.array_equal(Dgram(raw, config=config).fields()[0].value, frame)
    assert source.max_event_bytes == len(basket.dgrams[1])
    assert source.fill(basket) == END
    assert source.describe() == "3 frames of a NumPy file"
    source.close()


def test_the_source_of_the_page_keeps_a_rate_and_waits_for_slots(
    package: Path, tmp_path: Path, clock: Any, make_basket: Any
) -> None:
    np.save(tmp_path / "frames.npy", np.zeros((5, 2, 2), np.uint16))
    source = open_source(f"npy:{tmp_path / 'frames.npy'}", SourceOptions(rate_hz=10, clock_ns=clock))
    assert source.fill(make_basket(transitions=0)) == 0
    assert source.fill(make_basket(events=0)) == 1
    assert source.fill(make_basket()) == 1
    assert source.wait_s() == pytest.approx(0.1)
    clock.forward(0.2)
    assert source.fill(make_basket(events=1)) == 1


def test_the_source_of_the_page_refuses_other_arrays(package: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", np.zeros((5, 2)))
    for name in ("frames.npy", "missing.npy"):
        with pytest.raises(SourceError, match=name):
            open_source(f"npy:{tmp_path / name}")


def test_the_code_of_the_page_is_of_about_fifty_lines(package: Path) -> None:
    code = (package / "npyplay.py").read_text().split("\n")
    assert sum(1 for line in code if line.strip()) <= 65


def test_an_entry_point_that_cannot_be_loaded_is_named(package: Path) -> None:
    (package / "npyplay.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(SourceError, match="a_module_that_is_not_there"):
        open_source("npy:frames.npy")


@pytest.mark.parametrize("case", hostile.corpus(), ids=lambda case: case.name)
def test_a_hostile_file_is_refused_or_given_as_it_is(
    case: hostile.Hostile, tmp_path: Path, drain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.xtc2"
    path.write_bytes(case.raw)
    for loop in (False, True):
        try:
            with caplog.at_level(logging.WARNING):
                source = Replay([path], SourceOptions(loop=loop))
        except SourceError as error:
            assert "a.xtc2" in str(error)
            continue
        basket = drain(source, events=3)
        if not loop:
            assert case.raw.startswith(b"".join(basket.dgrams))
            assert (case.verdict == "tail") == bool(source.truncated)

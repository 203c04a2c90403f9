"""Files as LCLS has them, of our own writing, one in each dialect: read, started, and taken through a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.demo import Started, check_records
from tests.support.drp_command import DrpCommand, write_script
from tests.support.drp_fixtures import drp

__all__ = ["drp"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
FILES = Path(__file__).with_name("files")
EVENTS = 500


@pytest.fixture
def here(folder: Path, drp: Callable[..., DrpCommand]) -> Iterator[Path]:
    """A folder with everything that the files name."""
    inside = folder / "made"
    inside.mkdir()
    command = drp(
        write_script(inside), "--source", "sim:digitizer:64", "-n", "1200", "-W", "1", output=inside
    )
    assert command.wait(60) == 0, command.log
    (recorded,) = [path for path in inside.rglob("*-c000.xtc2") if "smalldata" not in str(path)]
    shutil.copy(recorded, folder / "run106.xtc2")
    shutil.rmtree(inside)
    (folder / "reduce.py").write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"
    )
    for name in ("emulated.cnf", "production.cnf"):
        shutil.copy(FILES / name, folder / name)
    shutil.rmtree(folder / "run", ignore_errors=True)
    yield folder


@pytest.mark.parametrize(
    ("name", "instrument", "platform", "words"),
    [("emulated.cnf", "tst:1", 5, ()), ("production.cnf", "tst", 2, ("--here",))],
)
def test_a_file_of_lcls_is_started_and_takes_a_run(
    here: Path, name: str, instrument: str, platform: int, words: tuple[str, ...]
) -> None:
    partition = Started(here, here / name, "own", instrument, platform)
    try:
        out = partition.start(*words)
        assert "skipped" in out
        assert "failed" not in out
        partition.record()
        partition.state("running")
        partition.await_events(EVENTS)
        partition.state("unallocated")
    finally:
        partition.call("procmgr", "stop", str(partition.file))
    ledger = partition.ledger()
    assert ledger["closes"], ledger
    check_records(partition, ledger["issued"][str(platform)])

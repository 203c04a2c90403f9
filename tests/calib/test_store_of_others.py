"""A store that another user keeps: read without being written to, or told plainly that it cannot be."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_checks import FOUR, pedestals

from calib import StoreError
from calib.store import engine, open_store
from tests.support.drp_fixtures import folder_in_memory
from tests.support.intruder import as_nobody

pytestmark = pytest.mark.timeout(60)
of_another = pytest.mark.skipif(os.geteuid() != 0, reason="not root, who alone can become another user")


@pytest.fixture
def path() -> Iterator[Path]:
    """A store of ours with two constants, that others may read in a folder that they may enter; its name means something in a URI."""
    with folder_in_memory(0o755) as folder:
        path = folder / "the store? 100%.db"
        with open_store(str(path), create=True) as store:
            store.put(FOUR, [pedestals(run=1), pedestals(1, run=2)])
        path.chmod(0o644)
        yield path


def tried(call: Callable[[], object]) -> object:
    """Call as nobody; an error is returned as text, and what was logged comes after what was returned."""
    said: list[str] = []

    def work() -> object:
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        engine.LOG.addHandler(handler)
        engine.LOG.setLevel(logging.INFO)
        try:
            return call(), said
        except StoreError as error:
            return str(error), said

    return as_nobody(work)


def runs(path: Path) -> list[int]:
    """The runs of all there is; the constants of the last are read too."""
    with open_store(str(path)) as store:
        assert store.find(FOUR, "exp", 9)["pedestals"].run == 2
        return [record.run for record in store.history()]


@of_another
@pytest.mark.parametrize(("file", "folder"), [(0o644, 0o755), (0o666, 0o755), (0o644, 0o777)])
def test_what_this_user_cannot_write_is_read_as_it_lies_and_that_is_told(
    path: Path, file: int, folder: int
) -> None:
    path.chmod(file)
    path.parent.chmod(folder)
    found, said = tried(lambda: runs(path))  # type: ignore[misc]
    assert found == [1, 2]
    assert said == [f"{path}: this user cannot write it, or its folder; it is read as it lies"]
    assert list(path.parent.iterdir()) == [path]


@of_another
def test_what_is_only_in_the_log_of_who_writes_is_read_too(path: Path) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE calib_documents SET run = 2 WHERE run = 1")
        assert tried(lambda: runs(path)) == [[2, 2], []]
    finally:
        writer.close()


@of_another
def test_who_may_not_write_is_told_so(path: Path) -> None:
    def put() -> object:
        with open_store(str(path)) as store:
            return len(store.put(FOUR, [pedestals()]))

    said, _ = tried(put)  # type: ignore[misc]
    assert "readonly" in said
    assert "ask their owner" in said
    assert runs(path) == [1, 2]


@of_another
def test_who_may_not_read_is_told_what_to_ask_for(path: Path) -> None:
    path.chmod(0o600)
    said, _ = tried(lambda: runs(path))  # type: ignore[misc]
    assert said.startswith(f"{path}: this user may not read it. ")
    assert "calib serve" in said
    path.chmod(0o644)
    path.parent.chmod(0o700)
    said, _ = tried(lambda: runs(path))  # type: ignore[misc]
    assert said.startswith(f"{path}: ")


def test_what_is_written_to_while_it_is_read_as_it_lies_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.os, "access", lambda _path, mode: mode == os.R_OK)
    with open_store(str(path)) as store:
        assert len(store.history()) == 2
    opened = engine.open_engine(engine.parse_url(str(path)), create=False)
    writer = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(StoreError, match="written to while it was read"), engine.reading(opened):
        writer.execute("DELETE FROM calib_documents")
        writer.close()
    opened.dispose()

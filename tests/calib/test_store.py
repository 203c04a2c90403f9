"""A store in a SQLite file: what every store does, and what is particular to a file."""

import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_checks import CHECKS, FOUR, Opener, pedestals

from calib import Constant, DetectorId, StoreError, open_source
from calib.store import Store, default_url, engine, open_store
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "constants" / "calib.sqlite"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_file_keeps_constants(check: Callable[[Opener], None], path: Path) -> None:
    check(lambda: open_store(str(path), create=True))


def test_file_and_folder_are_of_this_user_alone(path: Path) -> None:
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals()])
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_making_a_store_leaves_nothing_else_beside_it(path: Path) -> None:
    open_store(str(path), create=True).close()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_several_processes_may_make_it_at_once(path: Path) -> None:
    code = "import sys; from calib.store import open_store; open_store(sys.argv[1], create=True).close()"
    makers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)})
        for _ in range(4)
    ]
    assert [maker.wait(30) for maker in makers] == [0] * 4
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_reading_makes_no_store(path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store.*calib put"):
        open_source(str(path))
    assert not path.parent.exists()


def test_a_path_and_a_url_open_the_same_store(path: Path) -> None:
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals()])
    source = open_source(f"sqlite:///{path}")
    assert isinstance(source, Store)
    assert source.url == str(path)
    assert set(source.find(FOUR, "exp", 1)) == {"pedestals"}
    source.close()
    source.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"nothing of the kind" * 100, "not a database"), (b"", r"is empty.*remove it, then calib put")],
)
def test_another_file_is_refused(path: Path, content: bytes, reason: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=reason) as failure:
        open_store(str(path))
    assert str(path) in str(failure.value)
    assert pickle.loads(pickle.dumps(failure.value)).where == str(path)


def test_a_database_of_something_else_is_refused_with_what_does_help(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE recipes (name TEXT)")
    file.close()
    with pytest.raises(StoreError, match="Name another file"):
        open_store(str(path), create=True)


ROOTS = "SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"


@pytest.mark.parametrize(
    "of", ["calib_detectors", "calib_documents", "calib_payloads", "calib_payload_parts"]
)
def test_a_put_into_a_damaged_store_is_an_error_and_adds_nothing(path: Path, of: str) -> None:
    """Each page that a table or one of its indexes begins with, overwritten, one at a time."""
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals()])
    whole = path.read_bytes()
    with sqlite3.connect(path) as file:
        pages = [page for name, page in file.execute(ROOTS) if name == of or f"_{of}_" in name]
    file.close()
    assert pages
    for page in pages:
        start = (page - 1) * engine.PAGE_BYTES
        path.write_bytes(whole[:start] + b"\xa5" * engine.PAGE_BYTES + whole[start + engine.PAGE_BYTES :])
        with pytest.raises(StoreError, match="Take a copy of the store"), open_store(str(path)) as store:
            store.put(FOUR, [pedestals(3)])
        damaged = path.read_bytes()
        path.write_bytes(
            damaged[:start] + whole[start : start + engine.PAGE_BYTES] + damaged[start + engine.PAGE_BYTES :]
        )
        with open_store(str(path)) as store:
            assert len(store.history()) == 1


def test_a_store_of_another_format_is_refused(path: Path) -> None:
    open_store(str(path), create=True).close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE calib_store SET format = 99")
    file.close()
    with pytest.raises(StoreError, match="format 99"):
        open_store(str(path))


@pytest.mark.parametrize("url", ["mysql://host/base", "sqlite://", "://", "postgresql+psycopg2:///x:y:z@"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        open_store(url)


def test_a_password_is_not_told() -> None:
    with pytest.raises(StoreError) as failure:
        open_store("postgresql://me:secret@127.0.0.1:1/base")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE calib_payload_parts SET data = zeroblob(length(data))",
        "UPDATE calib_payload_parts SET data = zeroblob(length(data) - 1)",
        "UPDATE calib_payload_parts SET data = zeroblob(length(data) + 1)",
        "DELETE FROM calib_payload_parts",
        "UPDATE calib_documents SET shape = '[3, 4, 5, 2]'",
        "UPDATE calib_documents SET shape = '[7]'",
        "UPDATE calib_documents SET dtype = '<i4'",
        "UPDATE calib_documents SET dtype = 'O'",
        "UPDATE calib_documents SET dtype = ''",
        "UPDATE calib_documents SET size_bytes = 1 << 40",
        "UPDATE calib_documents SET size_bytes = -1",
    ],
)
def test_a_changed_payload_is_never_given_out(path: Path, damage: str) -> None:
    with open_store(str(path), create=True) as store:
        (record,) = store.put(FOUR, [pedestals()])
    with sqlite3.connect(path) as file:
        file.execute(damage)
    file.close()
    with open_store(str(path)) as store:
        with pytest.raises(StoreError, match=rf"pedestals.*calib rm {record.id}"):
            store.find(FOUR, "exp", 1)
        store.remove([record.id])
        assert store.find(FOUR, "exp", 1) == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE calib_payload_parts SET data = zeroblob(length(data))",
        "DELETE FROM calib_payload_parts",
    ],
)
def test_a_damaged_payload_is_mended_by_putting_it_again(path: Path, damage: str) -> None:
    with open_store(str(path), create=True) as store:
        (first,) = store.put(FOUR, [pedestals()])
    with sqlite3.connect(path) as file:
        file.execute(damage)
    file.close()
    with open_store(str(path)) as store:
        store.put(FOUR, [pedestals(run=2)])
        assert np.array_equal(store.get(first.id).value, pedestals().value)


def test_readers_are_not_held_up_by_a_writer_and_see_what_was_before(path: Path) -> None:
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals(1)])
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM calib_documents")
        assert set(store.find(FOUR, "exp", 1)) == {"pedestals"}
        writer.execute("ROLLBACK")
        writer.close()


def test_a_writer_that_is_killed_leaves_the_store_as_it_was_after_its_last_put(path: Path) -> None:
    """Kill writers with -9 at different moments of a put, while a reader reads; each put is whole or not there."""
    detector = DetectorId("cam", "jungfrau", ("a", "b"))
    open_store(str(path), create=True).close()
    for round_, delay_s in enumerate([0.0, 0.002, 0.005, 0.01, 0.02, 0.03]):
        experiment = f"round{round_}"
        writer = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "support" / "store_writer.py", str(path), experiment],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        done = 0
        for line in writer.stdout:
            word, run = line.split()
            done = int(run) if word == "done" else done
            if (word, run) == ("begun", "3"):
                ended = time.monotonic() + delay_s
                while time.monotonic() < ended:
                    with open_store(str(path)) as reader:
                        assert_whole(reader, detector, experiment)
                writer.kill()
                break
        told = writer.stdout.read()
        writer.stdout.close()
        writer.wait(20)
        done = max([done, *(int(line.split()[1]) for line in told.splitlines() if line.startswith("done"))])
        with open_store(str(path)) as store:
            assert assert_whole(store, detector, experiment) in (done, done + 1)
    with open_store(str(path)) as store:
        store.put(FOUR, [pedestals()])
        assert set(store.find(FOUR, "exp", 1)) == {"pedestals"}
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        orphans = (
            "SELECT count(*) FROM calib_payloads WHERE digest NOT IN (SELECT digest FROM calib_documents)"
        )
        assert file.execute(orphans).fetchone() == (0,)
    file.close()


def assert_whole(store: Store, detector: DetectorId, experiment: str) -> int:
    """Check that the latest put is there with both its constants, and return its run, 0 if there is none."""
    mine = [record.ctype for record in store.history(experiment=experiment)]
    if not mine:
        return 0
    found = store.find(detector, experiment, 0)
    values = {ctype: one.value for ctype, one in found.items()}
    run = found["pedestals"].run
    assert found["pixel_rms"].run == run
    assert all(np.all(value == run) for value in values.values())
    return run


def test_a_writer_that_holds_on_is_told_and_can_be_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(str(path), create=True).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(engine, "BUSY_S", 0.05)
    with open_store(str(path)) as store:
        with pytest.raises(StoreError, match="Another process was writing"):
            store.put(FOUR, [pedestals()])
        holder.execute("COMMIT")
        holder.close()
        assert len(store.put(FOUR, [pedestals()])) == 1


def test_without_being_told_the_store_is_a_file_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRP_CALIB", "sqlite:////somewhere/else")
    assert default_url() == "sqlite:////somewhere/else"
    monkeypatch.delenv("DRP_CALIB")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_url() == str(tmp_path / "drp" / "calib.sqlite")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_url() == str(tmp_path / ".local" / "share" / "drp" / "calib.sqlite")


def test_a_full_disk_is_told_and_keeps_nothing(path: Path) -> None:
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals()])
    limited = (
        "import resource, signal, sys, numpy as np\n"
        "from calib import Constant, DetectorId\n"
        "from calib.store import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "one = DetectorId('cam', 'jungfrau', ('a',))\n"
        "try:\n"
        "    open_store(sys.argv[1]).put(one, [Constant.make('pedestals', np.ones((9, 1, 512, 512)), ('a',))])\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.startswith("StoreError")
    with open_store(str(path)) as store:
        assert len(store.history()) == 1
        store.put(DetectorId("cam", "jungfrau", ("a",)), [Constant.make("geometry", "x")])

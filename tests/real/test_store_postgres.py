"""A store on a real PostgreSQL server, started by the test."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import postgres_server
import pytest
from calib_command import served
from sqlalchemy import create_engine, text
from store_checks import CHECKS, FOUR, Opener, pedestals

from calib import Constant, DetectorId, StoreError, open_source
from calib.service import Service
from calib.store import open_store
from tests.conftest import ROOT

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a database on a server of our own."""
    folder = postgres_server.programs()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed; .ci/run installs Debian's postgresql")
    with postgres_server.running(folder) as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    """The server's database, emptied."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_server_keeps_constants(check: Callable[[Opener], None], url: str) -> None:
    check(lambda: open_store(url, create=True))


def test_an_empty_database_is_no_store(url: str) -> None:
    with pytest.raises(StoreError, match="no store of constants"):
        open_source(url)


def test_a_database_that_is_not_there_is_told(server: str) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        open_source(server.replace("/calib?", "/other?"))


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(StoreError, match="server"):
        open_source("postgresql://me@/calib?host=/nowhere/at/all")


def test_several_processes_may_make_the_tables_at_once(url: str) -> None:
    code = "import sys; from calib.store import open_store; open_store(sys.argv[1], create=True).close()"
    makers = [
        subprocess.Popen([sys.executable, "-c", code, url], env=os.environ | {"PYTHONPATH": str(ROOT)})
        for _ in range(3)
    ]
    assert [maker.wait(60) for maker in makers] == [0] * 3
    open_source(url).close()


def test_a_writer_that_is_killed_leaves_whole_puts_only(url: str) -> None:
    detector = DetectorId("cam", "jungfrau", ("a", "b"))
    open_store(url, create=True).close()
    for round_ in range(3):
        experiment = f"round{round_}"
        writer = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "support" / "store_writer.py", url, experiment],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        for line in writer.stdout:
            if line == "begun 3\n":
                break
        writer.kill()
        told = writer.stdout.read()
        writer.stdout.close()
        writer.wait(20)
        done = max([2, *(int(line.split()[1]) for line in told.splitlines() if line.startswith("done"))])
        with open_store(url) as store:
            store.put(FOUR, [pedestals()])  # waits until the server has noticed the death
            found = store.find(detector, experiment, 0)
            run = found["pedestals"].run
            assert run in (done, done + 1)
            assert found["pixel_rms"].run == run
            assert all(np.all(one.value == run) for one in found.values())


def test_a_large_set_comes_back_whole(url: str) -> None:
    panels = tuple(f"panel{number}" for number in range(16))
    value = np.random.default_rng(3).random((3, 16, 256, 1024), np.float32)
    detector = DetectorId("cam", "jungfrau", panels)
    with open_store(url, create=True) as store:
        store.put(detector, [Constant.make("pedestals", value, panels)])
        part = store.find(DetectorId("cam", "jungfrau", panels[5:7]), None, 1)["pedestals"]
    assert np.array_equal(part.value, value[:, 5:7])


def test_a_server_that_goes_away_is_told_and_may_come_back(url: str) -> None:
    with open_store(url, create=True) as store:
        (record,) = store.put(FOUR, [pedestals()])
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            parts = store.payload(record.id)
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            connection.execute(text(others))
            assert b"".join(parts) == np.asarray(pedestals().value).tobytes()
            connection.execute(text("ALTER TABLE calib_payload_parts RENAME TO elsewhere"))
            with pytest.raises(StoreError):
                store.get(record.id)
            connection.execute(text("ALTER TABLE elsewhere RENAME TO calib_payload_parts"))
        engine.dispose()
        assert store.get(record.id).digest == record.digest


def test_a_service_gives_what_a_server_keeps(url: str, tmp_path: Path) -> None:
    with open_store(url, create=True) as store:
        store.put(FOUR, [pedestals()])
    with served(tmp_path, url) as one:
        service = Service(one.url, cache=tmp_path / "cache")
        assert service.find(FOUR, "exp", 1)["pedestals"].digest == pedestals().digest
        service.close()

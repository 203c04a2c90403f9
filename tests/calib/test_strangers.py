"""Another user of the machine: cannot read or change the store, the token or the cache, and cannot write through the service."""

import http.client
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from calib_command import served
from intruder import on_file, succeed
from store_checks import FOUR, pedestals

from calib.service import Service
from calib.store import open_store

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that anybody may enter, so that only our own modes keep others out."""
    path = Path(tempfile.mkdtemp(prefix="calib-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_stranger_gets_nothing_but_what_anybody_may_read(folder: Path) -> None:
    path = folder / "calib.sqlite"
    mask = os.umask(0)
    try:
        with open_store(str(path), create=True) as store:
            store.put(FOUR, [pedestals()])
        with served(folder, path, "--token-file", folder / "token") as one:
            client = Service(one.url, cache=folder / "cache")
            client.find(FOUR, "exp", 1)
            with open_store(str(path)) as held:
                held.put(FOUR, [pedestals(3)])  # the log beside the file is there while a writer is
                files = [
                    *folder.glob("calib.sqlite*"),
                    folder / "token",
                    folder / "cache",
                    *(folder / "cache").iterdir(),
                ]
                attempts = {name: attempt for file in files for name, attempt in on_file(file).items()}

                def write(headers: dict[str, str]) -> None:
                    link = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
                    link.request("POST", "/calib_ws/import", body=b"x", headers=headers)
                    if link.getresponse().status in (401, 403):
                        raise PermissionError

                attempts["write"] = lambda: write({})
                attempts["write with a guess"] = lambda: write({"Authorization": "Bearer " + "a" * 43})
                assert len(files) >= 4
                assert succeed(attempts) == []
            assert np.array_equal(client.find(FOUR, "exp", 1)["pedestals"].value, pedestals(3).value)
            client.close()
    finally:
        os.umask(mask)

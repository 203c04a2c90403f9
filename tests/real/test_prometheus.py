"""A real Prometheus (Debian: prometheus) finds our processes by their files, and answers every query of the dashboards."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dashboards import everything, expressions
from tests.support.drp_fixtures import folder_in_memory

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(90),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="no prometheus: apt-get install prometheus"
    ),
]

LIMIT_S = 40.0
CONFIG = """
global: {{scrape_interval: 500ms}}
scrape_configs:
  - job_name: drp
    file_sd_configs: [{{files: [{targets}/drpmon_*.json], refresh_interval: 1s}}]
"""


@pytest.fixture
def server() -> Iterator[tuple[str, Path]]:
    """The address of a Prometheus, and the folder that it looks for targets in."""
    with folder_in_memory() as folder, socket.socket() as free:
        targets = folder / "targets"
        targets.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(targets=targets))
        subprocess.run(["promtool", "check", "config", config], check=True, timeout=30, capture_output=True)
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield address, targets
        finally:
            process.terminate()
            process.wait(30)


def ask(address: str, expression: str) -> list[Any]:
    """What it answers now; nothing where it does not answer yet."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []
        pytest.fail(f"{expression}: {error.read().decode()}")
    except OSError:
        return []
    result: list[Any] = said["data"]["result"]
    return result


def test_every_query_of_the_dashboards_is_answered(server: tuple[str, Path]) -> None:
    address, targets = server
    with everything(targets):
        left = expressions()
        deadline = time.monotonic() + LIMIT_S
        while left:
            left = [one for one in left if not ask(address, one[1])]
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        (rate,) = ask(address, 'rate(TEB_EvtCt{instrument="tst",alias="teb0"}[4s])')
        assert float(rate["value"][1]) > 0


def test_what_has_ended_is_not_asked_any_more(server: tuple[str, Path]) -> None:
    address, targets = server

    def up() -> int:
        url = f"http://{address}/api/v1/targets?state=active"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return len(json.load(answer)["data"]["activeTargets"])
        except OSError:
            return -1

    deadline = time.monotonic() + LIMIT_S
    with everything(targets):
        while up() != 5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    while up() != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)

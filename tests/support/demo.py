"""The demo partition as a user has it: started by procmgr, driven by daqstate, judged by its files and ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.support.kept import gone
from xtc import Reader, TransitionId

LIMIT_S = 90.0
VIEWED = 20
VIEWER = f"""
from drp import DataSource
seen = 0
for run in DataSource(monitor="tst:0/meb0").runs():
    for evt in run.events():
        seen += 1
        if seen == {VIEWED}:
            raise SystemExit(0)
raise SystemExit(1)
"""


def told_at(target: Path, name: str) -> list[float]:
    """The values of a metric, as a process says of itself; nothing of one that does not have it."""
    url = f"http://{json.loads(target.read_text())[0]['targets'][0]}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [one.value for family in families for one in family.samples if one.name == name]


class Started:
    """The partition of a file in `folder`, `-P` and `-p` of which are given; its processes are kept by `keeper`."""

    def __init__(
        self, folder: Path, file: Path, keeper: str, instrument: str = "tst", platform: int = 0
    ) -> None:
        self.folder = folder
        self.file = file
        self._keeper = keeper
        self._who = ("-P", instrument, "-p", str(platform))
        self._platform = platform
        for name in ("run", "prometheus"):
            (folder / name).mkdir(mode=0o700)

    @property
    def environment(self) -> dict[str, str]:
        """In which all commands run."""
        folders = {"XDG_RUNTIME_DIR": str(self.folder / "run"), "XDG_STATE_HOME": str(self.folder / "state")}
        return os.environ | folders | {"PYTHONPATH": str(ROOT)}

    @contextmanager
    def viewer(self) -> Iterator[subprocess.Popen[bytes]]:
        """Somebody who looks at some monitored events."""
        process = subprocess.Popen(
            [sys.executable, "-c", VIEWER], env=self.environment, stdin=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def call(self, name: str, *words: str, code: int = 0) -> str:
        """Run one of our commands, and return what it said."""
        program = f"import sys, drp_start; sys.exit(drp_start.{name}())"
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == code, (
            f"{name} {words}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        )
        return done.stdout

    def start(self, *words: str) -> str:
        return self.call(
            "procmgr", "start", str(self.file), "--keeper", self._keeper, "--timeout", "60", *words
        )

    def state(self, name: str) -> None:
        self.call("daqstate", *self._who, "--state", name, "-t", "60000")

    def record(self) -> None:
        """Have the next run recorded: control is told so by its command line, or by daqstate."""
        self.call("daqstate", *self._who, "--record", "1")

    def stop(self) -> str:
        return self.call("procmgr", "stop", str(self.file))

    def pids(self) -> list[int]:
        """Of all that procmgr started."""
        folder = self.folder / "run" / "drp" / "procmgr"
        records = [json.loads(path.read_text()) for path in folder.glob("*/*.process")]
        return [one[who]["pid"] for one in records for who in ("process", "kept_by")]

    def told(self, name: str) -> list[float]:
        """What all processes say of a metric."""
        return [value for target in (self.folder / "prometheus").iterdir() for value in told_at(target, name)]

    def await_events(self, events: int) -> None:
        """Wait until timing has sent so many triggers."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            sent = self.told("NumL0Acc")
            if sent and sent[0] >= events:
                return
            assert time.monotonic() < deadline, f"{sent}\n{self.logs()}"
            time.sleep(0.1)

    def ledger(self, run: int = 1) -> dict[str, Any]:
        path = self.folder / "state" / "drp" / "control" / "ledgers" / f"tst-r{run:04}.json"
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def recorded(self, run: int = 1) -> dict[str, list[int]]:
        """The timestamps of the recorded events, by file."""
        paths = sorted(self.folder.rglob(f"tst-r{run:04}-s*-c000.xtc2"))
        return {
            path.name: [one.timestamp for one in Reader(path) if one.service == TransitionId.L1Accept]
            for path in paths
        }

    def logs(self) -> str:
        """The ends of all logs, for a test that fails."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in self.folder.rglob("*.log"))


class Demo(Started):
    """`fex_scripts/demo.cnf`, with `events` events and with metrics of timing."""

    def __init__(self, folder: Path, keeper: str, events: int) -> None:
        super().__init__(folder, folder / "demo.cnf", keeper)
        self.events = events
        text = (ROOT / "fex_scripts" / "demo.cnf").read_text()
        changed = text.replace("--rate 1000", f"--rate 1000 -n {events}")
        changed = changed.replace("-C localhost'", f"-C localhost -M {folder / 'prometheus'}'")
        changed = changed.replace("here = CONFIGDIR", f"here = {str(ROOT / 'fex_scripts')!r}")
        assert changed.count(str(folder)) == 1
        self.file.write_text(changed)


def check_whole_run(demo: Demo) -> None:
    """A run from nothing to nothing: what was triggered is recorded or filtered, equally in all files, and everything is gone at the end."""
    out = demo.start()
    assert out.count("  running") == 6, out
    pids = demo.pids()
    with demo.viewer() as viewer:
        demo.state("running")
        demo.await_events(demo.events)
        assert viewer.wait(LIMIT_S) == 0
    demo.state("configured")
    assert demo.told("TEB_EvtCt") == [demo.events]
    assert VIEWED <= demo.told("MEB_EvtCt")[0] <= demo.told("TEB_MonCt")[0]
    assert len(demo.told("drp_event_rate")) == len(demo.told("drp_pebble_in_use_max")) == 2
    demo.state("unallocated")
    stopped = demo.stop()
    assert stopped.count("  stopped  0 ") == 6, f"{stopped}\n{demo.logs()}"
    for pid in pids:
        gone(pid)
    ledger = demo.ledger()
    assert ledger["closes"], ledger
    assert ledger["issued"] == {"0": demo.events}
    check_records(demo, demo.events)


def check_records(partition: Started, events: int, run: int = 1) -> None:
    """All files of a run have the same events, and the ledger of each drp says how many."""
    ledger, recorded = partition.ledger(run), partition.recorded(run)
    first, *others = recorded.values()
    assert len(recorded) == len(ledger["drps"])
    assert all(one == first for one in others)
    assert 0 < len(first) <= events
    for fates in ledger["drps"].values():
        assert fates["recorded_verdict"] + fates["recorded_prescale"] == len(first)
        assert fates["filtered"] == events - len(first)

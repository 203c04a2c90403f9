"""The demo partition as a user has it: started by procmgr, driven by daqstate, judged by its files and ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from drp.launch.identity import identity_of
from tests.conftest import ROOT
from xtc import Reader, TransitionId

LIMIT_S = 90.0
DETECTORS = ("hsd_0", "timetool_0")


class Demo:
    """`fex_scripts/demo.cnf` in `folder`, with `events` events and with metrics of timing; its processes are kept by `keeper`."""

    def __init__(self, folder: Path, keeper: str, events: int) -> None:
        self.folder = folder
        self.events = events
        self._keeper = keeper
        for name in ("run", "prometheus"):
            (folder / name).mkdir(mode=0o700)
        text = (ROOT / "fex_scripts" / "demo.cnf").read_text()
        changed = text.replace("--rate 1000", f"--rate 1000 -n {events} -M {folder / 'prometheus'}")
        changed = changed.replace("here = CONFIGDIR", f"here = {str(ROOT / 'fex_scripts')!r}")
        assert changed.count(str(folder)) == 1
        self.file = folder / "demo.cnf"
        self.file.write_text(changed)

    def call(self, name: str, *words: str, code: int = 0) -> str:
        """Run one of our commands, and return what it said."""
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        program = f"import sys, drp_start; sys.exit(drp_start.{name}())"
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=self.folder,
            env=environment,
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

    def start(self) -> str:
        return self.call("procmgr", "start", str(self.file), "--keeper", self._keeper, "--timeout", "60")

    def state(self, name: str) -> None:
        self.call("daqstate", "-P", "tst", "--state", name, "-t", "60000")

    def stop(self) -> str:
        return self.call("procmgr", "stop", str(self.file))

    def pids(self) -> list[int]:
        """Of all that procmgr started."""
        folder = self.folder / "run" / "drp" / "procmgr" / "p0"
        records = [json.loads(path.read_text()) for path in folder.glob("*.process")]
        return [one[who]["pid"] for one in records for who in ("process", "kept_by")]

    def await_events(self) -> None:
        """Wait until timing has sent all of its triggers."""
        (target,) = (self.folder / "prometheus").iterdir()
        url = f"http://{json.loads(target.read_text())[0]['targets'][0]}/metrics"
        deadline = time.monotonic() + LIMIT_S
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            sent = [one.value for family in families if family.name == "NumL0Acc" for one in family.samples]
            if sent and sent[0] >= self.events:
                return
            assert time.monotonic() < deadline, f"{sent}\n{self.logs()}"
            time.sleep(0.1)

    def ledger(self, run: int = 1) -> dict[str, Any]:
        path = self.folder / "state" / "drp" / "control" / "ledgers" / f"tst-r{run:04}.json"
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def recorded(self, run: int = 1) -> dict[str, list[int]]:
        """The timestamps of the recorded events, by detector."""
        found = {}
        for path in sorted((self.folder / "demo-out").rglob(f"tst-r{run:04}-s*-c000.xtc2")):
            config = next(iter(Reader(path)))
            names = {name.detname for name in config.config.names.values()}
            detector = next(one for one in DETECTORS if one.rpartition("_")[0] in names)
            found[detector] = [one.timestamp for one in Reader(path) if one.service == TransitionId.L1Accept]
        return found

    def logs(self) -> str:
        """The ends of all logs, for a test that fails."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in self.folder.rglob("*.log"))


def check_whole_run(demo: Demo) -> None:
    """A run from nothing to nothing: what was triggered is recorded or filtered, equally in all files, and everything is gone at the end."""
    out = demo.start()
    assert out.count("  running") == 6, out
    pids = demo.pids()
    demo.state("running")
    demo.await_events()
    demo.state("configured")
    demo.state("unallocated")
    stopped = demo.stop()
    assert stopped.count("  stopped  0 ") == 6, f"{stopped}\n{demo.logs()}"
    assert not [pid for pid in pids if identity_of(pid) is not None]
    ledger = demo.ledger()
    assert ledger["closes"], ledger
    assert ledger["issued"] == {"0": demo.events}
    recorded = demo.recorded()
    assert set(recorded) == set(DETECTORS)
    assert recorded["hsd_0"] == recorded["timetool_0"]
    assert 0 < len(recorded["hsd_0"]) < demo.events
    for one in DETECTORS:
        fates = ledger["drps"][one]
        assert fates["recorded_verdict"] + fates["recorded_prescale"] == len(recorded[one])
        assert fates["filtered"] == demo.events - len(recorded[one])

"""The real `drp` command as a child process, for tests that hurt it; and the search for whatever it left behind.

Every process that comes from a command, grandchildren included, carries a variable of the test's in its environment: by that it is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "DRP_TEST_RUN"
COMMAND = "import sys; from drp_start import drp; sys.exit(drp())"
LEFT_LIMIT_S = 5.0
LOG_TAIL = 6000

PRELUDE = """\
import ctypes, os, random, signal, subprocess, sys, time
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
{before}
ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1), {{"index": (np.uint64, 0), {fields}}}
)
{configured}
for run in ds.runs():
    {begun}
    for evt in run.events():
        fex.fex.index = evt.index
{event}
        ds.add_data(fex.fex)
{after}
"""


def write_script(
    folder: Path,
    event: str = "",
    *,
    fields: str = "",
    before: str = "",
    configured: str = "",
    begun: str = "",
    after: str = "",
) -> Path:
    """Write a script that adds `evt.index` to each event, and does `event` (statements) for each before it is added."""
    indented = "\n".join(f"        {line}" for line in event.splitlines())
    begun = "\n    ".join(begun.splitlines()) or "pass"
    path = folder / "script.py"
    path.write_text(
        PRELUDE.format(
            event=indented, fields=fields, before=before, configured=configured, begun=begun, after=after
        )
    )
    return path


def rest_slow(quick: int, cases: list[Any]) -> list[Any]:
    """Return the cases of a parametrized test, all but the first `quick` of them marked slow."""
    slow = [case if isinstance(case, tuple) else (case,) for case in cases[quick:]]
    return [*cases[:quick], *(pytest.param(*case, marks=pytest.mark.slow) for case in slow)]


@dataclass(frozen=True)
class ProcessLook:
    """One process of a command, as /proc shows it."""

    pid: int
    name: str
    state: str
    parent: int


class DrpCommand:
    """One run of the command. `folder` takes its output, report, log, temporary files and run directory."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        output: Path | None = None,
        record: bool = True,
        environment: dict[str, str] | None = None,
        before: str = "",
    ) -> None:
        """Start it. `before`: Python that the drp process runs first, to change what no option does."""
        self.folder = folder
        self.output = output or folder / "out"
        self.cookie = secrets.token_hex(8)
        self.log_path = folder / f"log-{self.cookie}.txt"
        self.report_path = folder / f"report-{self.cookie}.json"
        for name in ("run", "tmp"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {}), VARIABLE: self.cookie}
        environment |= {"XDG_RUNTIME_DIR": str(folder / "run"), "TMPDIR": str(folder / "tmp")}
        recording = ["-o", str(self.output)] if record else []
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"{before}\n{COMMAND}",
                    *arguments,
                    *recording,
                    "--report",
                    str(self.report_path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def report(self) -> dict[str, Any]:
        assert self.report_path.exists(), f"no report\n{self.log[-LOG_TAIL:]}"
        return json.loads(self.report_path.read_text())

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, limit_s: float = 60.0) -> int:
        """Wait for the end and return the exit code; a failed test, with the log, if it does not come."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"drp runs on after {limit_s} s; its log ends:\n{self.log[-LOG_TAIL:]}"
            ) from None

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = 30.0) -> Any:
        """Wait until `condition` holds while drp runs; return what it returned."""
        deadline = time.monotonic() + limit_s
        while True:
            value = condition()
            if value:
                return value
            assert self.running, f"drp ended before {what}; its log ends:\n{self.log[-LOG_TAIL:]}"
            assert time.monotonic() < deadline, (
                f"{what} did not come in {limit_s} s; the log ends:\n{self.log[-LOG_TAIL:]}"
            )
            time.sleep(0.005)

    def until_logged(self, text: str, limit_s: float = 30.0) -> None:
        self.until(lambda: text in self.log, f"{text!r} in the log", limit_s)

    def file(self, *, smd: bool = False) -> Path:
        """The recorded file, whatever its name ends in; the test fails unless there is exactly one."""
        pattern = "smalldata/*.smd.xtc2*" if smd else "*.xtc2*"
        found = [path for folder in self.output.glob("*/*/xtc") for path in folder.glob(pattern)]
        assert len(found) == 1, f"{found}\n{self.log[-LOG_TAIL:]}"
        return found[0]

    def until_recording(self, size_bytes: int = 1, limit_s: float = 30.0) -> None:
        """Wait until the file being written has that many bytes."""

        def there() -> bool:
            files = list(self.output.glob("*/*/xtc/*.xtc2.inprogress"))
            return bool(files) and files[0].stat().st_size >= size_bytes

        self.until(there, f"{size_bytes} bytes of a file", limit_s)

    def nursery(self) -> int | None:
        """The pid of the nursery, None if there is none."""
        found = [pid for pid in children(self.pid) if name_of(pid) == "drp-nursery"]
        return found[0] if found else None

    def workers(self) -> dict[int, str]:
        """The names of all living workers, spares included, by pid."""
        nursery = self.nursery()
        if nursery is None:
            return {}
        names = {pid: name_of(pid) for pid in children(nursery) if state_of(pid) not in ("Z", "X", "")}
        return {pid: name for pid, name in names.items() if name.startswith("drp-worker-")}

    def family(self) -> list[ProcessLook]:
        """All processes that came from this command and are still there, it itself left out."""
        return [one for one in processes_with(self.cookie) if one.pid != self.pid]

    def segments(self) -> list[int]:
        """Ids of the SysV segments that drp made and that still are."""
        return [shm_id for shm_id, maker in shared_memory() if maker == self.pid]

    def left(self, *, files: bool = True) -> list[str]:
        """All that is still there of a command that has ended, with or without files; waits a little for the kernel to finish."""
        deadline = time.monotonic() + LEFT_LIMIT_S
        while (found := list(self._leftovers(files))) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _leftovers(self, files: bool) -> Iterator[str]:
        for one in self.family():
            yield f"process {one.pid} {one.name} {one.state}"
        for shm_id in self.segments():
            yield f"shared memory segment {shm_id}"
        for name in ("run/drp", "tmp") if files else ():
            for path in (self.folder / name).glob("*"):
                yield f"file {path}"

    def destroy(self) -> None:
        """Kill whatever is left, so that no test hurts the next."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        for one in processes_with(self.cookie):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in glob_proc(f"{pid}/task"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in (thread / "children").read_text().split()]
    return found


def glob_proc(inside: str) -> list[Path]:
    try:
        return list(Path("/proc", inside).iterdir())
    except OSError:
        return []


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def processes_with(cookie: str) -> list[ProcessLook]:
    found = []
    wanted = f"{VARIABLE}={cookie}".encode()
    for entry in glob_proc(""):
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            pid = int(entry.name)
            found.append(ProcessLook(pid, name_of(pid), state_of(pid), parent_of(pid)))
    return found


def shared_memory() -> list[tuple[int, int]]:
    """(id, pid of the maker) of every SysV segment."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    columns = lines[0].split()
    at_id, at_maker = columns.index("shmid"), columns.index("cpid")
    return [(int(words[at_id]), int(words[at_maker])) for words in (line.split() for line in lines[1:])]

"""Who keeps the processes once procmgr is gone: procServ, one for each, or a supervisor of our own, one for all that are started at once.

procServ gives each a console on a unix-domain socket in the run directory, which is open to this user alone; it has no TCP port. It writes what the
process prints, with the time, into its log, and how it ended; that is read from there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drp.launch.commands import Command
from drp.launch.identity import Identity, identity_of, name_of
from drp.launch.pipes import read_within
from drp.launch.plan import LaunchError
from drp.launch.records import Folder, Record

START_LIMIT_S = 10.0
EXIT_LIMIT_S = 2.0
LOOK_EVERY_S = 0.02
MAX_ANSWER_BYTES = 1 << 20
MAX_LOG_TAIL_BYTES = 64 * 1024
SOCKET_PATH_BYTES = 107
_BEGIN = Path(__file__).with_name("_begin_program.py")
_SUPERVISOR = Path(__file__).with_name("_supervisor_program.py")
_STAMP = "%Y-%m-%d %H:%M:%S "
_NEW_CHILD = re.compile(rb"@@@ The PID of new child .* is: (\d+)\s")
_ENDED = re.compile(rb"@@@ Received a sigChild for process (\d+)\.([^\n]*)")
_STATUS = re.compile(rb"(Normal exit status|killed by signal)\D*(\d+)")


@dataclass(frozen=True, slots=True)
class Order:
    """What a keeper is to start: the command, the variables beside those of procmgr, its log, and the file it is from."""

    command: Command
    env: Mapping[str, str]
    log: Path
    file: str


class Keeper(Protocol):
    """Starts processes that outlive procmgr, and knows how they ended."""

    name: str

    def start(self, folder: Folder, orders: Sequence[Order]) -> dict[str, Record | str]:
        """Start all; return by id the record of each, or why it could not be started."""

    def exit_code(self, folder: Folder, record: Record, /) -> int | None:
        """Return how a process that is gone ended, negative for a signal; None where that is not known."""


def keeper_named(name: str) -> Keeper:
    """Return the keeper of this name. Raises LaunchError where it is procServ and that is not installed."""
    if name == Supervisor.name:
        return Supervisor()
    program = shutil.which("procServ")
    if program is None:
        raise LaunchError(
            "procServ is not installed",
            hint="Debian's package is procserv; or leave --keeper out, for our own supervisor.",
        )
    return ProcServ(program)


def default_keeper() -> Keeper:
    """Return procServ where it is installed, else a supervisor of our own."""
    program = shutil.which("procServ")
    return Supervisor() if program is None else ProcServ(program)


class ProcServ:
    """procServ, found at `program`."""

    name = "procServ"

    def __init__(self, program: str = "procServ") -> None:
        """Take where it lies; to learn how processes ended, that does not matter."""
        self._program = program

    def start(self, folder: Folder, orders: Sequence[Order]) -> dict[str, Record | str]:
        """Start a procServ for each, then wait until each has its process."""
        failed = {one.command.id: why for one in orders if (why := self._spawn(folder, one))}
        deadline = time.monotonic() + START_LIMIT_S
        return {
            one.command.id: failed.get(one.command.id) or self._record(folder, one, deadline)
            for one in orders
        }

    def _spawn(self, folder: Folder, order: Order) -> str:
        """Start one; return why it could not be, or nothing."""
        console = _console(folder, order.command.id)
        _end_unrecorded(_pid_file(folder, order.command.id))
        if len(os.fsencode(console)) > SOCKET_PATH_BYTES:
            return f"the path of its console is longer than {SOCKET_PATH_BYTES} bytes: {console}"
        argv = [
            self._program, "-q", "--noautorestart", "--holdoff", "0", "-i", "^D", f"--logstamp={_STAMP}",
            "-L", str(order.log), "-p", str(_pid_file(folder, order.command.id)), "-n", order.command.id,
            "-c", str(Path.cwd()), "-P", f"unix:{console}", sys.executable, "-IS", str(_BEGIN), *order.command.argv,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | dict(order.env),
                timeout=START_LIMIT_S,
                check=False,
                text=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"procServ cannot be started: {error}"
        return f"procServ says: {done.stderr.strip()[-500:]}" if done.returncode else ""

    def _record(self, folder: Folder, order: Order, deadline: float) -> Record | str:
        while time.monotonic() < deadline:
            server = _whose(_pid_file(folder, order.command.id))
            found = _NEW_CHILD.search(_head(order.log))
            if server is not None and found is not None:
                # One that has ended already is a process that nobody can be taken for.
                child = identity_of(int(found[1])) or Identity(int(found[1]), 0, "")
                return _record_of(order, self.name, child, server)
            time.sleep(LOOK_EVERY_S)
        return f"procServ has not started it within {START_LIMIT_S:g} s; see {order.log}"

    def exit_code(self, _folder: Folder, record: Record, /) -> int | None:
        """Return what procServ wrote into the log; it writes a little after the process is gone."""
        deadline = time.monotonic() + EXIT_LIMIT_S
        while True:
            alive = record.kept_by.alive
            for pid, said in _ENDED.findall(_tail(Path(record.log))):
                status = _STATUS.search(said)
                if int(pid) == record.process.pid and status:
                    return int(status[2]) if status[1].startswith(b"Normal") else -int(status[2])
            if not alive or time.monotonic() > deadline:
                return None
            time.sleep(LOOK_EVERY_S)


class Supervisor:
    """Our own: a small process that starts all of one order, and stays until the last of them has ended."""

    name = "own"

    def start(self, folder: Folder, orders: Sequence[Order]) -> dict[str, Record | str]:
        """Start a supervisor and have it start all."""
        for one in orders:
            folder.exit_file(one.command.id).unlink(missing_ok=True)
        wanted = {
            "folder": str(folder.path),
            "cwd": str(Path.cwd()),
            "processes": [
                {"id": one.command.id, "argv": one.command.argv, "env": dict(one.env), "log": str(one.log)}
                for one in orders
            ],
        }
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SUPERVISOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        server = identity_of(process.pid)
        try:
            answers = {one["id"]: one for one in json.loads(_ask(process, json.dumps(wanted).encode()))}
        except (OSError, ValueError) as error:
            process.kill()
            process.wait()
            return {one.command.id: f"the supervisor did not answer: {error}" for one in orders}
        process.returncode = 0  # it outlives us
        return {one.command.id: self._record(one, answers.get(one.command.id, {}), server) for one in orders}

    def _record(self, order: Order, answer: dict[str, object], server: Identity | None) -> Record | str:
        pid = answer.get("pid")
        if not isinstance(pid, int) or server is None:
            return str(answer.get("error", "the supervisor did not answer"))
        return _record_of(order, self.name, identity_of(pid) or Identity(pid, 0, ""), server)

    def exit_code(self, folder: Folder, record: Record, /) -> int | None:
        """Return what the supervisor wrote; it writes a little after the process is gone."""
        deadline = time.monotonic() + EXIT_LIMIT_S
        while True:
            alive = record.kept_by.alive
            code = folder.exit_code(record)
            if code is not None or not alive or time.monotonic() > deadline:
                return code
            time.sleep(LOOK_EVERY_S)


KEEPERS: Mapping[str, Keeper] = {one.name: one for one in (ProcServ(), Supervisor())}
"""To ask how a process ended, by the name in its record."""


def _record_of(order: Order, keeper: str, process: Identity, server: Identity) -> Record:
    command = order.command
    return Record(
        command.id,
        command.kind,
        command.argv,
        keeper,
        process,
        server,
        str(order.log),
        order.file,
        time.time(),
        command.interrupts,
        command.says_ready,
    )


def _ask(process: subprocess.Popen[bytes], question: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(question)
        process.stdin.close()
        return read_within(process.stdout.fileno(), START_LIMIT_S, MAX_ANSWER_BYTES)


def _console(folder: Folder, process_id: str) -> Path:
    return folder.path / f"{process_id}.sock"


def _pid_file(folder: Folder, process_id: str) -> Path:
    return folder.path / f"{process_id}.pid"


def _end_unrecorded(path: Path) -> None:
    """End a procServ that there is no record of: the procmgr that started it was killed before it could write one."""
    left = _whose(path)
    if left is None or name_of(left) != "procServ":
        return
    left.signal(signal.SIGTERM)  # it kills its process
    if not left.wait(START_LIMIT_S):
        left.signal(signal.SIGKILL)
        left.wait(START_LIMIT_S)


def _whose(path: Path) -> Identity | None:
    try:
        return identity_of(int(path.read_text()))
    except (OSError, ValueError):
        return None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LOG_TAIL_BYTES))
            return file.read()
    except OSError:
        return b""

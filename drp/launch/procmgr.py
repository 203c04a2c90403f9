"""Start, stop and look at the processes of a partition. What a file names and who keeps the processes is decided elsewhere.

`start` returns when every process stands or has failed: a program of a partition says so itself (`drp.link.ready`), of another one it is enough that
it runs after a moment. `stop` asks in stages, what takes data first and control last; one that does not end when asked twice is killed with all of
its session.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from drp.launch.commands import Command
from drp.launch.identity import session_of
from drp.launch.keepers import KEEPERS, Keeper, Order
from drp.launch.plan import LaunchError
from drp.launch.records import Folder, Record
from drp.link.ready import NOTIFY_SOCKET, PROCESS

MOMENT_S = 0.5
LOOK_EVERY_S = 0.05
SECOND_ASK_S = 3.0
KILL_LIMIT_S = 5.0
KEEPER_LIMIT_S = 3.0
TAIL_LINES, TAIL_BYTES = 5, 8192
_STAGES = {"timing": 1, "teb": 2, "meb": 2, "control": 3}
"""When a program is stopped; all others are first."""


@dataclass(frozen=True, slots=True)
class Line:
    """How it is with one process. `state`: running, starting, exited, stopped, failed, skipped, absent. Times in seconds since 1970."""

    id: str
    state: str
    pid: int | None = None
    code: int | None = None
    started: float | None = None
    log: str = ""
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.state in ("running", "stopped", "skipped", "absent")


class Procmgr:
    """The processes of one partition, called `name`, of which this user's records tell."""

    def __init__(self, name: str) -> None:
        """Open the records."""
        self.folder = Folder(name)

    def start(
        self, commands: Sequence[Command], *, keeper: Keeper, log_root: Path, file: str, limit_s: float
    ) -> list[Line]:
        """Start what does not run yet, wait until it stands, and return a line for each command. Raises LaunchError where no log can be written."""
        lines = {one.id: Line(one.id, "skipped", text=one.skipped) for one in commands if one.skipped}
        with self._heard() as heard:
            with self.folder.locked():
                records = self.folder.records()
                wanted = []
                for one in commands:
                    found = records.get(one.id)
                    if found is not None and found.process.alive:
                        lines[one.id] = replace(self._line(found), text="runs already")
                    elif not one.skipped:
                        if found is not None:
                            self._bury(found)
                        wanted.append(one)
                answers = self._start(wanted, keeper, log_root, file)
            standing: dict[str, Record] = {}
            for name, answer in answers.items():
                if isinstance(answer, str):
                    lines[name] = Line(name, "failed", text=answer)
                else:
                    standing[name] = answer
            lines |= self._wait(standing, heard, limit_s)
        return [lines[one.id] for one in commands]

    def stop(self, ids: Sequence[str] | None = None, *, limit_s: float) -> list[Line]:
        """End the processes of these ids (None: all that there are records of), and return a line for each that there was."""
        lines = []
        with self.folder.locked():
            records = self.folder.records()
            chosen = [one for one in records.values() if ids is None or one.id in ids]
            for stage in sorted({_stage(one) for one in chosen}):
                lines += self._stop_all([one for one in chosen if _stage(one) == stage], limit_s)
        return lines

    def status(self, commands: Sequence[Command] = ()) -> list[Line]:
        """Return a line for each command, and for each process there is a record of and no command."""
        records = self.folder.records()
        named = [one.id for one in commands]
        lines = [
            self._line(records[one.id])
            if one.id in records
            else Line(one.id, "skipped" if one.skipped else "absent", text=one.skipped)
            for one in commands
        ]
        return lines + [self._line(record) for name, record in records.items() if name not in named]

    def _start(
        self, wanted: Sequence[Command], keeper: Keeper, log_root: Path, file: str
    ) -> dict[str, Record | str]:
        if not wanted:
            return {}
        now = datetime.now().astimezone()
        folder = log_root / now.strftime("%Y") / now.strftime("%m")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(f"cannot be made for logs: {error.strerror}", place=str(folder)) from error
        stem = f"{now.strftime('%d_%H:%M:%S')}_{socket.gethostname()}"
        told = {NOTIFY_SOCKET: str(self._notify)}
        orders = [
            Order(one, {**one.env, **told, PROCESS: one.id}, _unused(folder / f"{stem}:{one.id}.log"), file)
            for one in wanted
        ]
        answers = keeper.start(self.folder, orders)
        for answer in answers.values():
            if not isinstance(answer, str):
                self.folder.write(answer)
        return answers

    @property
    def _notify(self) -> Path:
        return self.folder.path / f"ready-{os.getpid()}"

    @contextmanager
    def _heard(self) -> Iterator[socket.socket]:
        """A socket to which processes say that they stand."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as hearing:
            self._notify.unlink(missing_ok=True)
            try:
                hearing.bind(str(self._notify))
            except OSError as error:
                raise LaunchError(f"there can be no socket: {error}", place=str(self._notify)) from error
            try:
                yield hearing
            finally:
                self._notify.unlink(missing_ok=True)

    def _wait(self, waiting: dict[str, Record], heard: socket.socket, limit_s: float) -> dict[str, Line]:
        lines: dict[str, Line] = {}
        begun = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(heard, selectors.EVENT_READ)
            while len(lines) < len(waiting):
                said = _who_said(heard) if selector.select(LOOK_EVERY_S) else ""
                elapsed = time.monotonic() - begun
                for name, record in waiting.items():
                    if name in lines:
                        continue
                    if not record.process.alive:
                        lines[name] = replace(self._line(record), state="failed", text=_last_words(record))
                    elif name == said or (not record.says_ready and elapsed > MOMENT_S):
                        lines[name] = self._line(record)
                    elif elapsed > limit_s:
                        text = f"has not said within {limit_s:g} s that it stands"
                        lines[name] = replace(self._line(record), state="starting", text=text)
        return lines

    def _line(self, record: Record) -> Line:
        if record.process.alive:
            return Line(record.id, "running", record.process.pid, None, record.started, record.log)
        code = KEEPERS[record.keeper].exit_code(self.folder, record) if record.keeper in KEEPERS else None
        return Line(record.id, "exited", record.process.pid, code, record.started, record.log)

    def _stop_all(self, records: Sequence[Record], limit_s: float) -> list[Line]:
        """End some processes together: asked, asked again, killed; then whatever is left of their sessions, and who kept them."""
        texts: dict[str, str] = {}
        ran = {one.id for one in records if one.process.alive}
        asks: list[tuple[float, str, Callable[[Record], signal.Signals]]] = [
            (limit_s, "", _polite),
            (SECOND_ASK_S, f"had to be asked again after {limit_s:g} s", _polite),
            (KILL_LIMIT_S, "had to be killed", lambda _record: signal.SIGKILL),
        ]
        left = [one for one in records if one.id in ran]
        for seconds, text, number in asks:
            for one in left:
                if text:
                    texts[one.id] = text
                one.process.signal(number(one))
            left = _after(left, seconds)
        lines = []
        for one in records:
            line = self._line(one)
            if one in left:
                lines.append(replace(line, state="failed", text="cannot be ended: the kernel holds it"))
                continue
            lines.append(
                replace(
                    line, state="stopped", text=texts.get(one.id, "" if one.id in ran else "had ended before")
                )
            )
            self._bury(one)
        return lines

    def _bury(self, record: Record) -> None:
        """End what is left of a process that is gone, and forget it."""
        left = session_of(record.process)
        for number, seconds in ((signal.SIGTERM, 1.0), (signal.SIGKILL, KILL_LIMIT_S)):
            for one in left:
                one.signal(number)
            deadline = time.monotonic() + seconds
            left = [one for one in left if not one.wait(max(0.0, deadline - time.monotonic()))]
        if record.keeper != "own":  # ours ends by itself, and may have other processes still
            record.kept_by.signal(signal.SIGTERM)
            if not record.kept_by.wait(KEEPER_LIMIT_S):
                record.kept_by.signal(signal.SIGKILL)
                record.kept_by.wait(KILL_LIMIT_S)
        self.folder.remove(record.id)


def _stage(record: Record) -> int:
    return _STAGES.get(record.kind, 0)


def _polite(record: Record) -> signal.Signals:
    return signal.SIGINT if record.interrupts else signal.SIGTERM


def _after(records: Sequence[Record], seconds: float) -> list[Record]:
    """Return those that still run after so long; sooner where all have ended."""
    deadline = time.monotonic() + seconds
    return [one for one in records if not one.process.wait(max(0.0, deadline - time.monotonic()))]


def _who_said(heard: socket.socket) -> str:
    """Return the id of the process that said it stands; empty for any other datagram."""
    with contextlib.suppress(OSError):
        fields = dict(
            line.partition("=")[::2] for line in heard.recv(4096).decode(errors="replace").splitlines()
        )
        if fields.get("READY") == "1":
            return fields.get(PROCESS, "")
    return ""


def _last_words(record: Record) -> str:
    """Return the last lines that a process printed."""
    try:
        with Path(record.log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.strip() and "@@@" not in line]
    return "\n".join(said[-TAIL_LINES:])


def _unused(path: Path) -> Path:
    """Return a name that no file has yet: a process that is started twice in a second has two logs."""
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found

"""Running a user's script as `python script.py args` would, and telling how it ended.

This is the boundary where anything a script raises stops: nothing below it may be trusted to be an Exception. It knows no rings.
"""

from __future__ import annotations

import json
import sys
import traceback
from argparse import ArgumentParser
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from drp.script import spawned
from drp.script.datasource import give_session
from drp.script.errors import LeftEventLoopError, LinkError, NoRoomError
from drp.script.session import Session
from xtc import TransitionId

MAX_TRACEBACK_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 4 * 1024
MAIN_NAMES = ("__main__", spawned.MULTIPROCESSING_NAME)
OWN_FOLDER = str(Path(__file__).parent)

NO_DATA_SOURCE = (
    "the script ended without making a DataSource. It should begin:\n"
    "    from drp import DataSource\n"
    "    ds = DataSource()\n"
    "    for run in ds.runs():\n"
    "        for evt in run.events():\n"
    "            ..."
)
NO_EVENTS = "This worker was given no event of the {}, others took them all: code after the event loop cannot rely on what is set in the loop."
NO_EVENT_LOOP = "the script ended without asking for runs: it needs `for run in ds.runs():` and in it `for evt in run.events():`"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a script failed. `left`: it ended, in good order, before its run had."""

    kind: str
    message: str
    traceback: str
    left: bool = False

    def to_json(self) -> bytes:
        """Return the text of the result block."""
        fields = {"kind": self.kind, "message": self.message, "traceback": self.traceback}
        return json.dumps(fields).encode()


def run_script(session: Session, argv: list[str]) -> Failure | None:
    """Run `argv[0]` with `argv[1:]` on the session's stream; return how it failed, or None. Raises LinkError only.

    What a script does as it stands down is no failure.
    """
    saved = (sys.argv, sys.path[:], {name: sys.modules.get(name) for name in MAIN_NAMES})
    give_session(session)
    spawned.announce(Path(argv[0]), session.info)
    try:
        execute(argv, {"drp_info": session.info})
    except LinkError:
        raise
    except SystemExit as error:
        if error.code not in (None, 0) and not session.standing_down:
            return with_hint(failure_of(error, argv[0]), session)
        return unfinished(session, "sys.exit() was called")
    except LeftEventLoopError as error:
        return Failure(type(error).__name__, str(error), script_traceback(error, argv[0]), left=True)
    except BaseException as error:  # noqa: BLE001 - the boundary: whatever a script raises is its failure, not ours
        return None if session.standing_down else with_hint(failure_of(error, argv[0]), session)
    finally:
        give_session(None)
        sys.argv, sys.path[:] = saved[0], saved[1]
        sys.modules.update({name: module for name, module in saved[2].items() if module is not None})
    return unfinished(session, "the script ended")


def with_hint(failure: Failure, session: Session) -> Failure:
    """Return the failure, its message completed where the script may have failed for want of events."""
    if not session.idle:
        return failure
    hint = NO_EVENTS.format("step" if session.stream.service == TransitionId.EndStep else "run")
    return replace(failure, message=f"{failure.message}. {hint}")


def execute(argv: list[str], names: dict[str, Any]) -> None:
    """Compile and run a script as `__main__`, its folder first in sys.path, with `names` among its globals."""
    path = Path(argv[0])
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    main = ModuleType("__main__")
    main.__dict__.update(names, __file__=str(path), __builtins__=__builtins__, __spec__=spawned.spec())
    sys.modules.update(dict.fromkeys(MAIN_NAMES, main))
    sys.argv = list(argv)
    sys.path.insert(0, str(path.resolve().parent))
    exec(code, main.__dict__)  # noqa: S102 - running the user's script is what this is for


def unfinished(session: Session, how: str) -> Failure | None:
    """Return what is wrong with a script that ended by itself, or None where all is well."""
    if not session.opened:
        return Failure("NoDataSource", NO_DATA_SOURCE, "")
    if not session.asked and not session.link.at_end:
        return Failure("NoEventLoop", NO_EVENT_LOOP, "")
    if session.left:
        return Failure("LeftEventLoop", f"{how} before its run had ended", "", left=True)
    return None


def failure_of(error: BaseException, script: str) -> Failure:
    """Return the Failure for what a script raised."""
    try:
        message = str(error)
    except Exception as inner:  # noqa: BLE001 - the script's own exception class may be broken
        message = f"<str() of the exception raised {type(inner).__name__}>"
    if isinstance(error, SystemExit):
        message += _told_by_argparse(error.__traceback__)
    trace = "" if isinstance(error, NoRoomError) else script_traceback(error, script)
    return Failure(type(error).__name__, message[:MAX_MESSAGE_BYTES], trace)


def _told_by_argparse(trace: TracebackType | None) -> str:
    """Return what argparse printed before it gave up, in brackets; empty where it did not."""
    while trace is not None:
        if trace.tb_frame.f_code is ArgumentParser.error.__code__:
            return f" ({trace.tb_frame.f_locals['message']})"
        trace = trace.tb_next
    return ""


def script_traceback(error: BaseException, script: str) -> str:
    """Return the traceback from the script's first line on, our own frames left out, its last 16 KiB.

    Of a SystemExit, which is meant, it is the script's own frames: what argparse went through to it tells nobody anything.
    """
    try:
        trace = script_frames(error.__traceback__, script)
        leaves = isinstance(error, SystemExit)
        told = traceback.TracebackException(
            type(error), error, script_part(trace, script) if leaves else trace, limit=60
        )
        text = "".join(told.format(chain=not leaves))
    except Exception as inner:  # noqa: BLE001 - as above
        text = f"{type(error).__name__}: <its traceback could not be formatted: {type(inner).__name__}>"
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_TRACEBACK_BYTES:
        raw = b"..." + raw[-(MAX_TRACEBACK_BYTES - 3) :]
    return raw.decode("utf-8", "replace")


def script_frames(trace: TracebackType | None, script: str) -> TracebackType | None:
    """Return the traceback cut to begin at the script's own frame, without our frames at its end."""
    while trace is not None and trace.tb_frame.f_code.co_filename != str(Path(script)):
        trace = trace.tb_next
    if trace is None:
        return None
    kept: list[TracebackType] = []
    at: TracebackType | None = trace
    while at is not None:
        kept.append(at)
        at = at.tb_next
    while len(kept) > 1 and is_own(kept[-1]):
        kept.pop()
    return linked(kept)


def script_part(trace: TracebackType | None, script: str) -> TracebackType | None:
    """Return a traceback that begins in the script without what lies below the script's last frame."""
    kept: list[TracebackType] = []
    last = 0
    while trace is not None:
        kept.append(trace)
        if trace.tb_frame.f_code.co_filename == str(Path(script)):
            last = len(kept)
        trace = trace.tb_next
    return linked(kept[:last])


def linked(kept: list[TracebackType]) -> TracebackType | None:
    """Return the traceback of these frames."""
    out: TracebackType | None = None
    for one in reversed(kept):
        out = TracebackType(out, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return out


def is_own(trace: TracebackType) -> bool:
    """Tell whether a frame is of this package."""
    name = trace.tb_frame.f_code.co_filename
    return name.startswith((OWN_FOLDER, "drp/script/"))

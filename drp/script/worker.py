"""The worker process: runs the user's script on the stream that drp deals to it, again for every Configure, until drp says stop.

It is called in a forked child. It answers each dgram once; a failure of the script is the answer to the dgram in hand, and the process ends.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from drp.script import psana_names
from drp.script._link import Link, RingLink
from drp.script.constants import RunConstants, live_constants
from drp.script.errors import LinkError, ScriptError, UnknownNameError, near_misses
from drp.script.info import DrpInfo
from drp.script.runner import Failure, failure_of, run_script
from drp.script.session import Session
from drp.shm._segment import attach
from xtc import TransitionId, XtcError
from xtc._walk import WalkFault

EXIT_STOPPED = 0
EXIT_SCRIPT_FAILED = 1
EXIT_LINK_BROKEN = 3
STATUS_RAISED = 1
STATUS_LEFT = 3


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All a worker must know: its segments by SysV id and size in bytes, the bell it rings, its script and arguments.

    `info` holds what `drp_info` shows, by attribute name; `check_views` hands out private copies that are poisoned afterwards; `check_jit`
    fails events that wait for a kernel to be compiled; `constants` says where to take constants, None where there are none; `trigger`: the
    events are batches for a trigger script to decide on.
    """

    worker: int
    incarnation: int
    pebble_id: int
    pebble_bytes: int
    segment_id: int
    segment_bytes: int
    bells_id: int
    bells_bytes: int
    bell_index: int
    argv: tuple[str, ...]
    info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check_views: bool = False
    check_jit: bool = False
    constants: Mapping[str, Any] | None = None
    trigger: bool = False

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps({one.name: getattr(self, one.name) for one in dataclasses.fields(self)})

    @classmethod
    def from_json(cls, text: str) -> WorkerSpec:
        """Read what `to_json` wrote; raise ScriptError for a key that is none of ours."""
        given = json.loads(text)
        known = {one.name for one in dataclasses.fields(cls)}
        for key in given:
            if key not in known:
                raise ScriptError(f"a worker's spec has no {key!r}", hint=near_misses(key, known))
        return cls(**{**given, "argv": tuple(given["argv"])})


def main(spec: WorkerSpec) -> int:
    """Be a worker until drp says stop (0), the script fails (1) or the rings make no sense (3); return the exit code."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    psana_names.install()
    try:
        link = RingLink(
            attach(spec.pebble_id, spec.pebble_bytes, True),
            attach(spec.segment_id, spec.segment_bytes, False),
            attach(spec.bells_id, spec.bells_bytes, False),
            spec.bell_index,
        )
        os.register_at_fork(after_in_child=link.disown)
        info = DrpInfo.from_dict({"worker_num": spec.worker, **spec.info})
        constants = live_constants(spec.constants)
        return serve(
            link,
            info,
            list(spec.argv),
            check_views=spec.check_views,
            check_jit=spec.check_jit,
            constants=constants,
            trigger=spec.trigger,
        )
    except LinkError as error:
        print(f"worker {spec.worker}: {error}", file=sys.stderr, flush=True)
        return EXIT_LINK_BROKEN


def serve(
    link: Link,
    info: DrpInfo,
    argv: list[str],
    *,
    check_views: bool = False,
    check_jit: bool = False,
    constants: RunConstants | None = None,
    trigger: bool = False,
    on_failure: Callable[[Failure], object] | None = None,
) -> int:
    """Run the script for every Configure of the link, and again for a BeginRun that finds none running; return the exit code.

    `on_failure` is told of a failure that has been answered.
    """
    session = _session(link, info, argv, check_views, constants, trigger)
    watching: AbstractContextManager[None] = nullcontext()
    if check_jit:
        from drp.script.late_kernels import watched  # noqa: PLC0415 - only who asks for it pays for numba

        watching = watched(session.stream)
    try:
        with watching:
            failure = run_scripts(session, argv)
    except UnknownNameError as error:
        failure = failure_of(error, argv[0])
    if failure is None:
        return EXIT_STOPPED
    report(session, failure)
    if on_failure is not None:
        on_failure(failure)
    return EXIT_SCRIPT_FAILED


def _session(
    link: Link,
    info: DrpInfo,
    argv: list[str],
    check_views: bool,
    constants: RunConstants | None,
    trigger: bool,
) -> Session:
    if not trigger:
        return Session(link, info, argv[1:], check_views=check_views, constants=constants)
    from drp.script import psdaq_names  # noqa: PLC0415 - only a trigger script is given psdaq's names
    from drp.script.trigger import TriggerSession  # noqa: PLC0415 - as above

    psdaq_names.install()
    return TriggerSession(link, info, argv[1:], check_views=check_views, constants=constants)


def run_scripts(session: Session, argv: list[str]) -> Failure | None:
    """Do the work of `serve`; return the failure that is the answer to the dgram in hand, or None where drp said stop.

    No script is run for a Configure that cannot be read: who sent it will find the same. Raises UnknownNameError for a detector that is not in
    a Configure.
    """
    service = session.advance()
    while service >= 0:
        begin_run = service == TransitionId.BeginRun and session.configured
        if service != TransitionId.Configure and not begin_run:
            service = session.advance()
            continue
        if not begin_run:
            try:
                session.configure()
            except (XtcError, WalkFault):
                service = session.advance()
                continue
        session.start_script()
        if begin_run:
            session.hold_begin_run()
        failure = run_script(session, argv)
        if failure is not None:
            return failure
        service = after_script(session)
    return None


def after_script(session: Session) -> int:
    """Return the service of the dgram to go on with: the one in hand where the script has not been given it, else the next."""
    if session.standing_down:
        session.start_script()
        session.stream.discard()
    if session.link.at_end:
        return -1
    if session.has_fresh_configure:
        return TransitionId.Configure
    return session.advance()


def report(session: Session, failure: Failure) -> None:
    """Answer the dgram in hand as failed."""
    session.stream.close(STATUS_LEFT if failure.left else STATUS_RAISED, failure.to_json())

"""The same script over recorded files, in this one process, recording what drp would have recorded.

A feed deals the dgrams of a recording in order, with the transitions a file leaves out put in as drp does, and records every answer through the
same recorder: L1Accepts come out byte for byte as from a live run. An event whose script fails keeps its raw data with the same damage, and
the script begins again with the environment as it stood, as a replacement worker would.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drp.core import failures as core
from drp.core.config import Room, transition_room
from drp.core.errors import DrpError, WorkerError
from drp.core.ledger import Fate, Ledger
from drp.core.quantiles import N_BUCKETS, bucket
from drp.core.transitions import Sequencer
from drp.script import psana_names
from drp.script._link import FeedLink
from drp.script.constants import OfflineConstants, offline_constants
from drp.script.errors import ScriptError
from drp.script.info import DrpInfo
from drp.script.runner import Failure
from drp.script.session import Session
from drp.script.worker import EXIT_SCRIPT_FAILED, serve
from drp.sink.answer import EMPTY, TRUNCATED, Answer
from drp.sink.files import FileReport
from drp.sink.offline import OfflineWriter
from drp.sink.recorder import Output
from drp.source.recording import Recording
from xtc import Damage, TransitionId, encode_dgram

STATUS_OK, STATUS_RAISED, STATUS_OVERFLOW, STATUS_LEFT = range(4)
CAUSE_RAISED, CAUSE_TRUNCATED, CAUSE_LEFT = 1, 4, 6
CAUSES = {STATUS_RAISED: CAUSE_RAISED, STATUS_OVERFLOW: CAUSE_TRUNCATED, STATUS_LEFT: CAUSE_LEFT}
MAX_FAILURES_IN_A_ROW = 5
MEND = "Mend that, and start again."
WORKER = 0
GROUP_MASK = 0xFFFF
SERVICE_BYTE = 11
ESSENTIAL = (TransitionId.Configure, TransitionId.BeginRun)

log = logging.getLogger("drp.offline")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One dgram for a FeedLink. `bound_bytes`: what kept raw and new data may come to."""

    dgram: bytes | memoryview
    service: int
    index: int
    pulse_id: int
    bound_bytes: int
    replay: bool = False


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """What an offline run came to. `failures`: those of the script, one of each kind; `failure_kinds` counts them, as
    the Tally of a live run does; `failed`: events they cost; `failed_transitions` were recorded as they came;
    `service` counts the times of the script for an event, in the buckets of drp.core.quantiles.
    """

    events: int
    failed: int
    failed_transitions: int
    truncated: int
    failures: tuple[Failure, ...]
    failure_kinds: Mapping[str, int]
    files: tuple[FileReport, ...]
    ledger: Ledger
    bytes_in: int = 0
    service: Sequence[int] = ()
    source_warnings: Sequence[str] = ()
    source_truncated: Sequence[str] = ()
    source_faults: Sequence[str] = ()
    source_not_rising: int = 0

    @property
    def exit_code(self) -> int:
        """0 where nothing was damaged and the files were read to their ends, else 1."""
        return 1 if self.failed or self.failed_transitions or self.truncated or self.source_faults else 0


class FileFeed:
    """Deals the dgrams of recorded files and records the answers; see `drp.script._link.FeedLink`.

    `event_bytes` None: the largest event and `room` beside it, as drp sizes its slots. Raises SourceError where the files cannot be
    read, RecorderError where the output cannot be written, OrderError where the files hold no run.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        output: Output | None = None,
        *,
        room: Room | None = None,
        event_bytes: int | None = None,
        transition_bytes: int | None = None,
        events: int | None = None,
        constants: OfflineConstants | None = None,
    ) -> None:
        self.recording = Recording(files)
        for text in self.recording.warnings():
            log.warning("%s", text)
        for text in self.recording.faults:
            log.error("%s", text)
        room = room or Room()
        is_event = self.recording.services == TransitionId.L1Accept
        largest = int(self.recording.sizes[is_event].max(initial=24))
        largest_transition = int(self.recording.sizes[~is_event].max(initial=24))
        self.event_bytes = event_bytes or largest + room.of(largest)
        _, self.transition_bytes = transition_room(transition_bytes, largest_transition, largest, room)
        self.writer = OfflineWriter(output, self.transition_bytes, constants=constants is not None)
        self.constants = constants
        self.ledger = Ledger()
        self.failed = 0
        self.truncated = 0
        self.failed_in_a_row = 0
        self.failed_transitions = 0
        self._fate = Fate.not_recorded if output is None else Fate.recorded_no_verdict
        self._gate = Sequencer(str(files[0]))
        self._left = events
        self._next = 0
        self._groups = 0
        self._ready: deque[Arrival] = deque()
        self._in_force: dict[TransitionId, Arrival] = {}
        self._done = False
        self._dealt: Arrival | None = None
        self.bytes_in = 0
        self.service = [0] * N_BUCKETS
        self.error: DrpError | None = None

    # What the link calls.

    def next(self) -> Arrival | None:
        """Return the next dgram, transitions that must come before it first; None at the end."""
        if not self._ready and not self._done:
            with self._own_errors():
                self._refill()
        self._dealt = self._ready.popleft() if self._ready else None
        return self._dealt

    def answer(self, status: int, block: memoryview, desc_bytes: int, service_ns: int) -> None:
        """Record the dgram dealt last with its result block."""
        dealt = self._dealt
        if dealt is None or dealt.replay:
            return
        with self._own_errors():
            self._record(dealt, status, block, desc_bytes)
        self.bytes_in += len(dealt.dgram)
        if dealt.service == TransitionId.L1Accept:
            self.service[bucket(service_ns)] += 1

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Keep in `error` what is no fault of the script's, though it is raised where the script asks for the next dgram."""
        try:
            yield
        except DrpError as error:
            if not isinstance(error, ScriptError | WorkerError):
                self.error = error
            raise

    def _record(self, dealt: Arrival, status: int, block: memoryview, desc_bytes: int) -> None:
        if self.error is not None:
            raise self.error
        desc, data = bytes(block[:desc_bytes]), block[desc_bytes:]
        if dealt.service == TransitionId.L1Accept:
            self._record_event(dealt, status, desc, data)
        elif status in (STATUS_RAISED, STATUS_LEFT):
            if dealt.service not in ESSENTIAL:
                self.failed_transitions += 1
                self._record_transition(dealt, EMPTY)
        elif status == STATUS_OVERFLOW and dealt.service not in ESSENTIAL:
            self._record_transition(dealt, TRUNCATED)
        elif status == STATUS_OVERFLOW:
            raise ScriptError(
                f"what was added to {TransitionId(dealt.service).name} does not fit",
                expected=f"{dealt.bound_bytes} bytes",
            )
        else:
            self._record_transition(dealt, self.writer.answer(desc, memoryview(bytes(data))))

    # What the offline run calls.

    def restart(self) -> bool:
        """Deal the environment in force again, as replays, to a script that begins again; False where its run cannot go on."""
        if self._dealt is None or self._dealt.replay or self._dealt.service in ESSENTIAL:
            return False
        again = [self._in_force[one] for one in ENVIRONMENT if one in self._in_force]
        self._ready.extendleft(
            Arrival(one.dgram, one.service, one.index, one.pulse_id, one.bound_bytes, replay=True)
            for one in reversed(again)
        )
        return True

    def close(self) -> tuple[FileReport, ...]:
        """Close what is open and return the reports of all files."""
        self.writer.close()
        return tuple(self.writer.recorder.files)

    def _refill(self) -> None:
        recording, at = self.recording, self._next
        stop = self._left == 0 and at < len(recording) and recording.services[at] == TransitionId.L1Accept
        if at == len(recording) or stop:
            self._done = True
            for step in self._gate.closing():
                self._synthesise(step.service, step.timestamp)
            return
        self._next += 1
        service = TransitionId(int(recording.services[at]))
        timestamp = int(recording.timestamps[at])
        for step in self._gate.before(service, timestamp):
            self._synthesise(step.service, step.timestamp)
        index = self._gate.index
        self._gate.accept(service, timestamp)
        start = int(recording.offsets[at])
        view = memoryview(recording.maps[int(recording.which[at])])[start : start + int(recording.sizes[at])]
        if view[SERVICE_BYTE] & 0xF != service:
            # An L1Accept_EndOfBatch: an event to every reader, and recorded as an L1Accept, as drp does live.
            plain = bytearray(view)
            plain[SERVICE_BYTE] = plain[SERVICE_BYTE] & 0xF0 | service
            view = memoryview(plain)
        self._groups = int.from_bytes(view[8:10], "little") & GROUP_MASK
        if service == TransitionId.L1Accept and self._left is not None:
            self._left -= 1
        self._put(view, service, index, int(recording.pulse_ids[at]))

    def _synthesise(self, service: TransitionId, timestamp: int) -> None:
        self._gate.accept(service, timestamp, synthesised=True)
        self._put(encode_dgram(service, timestamp, env=self._groups), service, 0, 0)

    def _put(self, dgram: bytes | memoryview, service: TransitionId, index: int, pulse_id: int) -> None:
        bound = self.event_bytes if service == TransitionId.L1Accept else self.transition_bytes
        self._ready.append(Arrival(dgram, service, index, pulse_id, bound))

    def _record_event(self, dealt: Arrival, status: int, desc: bytes, data: memoryview) -> None:
        cause = CAUSES.get(status, 0)
        damage = Damage.Truncated if status == STATUS_OVERFLOW else 0
        if cause:
            desc, data = b"", memoryview(b"")
        outcome = self.writer.event(
            dealt.dgram,
            desc,
            data,
            pulse_id=dealt.pulse_id,
            bound=dealt.bound_bytes,
            damage=int(damage),
            cause=cause,
            worker=WORKER,
        )
        truncated = outcome == 1 or status == STATUS_OVERFLOW
        self.ledger.count(self._fate, 1)
        self.ledger.incoming.count(int.from_bytes(dealt.dgram[16:18], "little"))
        self.ledger.drp.count((CAUSE_TRUNCATED << 12 | Damage.Truncated) if truncated else cause << 12)
        if desc and not truncated:
            self.ledger.script.count(int.from_bytes(desc[8:10], "little") | desc[10] << 12)
        self.truncated += truncated
        failed = status in (STATUS_RAISED, STATUS_LEFT)
        self.failed += failed
        self.failed_in_a_row = self.failed_in_a_row + 1 if failed else 0

    def _record_transition(self, dealt: Arrival, answer: Answer) -> None:
        service = TransitionId(dealt.service)
        ledger = self.ledger.as_fields() if service == TransitionId.EndRun else None
        before = self.writer.recorder.truncated
        self.writer.transition(dealt.dgram, answer, ledger=ledger, constants=self._used_constants(service))
        self.failed_transitions += self.writer.recorder.truncated - before
        self._remember(service, dealt)

    def _used_constants(self, service: TransitionId) -> dict[str, str] | None:
        if service != TransitionId.BeginRun or self.constants is None or self.writer.recorder.output is None:
            return None
        return self.constants.record()

    def _remember(self, service: TransitionId, dealt: Arrival) -> None:
        """Keep what is in force, for a script that begins again."""
        for over in FORGET.get(service, ()):
            self._in_force.pop(over, None)
        if service in ENVIRONMENT:
            self._in_force[service] = dealt


ENVIRONMENT = (
    TransitionId.Configure,
    TransitionId.BeginRun,
    TransitionId.BeginStep,
    TransitionId.Enable,
    TransitionId.SlowUpdate,
)
FORGET = {
    TransitionId.Configure: ENVIRONMENT,
    TransitionId.Unconfigure: ENVIRONMENT,
    TransitionId.BeginRun: ENVIRONMENT[1:],
    TransitionId.EndRun: ENVIRONMENT[1:],
    TransitionId.BeginStep: (TransitionId.BeginStep, TransitionId.Enable),
    TransitionId.EndStep: (TransitionId.BeginStep, TransitionId.Enable),
    TransitionId.Disable: (TransitionId.Enable,),
}


def open_files(files: Sequence[str | Path], output: str | Path | None, calib: str | None = None) -> Session:
    """Return a session over recorded files for a script that runs without drp: its DataSource pulls, its errors are Python's.

    `calib` is where the constants are; None: where $DRP_CALIB says, if it says.
    """
    constants = offline_constants(calib or os.environ.get("DRP_CALIB"), eager=output is not None)
    feed = FileFeed(files, None if output is None else Output(Path(output)), constants=constants)
    session = Session(FeedLink(feed), offline_info(feed, DrpInfo()), sys.argv[1:], constants=constants)
    if session.advance() != TransitionId.Configure:
        raise ScriptError("the files do not begin with a Configure", found=str(files[0]))
    session.configure()
    session.start_script()
    return session


def run_offline(
    argv: Sequence[str],
    files: Sequence[str | Path],
    output: Output | None = None,
    *,
    info: DrpInfo | None = None,
    room: Room | None = None,
    event_bytes: int | None = None,
    transition_bytes: int | None = None,
    events: int | None = None,
    check_views: bool = False,
    check_jit: bool = False,
    constants: OfflineConstants | None = None,
) -> OfflineReport:
    """Run the script `argv` on `files` and record in `output`; return what it came to.

    `info` holds what the user said of the detector. `events` stops after so many. `constants` is what the script calibrates with.
    Tracebacks go to the log, once for each kind. Raises ScriptError where the script fails at Configure or BeginRun, or at five events
    in a row, what FileFeed raises, its methods too, and KeyboardInterrupt wherever it comes.
    """
    psana_names.install()
    feed = FileFeed(
        files,
        output,
        room=room,
        event_bytes=event_bytes,
        transition_bytes=transition_bytes,
        events=events,
        constants=constants,
    )
    given = offline_info(feed, info or DrpInfo())
    failures: list[Failure] = []
    tally = core.Tally()
    try:
        while True:
            failed: list[Failure] = []
            code = serve(
                FeedLink(feed),
                given,
                list(argv),
                check_views=check_views,
                check_jit=check_jit,
                constants=constants,
                on_failure=failed.append,
            )
            if feed.error is not None:
                raise feed.error
            if code != EXIT_SCRIPT_FAILED:
                break
            failure = failed[0]
            if failure.kind == KeyboardInterrupt.__name__:
                raise KeyboardInterrupt  # the user's Ctrl-C, which comes where the script stands
            if tally.note(_kind(failure, argv[0])):
                failures.append(failure)
                log.error("the script failed: %s: %s\n%s", failure.kind, failure.message, failure.traceback)
            if not feed.restart():
                raise ScriptError(
                    f"the script failed at a transition: {failure.kind}: {failure.message}", hint=MEND
                )
            if feed.failed_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise ScriptError(
                    f"the script failed at {feed.failed_in_a_row} events in a row: {failure.kind}: {failure.message}",
                    hint=MEND,
                )
    finally:
        reports = feed.close()
    return OfflineReport(
        events=feed.ledger.total,
        failed=feed.failed,
        failed_transitions=feed.failed_transitions,
        truncated=feed.truncated,
        failures=tuple(failures),
        failure_kinds=tally.as_dict(),
        files=reports,
        bytes_in=feed.bytes_in,
        service=feed.service,
        ledger=feed.ledger,
        source_warnings=feed.recording.warnings(),
        source_truncated=feed.recording.truncated,
        source_faults=feed.recording.faults,
        source_not_rising=feed.recording.not_rising,
    )


def _kind(failure: Failure, script: str) -> str:
    """Return what a live run calls this kind of failure."""
    how = core.Failure.LEFT if failure.left else core.Failure.RAISED
    return f"{how.value} {core.ScriptReport(failure.kind, failure.message, failure.traceback).key(script)}"


def offline_info(feed: FileFeed, info: DrpInfo) -> DrpInfo:
    """Return `info` with the sizes that hold for these files."""
    return info.with_sizes(feed.event_bytes, feed.transition_bytes)

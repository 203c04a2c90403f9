"""What is done when workers fail: events in, instructions out.

The supervisor keeps a post filled for each worker, and so many spares (drp.core.roster). It knows processes
by their incarnation, a number that it gives out and never uses twice, so that late news of a dead process
cannot be taken for its successor's. It sees no process, pipe or ring, and no clock: `now_s` comes with
every call, from any clock that rises.

How a failure goes: the process says so itself (`on_failed`), or is late or too large (found by `tick`), or
just exits. What came first is the reason; `on_exit` ends it, settles its entries (`Release`), and has its
post filled again. Signals from outside are not counted against a worker at work, but who is killed before it
came to work counts, whoever did it: else processes would be forked and killed without end.

drp's own standstill (SIGSTOP, suspend) is no fault of a worker's: where a call comes later than the watch
loop's period by more than `late_s`, the supervisor's time stands still for the excess, and with it all
deadlines.
"""

from __future__ import annotations

from collections.abc import Iterable

from drp.core import instructions as do
from drp.core.errors import RunStopped, ScriptError
from drp.core.failures import Failure, ScriptReport, Tally, classify_exit
from drp.core.instructions import Instruction
from drp.core.ledger import Cause
from drp.core.policy import Policy
from drp.core.roster import Roster
from drp.core.worker_states import Entry, News, Process, State, Watch
from xtc import TransitionId

_ESSENTIAL = (TransitionId.Configure, TransitionId.BeginRun)
_SAID = (Failure.RAISED, Failure.LEFT, Failure.NONSENSE)


class Supervisor:
    """Keep the posts filled. Every `on_*` call, `start` and `tick` return the instructions that follow, in
    order.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.roster = Roster(policy)
        self.tally = Tally()
        self.overflows = 0
        self.failed_transitions = 0
        self.unburied = 0
        self._begun = False
        self._stopping = False
        self._stop_said = False
        self._last_s: float | None = None
        self._shift_s = 0.0

    def start(self, now_s: float) -> list[Instruction]:
        """Fork the workers and the spares: the first nursery answers. Before that nothing is forked, however long it takes."""
        self.roster.nursery = True
        return self.roster.fill(self._time(now_s, []))

    def on_forked(self, incarnation: int, now_s: float) -> list[Instruction]:
        """The nursery made the process."""
        out: list[Instruction] = []
        now = self._time(now_s, out)
        if (process := self.roster.processes.get(incarnation)) is not None:
            process.step(News.FORKED, now)
        return out

    def on_ready(self, incarnation: int, now_s: float) -> list[Instruction]:
        """The process answered Configure and BeginRun, live or replayed."""
        out: list[Instruction] = []
        now = self._time(now_s, out)
        if (process := self.roster.processes.get(incarnation)) is not None:
            self._begun = True
            out += self.roster.ready(process, now)
        return out + self.roster.fill(now)

    def on_failed(
        self, incarnation: int, failure: Failure, report: ScriptReport, entry: Entry, now_s: float
    ) -> list[Instruction]:
        """The process answered `entry` with a failure of its own (RAISED, LEFT), or broke the protocol
        (NONSENSE).
        """
        out: list[Instruction] = []
        now = self._time(now_s, out)
        process = self.roster.processes.get(incarnation)
        if process is None or process.reason in (*_SAID, Failure.NURSERY):
            return out
        process.reason, process.story = failure, f"{failure.value}: {report.kind}: {report.message}"
        text = f"{_who(process)} at {entry.service.name}: {process.story}"
        self._tell(f"{failure.value} {report.key(self.policy.script)}", text, report.traceback, out)
        if failure is Failure.NONSENSE and process.step(News.NONSENSE, now):
            out.append(do.Kill(incarnation))
        elif failure is not Failure.NONSENSE:
            process.step(News.FAILED, now)
        self._judge_entry(process, failure, entry, report, out)
        return out

    def on_overflow(self, incarnation: int, now_s: float) -> list[Instruction]:
        """A result did not fit: its event was recorded raw, Truncated. The worker goes on."""
        out: list[Instruction] = []
        self._time(now_s, out)
        self.overflows += 1
        process = self.roster.processes.get(incarnation)
        who = _who(process) if process else "a worker"
        self._tell(
            "overflow",
            f"{who}: a result did not fit, what it belongs to is recorded as it came (--fex-room, -k trBufSize)",
            "",
            out,
        )
        if self.policy.stop_on_overflow:
            self._stop_run("--on-overflow stop", f"a result of {who} did not fit", out)
        return out

    def on_exit(
        self, incarnation: int, wait_status: int | None, entry: Entry | None, events: int, now_s: float
    ) -> list[Instruction]:
        """The process is gone and its out-ring drained: `entry` it had taken and not answered, `events` it
        answered well.
        """
        out: list[Instruction] = []
        now = self._time(now_s, out)
        process = self.roster.processes.pop(incarnation, None)
        if process is None:
            return out
        starting = process.state in (State.FORKING, State.STARTING)
        process.step(News.EXITED, now)
        self.roster.credit(process, events)
        if self._stopping and process.reason is None:
            return [*out, do.Release(incarnation, process.worker, Cause.died if entry else Cause.none, None)]
        failure = self._reason(process, wait_status, entry, out)
        innocent = failure is Failure.TIMED_OUT and entry is not None and entry.number != process.late_entry
        cause = Cause.none if innocent else failure.cause
        out.append(do.Release(incarnation, process.worker, cause, failure))
        if entry is not None and failure not in _SAID and not innocent:
            self._judge_entry(process, failure, entry, None, out)
        at_start = starting or (entry is not None and (entry.replay or entry.service in _ESSENTIAL))
        if failure is Failure.KILLED and at_start:
            self._judge_start(process, entry, out)
        return [*out, *self.roster.count(process, failure, now, at_start=at_start), *self.roster.fill(now)]

    def on_configure(self, now_s: float) -> list[Instruction]:
        """A Configure came: posts that were left out get another chance at once."""
        out: list[Instruction] = []
        now = self._time(now_s, out)
        self.roster.closed = self._stopping
        self.roster.pardon_all()
        return out + self.roster.fill(now)

    def on_nursery_lost(self, now_s: float) -> list[Instruction]:
        """The nursery is gone, and with it every worker. Their exits are nobody's fault; nothing is forked
        until it is back.
        """
        out: list[Instruction] = []
        self._time(now_s, out)
        self.roster.lose_nursery()
        return [*out, do.Log("error", "all workers are replaced, the source waits")]

    def on_nursery_ready(self, now_s: float) -> list[Instruction]:
        """A new nursery answers."""
        out: list[Instruction] = []
        now = self._time(now_s, out)
        self.roster.nursery = True
        return out + self.roster.fill(now)

    def on_stop(self, now_s: float) -> list[Instruction]:
        """The run is over and every process gets a STOP entry: exits are expected now, and whoever stays is
        killed.
        """
        out: list[Instruction] = []
        now = self._time(now_s, out)
        self._stopping = self.roster.closed = True
        for process in self.roster.processes.values():
            process.step(News.TOLD_TO_STOP, now)
        return out

    def write_off(self, incarnations: Iterable[int], now_s: float) -> list[Instruction]:
        """The run is over and these processes, which failed or were told to leave, are not gone: count them,
        and nobody waits for them any more.
        """
        out: list[Instruction] = []
        now = self._time(now_s, out)
        for incarnation in incarnations:
            process = self.roster.processes.pop(incarnation, None)
            if process is None:
                continue
            self.unburied += 1
            if process.reason is not None or not self._stopping:
                out += self.roster.count(process, process.reason or Failure.DIED, now)
            text = f"{_who(process)}: not gone at the end of the run, stuck in the kernel? It is left behind"
            out.append(do.Log("error", text))
        self.roster.closed = True
        return out

    def tick(self, watches: Iterable[Watch], now_s: float) -> list[Instruction]:
        """Look at every living process, about every `tick_s`: run the clocks, and act on those that are
        over.
        """
        out: list[Instruction] = []
        now = self._time(now_s, out)
        for watch in watches:
            if (process := self.roster.processes.get(watch.incarnation)) is not None:
                process.charge(watch, now)
                self.roster.credit(process, watch.events)
                self._judge_size(process, watch, now, out)
                self._judge_time(process, watch, now, out)
        for process in self.roster.processes.values():
            self._judge_grace(process, now, out)
        return [*out, *self.roster.fill(now), *self.roster.complain(now)]

    def _time(self, now_s: float, out: list[Instruction]) -> float:
        last = now_s if self._last_s is None else self._last_s
        late = now_s - last - self.policy.tick_s
        if late > self.policy.late_s:
            self._shift_s += late
            out.append(
                do.Log("warning", f"drp itself stood still for {late:.1f} s: all deadlines move by as much")
            )
        self._last_s = now_s
        return now_s - self._shift_s

    def _judge_size(self, process: Process, watch: Watch, now: float, out: list[Instruction]) -> None:
        most = self.policy.worker_memory_bytes
        if most is None or watch.resident_bytes is None or watch.resident_bytes <= most:
            return
        if process.step(News.TOO_LARGE, now):
            process.reason = Failure.MEMORY
            process.story = f"grew to {watch.resident_bytes:,} bytes, more than --worker-memory {most:,}"
            out.append(do.Retire(process.incarnation))

    def _judge_time(self, process: Process, watch: Watch, now: float, out: list[Instruction]) -> None:
        limit_s = self.policy.limit_s(watch.service, first=process.events == 0)
        if process.spent_s <= limit_s or not process.step(News.LATE, now):
            return
        process.reason = Failure.TIMED_OUT
        process.late_entry = watch.taken if watch.taken > watch.answered else None
        doing = "was not answered" if process.late_entry else "was not even taken"
        process.story = f"timed_out: {watch.service.name} {doing} within {limit_s:g} s"
        self._tell(f"timed_out at {watch.service.name}", f"{_who(process)}: {process.story}", "", out)
        out.append(do.AskTraceback(process.incarnation))

    def _judge_grace(self, process: Process, now: float, out: list[Instruction]) -> None:
        """Act on states that must not last: each has its grace, and what happens after it."""
        graces = {
            State.FORKING: self.policy.fork_timeout_s,
            State.ASKED: self.policy.traceback_s,
            State.ENDING: self.policy.exit_s,
            State.KILLED: self.policy.kill_s,
        }
        grace_s = graces.get(process.state)
        if grace_s is None or now - process.since_s < grace_s:
            return
        if process.step(News.GRACE_OVER, now):
            out.append(do.Kill(process.incarnation))
            return
        process.since_s = now
        if process.state is State.FORKING:
            out.append(do.Log("error", f"{_who(process)}: the nursery did not fork it within {grace_s:g} s"))
            out.append(do.RestartNursery())
        else:
            text = f"{_who(process)}: still there {grace_s:g} s after SIGKILL, stuck in the kernel?"
            out += [do.Log("error", text), do.Kill(process.incarnation)]

    def _reason(
        self, process: Process, wait_status: int | None, entry: Entry | None, out: list[Instruction]
    ) -> Failure:
        if process.reason is Failure.MEMORY and entry is None:
            self._tell("memory", f"{_who(process)}: {process.story}: replaced", "", out, level="warning")
            return Failure.MEMORY
        if process.reason not in (None, Failure.MEMORY):
            return process.reason
        failure, process.story = classify_exit(wait_status)
        at = f" at {entry.service.name}" if entry else ""
        self._tell(f"{failure.value}: {process.story}", f"{_who(process)}: {process.story}{at}", "", out)
        return failure

    def _judge_entry(
        self,
        process: Process,
        failure: Failure,
        entry: Entry,
        report: ScriptReport | None,
        out: list[Instruction],
    ) -> None:
        """Decide what a failure at `entry` means for the run as a whole."""
        live_transition = entry.service is not TransitionId.L1Accept and not entry.replay
        if live_transition and entry.service in _ESSENTIAL and failure.by_script:
            self.roster.closed = True
            error = ScriptError(
                process.story,
                worker=process.worker,
                transition=entry.service.name,
                kind=report.kind if report else failure.value,
                traceback=report.traceback if report else "",
                hint="Mend that, and start again.",
            )
            out.append(do.FailTransition(entry.service, error))
            return
        self.failed_transitions += live_transition
        if self.policy.stop_on_failure and failure.by_script:
            self._stop_run("--on-script-failure stop", f"{_who(process)}: {process.story}", out)

    def _judge_start(self, process: Process, entry: Entry | None, out: list[Instruction]) -> None:
        """End the run where a worker is killed again and again before it ever answered: the next would be, too."""
        live = not self._begun if entry is None else not entry.replay
        times = self.roster.post_of(process).streak + 1
        if process.worker is None or not live or times < self.policy.streak:
            return
        self.roster.closed = True
        error = ScriptError(
            f"{process.story}, {times} times in a row",
            worker=process.worker,
            transition=entry.service.name if entry else TransitionId.Configure.name,
            kind=Failure.KILLED.value,
            hint="Out of memory? The kernel's log (dmesg) tells. Start fewer workers (-W), or a script that needs less.",
        )
        out.append(do.FailTransition(entry.service if entry else TransitionId.Configure, error))

    def _tell(
        self, key: str, text: str, traceback: str, out: list[Instruction], *, level: str = "error"
    ) -> None:
        if self.tally.note(key):
            more = f"\n{traceback.rstrip()}" if traceback else ""
            out.append(do.Log(level, f"{text} (more of this kind are only counted){more}"))
        else:
            out.append(do.Log("debug", text))

    def _stop_run(self, policy: str, what: str, out: list[Instruction]) -> None:
        if not self._stop_said:
            self._stop_said = True
            out.append(do.StopRun(RunStopped(what, policy=policy)))


def _who(process: Process) -> str:
    name = "a spare" if process.worker is None else f"worker {process.worker}"
    return f"{name} (incarnation {process.incarnation})"

"""The account of a run: how it goes, for the status line and for a monitor, and what it came to.

It counts nothing itself: flow, feed, crew and recorder do, and are asked here. It decides nothing, and knows nothing of how a run is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from drp.core.config import DrpConfig
from drp.core.errors import DrpError
from drp.core.ledger import DamageCounts, Fate, Ledger
from drp.core.report import Readings, Report, Snapshot, WorkerReport
from drp.engine._flow import Flow
from drp.engine.crew import Crew
from drp.engine.feed import Feed
from drp.engine.judging import Judge
from drp.engine.transition import Transitions
from drp.script.info import DrpInfo
from drp.sink.recorder import Recorder

NO_WORKER = 0xFFFF
LOST_TOLD = 10


def info_of(config: DrpConfig) -> dict[str, object]:
    """Return what the user said of the detector, as fields of `drp_info`."""
    return {
        "det_name": config.det_name or "",
        "det_type": config.det_type,
        "det_id": config.det_id,
        "det_segment": config.det_segment if config.first_segment is None else config.first_segment,
        "instrument": config.instrument,
        "partition": config.platform,
        "alias": config.alias or "",
    }


class Account:
    """What is counted of one run that began at `began_s` of the monotonic clock."""

    def __init__(
        self,
        config: DrpConfig,
        flow: Flow,
        feed: Feed,
        crew: Crew,
        recorder: Recorder,
        began_s: float,
        judge: Judge | None = None,
    ) -> None:
        self._config = config
        self._flow = flow
        self._feed = feed
        self._crew = crew
        self._recorder = recorder
        self._judge = judge
        self._began_s = began_s
        self._source_text = feed.source.describe()
        self._before = (0, 0)
        self._head = (0, 0.0)

    def ledger(self) -> Ledger:
        """Return the fates and damages counted so far."""
        counts = self._flow.counts()
        ledger = Ledger()
        for fate in Fate:
            ledger.count(fate, counts["fates"][fate])
        ledger.count(Fate.lost_before_slot, self._feed.lost)
        ledger.incoming, ledger.drp, ledger.script, ledger.trigger = (
            DamageCounts(*counts[origin]) for origin in ("incoming", "drp", "script", "trigger")
        )
        return ledger

    def ledger_fields(self) -> dict[str, int]:
        """Return the fields of `drpledger`."""
        return self.ledger().as_fields()

    def snapshot(self, state: str, now_s: float, since_s: float, *, paused: bool, trouble: str) -> Snapshot:
        """Look at the run; the look before was `since_s` ago."""
        counts, load = self._flow.counts(), self._flow.load()
        before_events, before_bytes = self._before
        self._before = (counts["events"], counts["bytes_in"])
        head = load["head_worker"]
        waited_for = head != NO_WORKER and load["done_not_retired"] > 0
        if not waited_for or load["head"] != self._head[0]:
            self._head = (load["head"], now_s)
        # Free slots that are lent to the source are not used: only what is on the road is.
        on_the_road = sum(
            load[place] for place in ("waiting", "in_flight", "done_not_retired", "to_judge", "to_record")
        )
        return Snapshot(
            state=state,
            elapsed_s=now_s - self._began_s,
            events=counts["events"],
            events_per_s=(counts["events"] - before_events) / since_s,
            bytes_per_s=(counts["bytes_in"] - before_bytes) / since_s,
            in_flight=load["in_flight"],
            slots_used=min(load["slots_used"], on_the_road),
            slots=self._flow.pebble.n_events,
            damaged=counts["drp"][0],
            restarts=self._crew.supervisor.roster.restarts,
            lost=self._feed.lost,
            head_worker=head if waited_for else None,
            head_s=now_s - self._head[1],
            paused=paused,
            trouble=trouble,
        )

    def readings(self, now: Snapshot) -> Readings:
        """Return all that is counted, beside the snapshot just taken."""
        counts, info = self._flow.counts(), DrpInfo.from_dict(info_of(self._config))
        if self._recorder.config is not None:
            info = info.completed(self._recorder.config)
        return Readings(
            now,
            (info.instrument, str(info.partition), info.det_name, str(info.det_segment), info.alias),
            self.ledger(),
            source_events=self._feed.events + self._feed.lost,
            bytes_in=counts["bytes_in"],
            bytes_recorded=self._bytes_recorded,
            stalled_s=self._feed.stalled_s,
            worker_events=[self._crew.done_by(one.worker) for one in self._crew.supervisor.roster.posts],
            latency=counts["latency"],
            service=counts["service"],
        )

    def warnings(self) -> Iterator[str]:
        """Yield what only the counts at the end tell."""
        if count := self._flow.counts()["malformed"]:
            events = "1 event" if count == 1 else f"{count:,} events"
            yield f"{events} had extents that do not add up: recorded whole, marked Corrupted"
        if self._judge is not None:
            yield from self._judge.warnings
            yield from map(str, self._judge.lost[:LOST_TOLD])
            if more := len(self._judge.lost[LOST_TOLD:]):
                yield f"and {more} more times; the report has them all"
            if count := self._flow.n_unknown + self._flow.n_repeated:
                yield f"{count:,} verdicts were for events that were not asked for, or decided: dropped"
        if count := self._crew.supervisor.unburied:
            yield f"{count} worker processes were not gone when the run was over, and are left behind"
        if count := self._feed.batch.n_malformed:
            yield f"{count:,} SlowUpdates had extents that do not add up: recorded whole, marked Corrupted"
        if count := self._feed.not_rising:
            events = "1 event is" if count == 1 else f"{count:,} events are"
            yield f"{events} not later than the one before: recorded as they came"

    def report(
        self,
        error: DrpError | None,
        transitions: Transitions,
        warnings: Sequence[str],
        constants: Sequence[Mapping[str, Any]],
    ) -> Report:
        """Return what the run came to, when nothing of it goes on; `error` is what ended it early."""
        config, counts, supervisor = self._config, self._flow.counts(), self._crew.supervisor
        ledger = self.ledger()
        given = self._feed.events + self._feed.lost
        # What a full disk kept from the file at its close was counted as it was staged.
        cut = sum(one.lost_dgrams for one in self._recorder.files if not one.path.name.count(".smd."))
        for fate, lost in zip(Fate, self._flow.last_fates(cut), strict=True):
            ledger.count(fate, -lost)
        ledger.count(Fate.lost_with_process, given - ledger.total)
        return Report(
            source=self._source_text,
            script=config.script,
            script_args=config.script_args,
            source_events=given,
            ledger=ledger,
            elapsed_s=time.monotonic() - self._began_s,
            run_s=counts["run_ns"] / 1e9,
            bytes_in=counts["bytes_in"],
            bytes_recorded=self._bytes_recorded,
            files=[str(one.path) for one in self._recorder.files],
            workers=[
                WorkerReport(
                    post.worker or 0, self._crew.done_by(post.worker), post.restarts, dict(post.failures)
                )
                for post in supervisor.roster.posts
            ],
            spare_restarts=supervisor.roster.spare_post.restarts,
            latency_counts=counts["latency"],
            service_counts=counts["service"],
            transitions=transitions.counts,
            synthesised={service.name: n for service, n in self._feed.gate.synthesised.items()},
            failure_kinds=supervisor.tally.as_dict(),
            failed_transitions=supervisor.failed_transitions + transitions.unequal + self._recorder.truncated,
            unburied=supervisor.unburied,
            reduce_lost_workers=self._crew.reduce_lost_workers,
            reduce_lost_events=self._crew.reduce_lost_events,
            source_stalled_s=self._feed.stalled_s,
            source_truncated=getattr(self._feed.source, "truncated", ()),
            source_faults=getattr(self._feed.source, "faults", ()),
            source_not_rising=self._feed.not_rising,
            warnings=warnings,
            constants=constants,
            no_verdict=[] if self._judge is None else [asdict(one) for one in self._judge.lost],
            error=_error_text(error or self._feed.error),
        )

    @property
    def _bytes_recorded(self) -> int:
        return self._recorder.l1.bytes if self._recorder.output else 0


def _error_text(error: Exception | None) -> str:
    """Return what ended a run early; an exception of the source's own may have no text at all."""
    if error is None or isinstance(error, DrpError):
        return "" if error is None else str(error)
    return f"the source failed: {type(error).__name__}: {error}".rstrip(": ")

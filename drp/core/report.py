"""What a run came to: the record that becomes the JSON report and the summary, and the look at a run still
going.

Both are plain data that the engine fills. The JSON names are a contract with whoever reads reports; the
rule for the exit code is here, because the report says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drp.core.ledger import Cause, Ledger
from drp.core.quantiles import quantiles
from drp.core.units import duration, si

REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one worker did over all its incarnations; `failures` counts by kind of Failure."""

    worker: int
    events: int
    restarts: int
    failures: Mapping[str, int] = field(default_factory=dict)
    state: str = "gone"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {
            "worker": self.worker,
            "events": self.events,
            "restarts": self.restarts,
            "failures": dict(self.failures),
            "state": self.state,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a run. Times are seconds, sizes bytes, histograms counts in the buckets of
    drp.core.quantiles (ns).

    `elapsed_s` is the whole command, `run_s` from the first L1Accept handed in to the last one recorded;
    `source_events` is what the source itself counted; `synthesised` the transitions put in, by name;
    `spare_restarts` those of spares that never came to work; `unburied` counts processes that were not gone
    at the end; `reduce_lost_events` are those whose share of the reduced arrays ended with one of
    `reduce_lost_workers` processes; `source_truncated` tells of files that end in a cut-off dgram,
    `source_faults` of what made a file end too early, `source_not_rising` counts events that are not later than
    the one before; `constants` what was calibrated with, for each BeginRun; `no_verdict` of which events a trigger that was away
    decided nothing; `failure_kinds`
    as the Tally has them; `error` is what ended the run early, or empty.
    """

    source: str
    script: str
    source_events: int
    ledger: Ledger
    elapsed_s: float
    run_s: float = 0.0
    bytes_in: int = 0
    bytes_recorded: int = 0
    script_args: Sequence[str] = ()
    files: Sequence[str] = ()
    workers: Sequence[WorkerReport] = ()
    spare_restarts: int = 0
    latency_counts: Sequence[int] = ()
    service_counts: Sequence[int] = ()
    transitions: Mapping[str, int] = field(default_factory=dict)
    synthesised: Mapping[str, int] = field(default_factory=dict)
    failure_kinds: Mapping[str, int] = field(default_factory=dict)
    failed_transitions: int = 0
    unburied: int = 0
    reduce_lost_workers: int = 0
    reduce_lost_events: int = 0
    source_stalled_s: float = 0.0
    source_truncated: Sequence[str] = ()
    source_faults: Sequence[str] = ()
    source_not_rising: int = 0
    warnings: Sequence[str] = ()
    constants: Sequence[Mapping[str, Any]] = ()
    no_verdict: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    version: str = ""

    @property
    def closes(self) -> bool:
        """True where every event of the source has exactly one fate."""
        return self.ledger.closes(self.source_events)

    @property
    def restarts(self) -> int:
        """Worker processes replaced, spares included."""
        return sum(worker.restarts for worker in self.workers) + self.spare_restarts

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the exit code is not 0; empty where it is."""
        found = []
        if self.error:
            found.append(self.error.splitlines()[0])
        found += self.source_faults
        if not self.closes:
            found.append(
                f"the ledger holds {self.ledger.total:,} events, the source gave {self.source_events:,}"
            )
        if self.ledger.lost:
            found.append(f"{_events(self.ledger.lost)} lost")
        if self.ledger.drp.events:
            found.append(f"drp damaged {_events(self.ledger.drp.events)}{self._overflows}")
        if self.ledger.trigger.events:
            found.append(f"the trigger damaged {_events(self.ledger.trigger.events)}")
        if self.failed_transitions:
            transitions = "transition" if self.failed_transitions == 1 else "transitions"
            found.append(f"workers failed at {self.failed_transitions:,} {transitions}")
        if self.reduce_lost_workers:
            found.append(f"reduced arrays lack {self._reduce_lost}")
        return tuple(found)

    @property
    def exit_code(self) -> int:
        """0 only if the ledger closes, nothing was lost, drp damaged nothing, no transition failed and the source
        was read to its end; else 1. What reduced arrays lack is lost.
        """
        return 1 if self.faults else 0

    def as_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON report."""
        return {
            "report_version": REPORT_VERSION,
            "drp_version": self.version,
            "exit_code": self.exit_code,
            "faults": list(self.faults),
            "error": self.error,
            "ledger": self.ledger.as_dict(),
            "source_events": self.source_events,
            "closes": self.closes,
            "damage": self.ledger.damage_as_dict(),
            "source": self.source,
            "script": self.script,
            "script_args": list(self.script_args),
            "files": list(self.files),
            "elapsed_s": self.elapsed_s,
            "run_s": self.run_s,
            "rates": {
                "events_per_s": self._per_s(self.ledger.total),
                "bytes_in_per_s": self._per_s(self.bytes_in),
                "bytes_recorded_per_s": self._per_s(self.bytes_recorded),
            },
            "bytes_in": self.bytes_in,
            "bytes_recorded": self.bytes_recorded,
            "latency_ns": quantiles(self.latency_counts),
            "service_ns": quantiles(self.service_counts),
            "source_stalled_s": self.source_stalled_s,
            "source_truncated": list(self.source_truncated),
            "source_faults": list(self.source_faults),
            "source_not_rising": self.source_not_rising,
            "transitions": dict(self.transitions),
            "synthesised": dict(self.synthesised),
            "workers": [worker.as_dict() for worker in self.workers],
            "restarts": self.restarts,
            "spare_restarts": self.spare_restarts,
            "failure_kinds": dict(self.failure_kinds),
            "failed_transitions": self.failed_transitions,
            "unburied": self.unburied,
            "reduce_lost": {"workers": self.reduce_lost_workers, "events": self.reduce_lost_events},
            "constants": [dict(one) for one in self.constants],
            "no_verdict": [dict(one) for one in self.no_verdict],
            "warnings": list(self.warnings),
        }

    @property
    def _overflows(self) -> str:
        """What to do about results that did not fit, where there are any."""
        count = self.ledger.drp.codes[Cause.truncated]
        return (
            f"; {count:,} for a result that did not fit: give more --fex-room, or keep less" if count else ""
        )

    @property
    def _reduce_lost(self) -> str:
        """What ended workers had not yet handed over of their reduced arrays."""
        held = (
            "1 process that ended"
            if self.reduce_lost_workers == 1
            else f"{self.reduce_lost_workers:,} processes that ended"
        )
        return f"what {_events(self.reduce_lost_events)} added, lost with {held}"

    def _per_s(self, amount: int) -> float:
        return amount / self.elapsed_s if self.elapsed_s > 0 else 0.0


def summary(report: Report) -> list[str]:
    """Return the lines that are printed at the end of a run."""
    rates = report.as_dict()["rates"]
    lines = [
        f"{_events(report.ledger.total)} from {report.source} in {report.elapsed_s:.2f} s: "
        f"{si(rates['events_per_s'], 'events/s')}, {si(rates['bytes_in_per_s'], 'B/s')} in, "
        f"{si(rates['bytes_recorded_per_s'], 'B/s')} recorded",
        *report.ledger.as_text(report.source_events),
    ]
    for name, counts in (("latency", report.latency_counts), ("script", report.service_counts)):
        if found := quantiles(counts, (0.5, 0.99, 1.0)):
            lines.append(f"  {name} " + ", ".join(f"{q} {duration(value)}" for q, value in found.items()))
    lines.append(f"  workers: {len(report.workers)}, restarts: {_restarts(report)}")
    lines += [f"    {count:,} x {kind}" for kind, count in list(report.failure_kinds.items())[:10]]
    if report.synthesised:
        lines.append(f"  transitions put in: {_counts(report.synthesised)}")
    lines += [f"  wrote {name}" for name in report.files]
    lines += [f"  warning: {text}" for text in report.warnings]
    lines += [f"  fault: {text}" for text in report.faults]
    return lines


def _restarts(report: Report) -> str:
    """Return how many were replaced, of how many where not all of them were, and what those ended of: that adds up."""
    ended: dict[str, int] = {}
    for worker in report.workers:
        for kind, count in worker.failures.items():
            ended[kind] = ended.get(kind, 0) + count
    if report.spare_restarts:
        ended["of spares"] = report.spare_restarts
    total = sum(ended.values())
    of_all = "" if total == report.restarts else f" of {total:,} that ended"
    return f"{report.restarts:,}{of_all} ({_counts(ended)})" if ended else f"{report.restarts:,}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _events(count: int) -> str:
    return f"{count:,} event" if count == 1 else f"{count:,} events"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at a run that is going on, for the status line.

    `events` have their fate; rates are those since the look before. `head_worker` holds the event that all
    later ones wait for, and was seen with it for `head_s`; None where nothing waits. `paused` says that nothing
    can be recorded, and `trouble` what holds the run up (a full disk, no worker, no constants yet), or is empty.
    """

    state: str
    elapsed_s: float
    events: int
    events_per_s: float = 0.0
    bytes_per_s: float = 0.0
    in_flight: int = 0
    slots_used: int = 0
    slots: int = 0
    damaged: int = 0
    lost: int = 0
    restarts: int = 0
    head_worker: int | None = None
    head_s: float = 0.0
    paused: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """All that is counted of a run that is going on, for a monitor; names and units are those of Report.

    `who` names the drp: instrument, partition, detector, segment, alias. `monitored`: what was sent to each meb and what not, by its alias.
    """

    now: Snapshot
    who: tuple[str, str, str, str, str]
    ledger: Ledger
    source_events: int = 0
    bytes_in: int = 0
    bytes_recorded: int = 0
    stalled_s: float = 0.0
    worker_events: Sequence[int] = ()
    latency: Sequence[int] = ()
    service: Sequence[int] = ()
    monitored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

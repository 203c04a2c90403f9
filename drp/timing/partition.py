"""What timing does: it joins rates, dead time, links and journal, a turn at a time. It knows neither control nor a command line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drp.core import beam
from drp.core.errors import DrpError
from drp.core.transitions import RunState
from drp.core.triggering import Triggering, TriggerPlan
from drp.core.wire import MAX_GROUPS
from drp.timing.clock import PulseClock
from drp.timing.journal import Journal
from drp.timing.links import Credit, Joined, Left, Links
from xtc import TransitionId

log = logging.getLogger("drp.timing")

IDLE_S = 0.05
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TimingConfig:
    """How timing is set up."""

    plan: TriggerPlan
    instrument: str = "tst"
    folder: Path | None = None
    """Where journals go; None: there are none."""
    events: int | None = None
    """Events of each step; None: until Disable."""


class Partition:
    """The triggers of one partition, from Configure to Unconfigure, again and again."""

    def __init__(self, config: TimingConfig, links: Links, clock: PulseClock) -> None:
        self.config = config
        self.links = links
        self.core: Triggering | None = None
        self.dead: dict[str, float] = {}
        """Dead time of each drp in the last second, as a fraction; by alias."""
        self._clock = clock
        self._journal: Journal | None = None
        self._told: dict[int, tuple[int, int]] = {}
        self._look_at = 0

    def configure(self, slow_hz: float | None = None) -> None:
        """Begin a new configuration with the drps that the links know; `slow_hz` in place of the plan's own. ConfigError: it cannot be."""
        members = {drp.drp_id: drp.group for drp in self.links.drps.values()}
        plan = self.config.plan if slow_hz is None else replace(self.config.plan, slow_hz=slow_hz)
        self.core = Triggering(plan, members, self._clock.last_pulse)
        now = self._clock()
        for drp in self.links.drps.values():
            self.core.grant(drp.drp_id, drp.granted, now)

    def begin_run(self, experiment: str, run: int, *, record: bool = True) -> None:
        """Open the journal of a run. JournalError: it cannot be."""
        self.end_run()
        if record and self.config.folder is not None:
            began = beam.timestamp(beam.pulse_at(self._clock()))
            config = self.config
            self._journal = Journal(
                config.folder or Path(),
                config.instrument,
                experiment,
                run,
                platform=config.plan.common,
                began=began,
            )

    def end_run(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def reset(self) -> None:
        """End everything at once: the drps close their runs themselves."""
        self.end_run()
        self.core = None
        self.links.dismiss()

    def insert(self, service: TransitionId, info: Mapping[str, Any]) -> int:
        """Put a transition among the triggers, and return its pulse id. OrderError: it is not legal now; DrpError: nothing is configured."""
        if self.core is None:
            raise DrpError(f"{service.name} before timing was told to configure")
        if service == TransitionId.Enable:
            count = info.get("readout_count")
            self.core.limit(count if isinstance(count, int) and count > 0 else self.config.events)
        now = self._clock()
        record = self.core.insert(service, now)
        if service == TransitionId.BeginRun:
            self._told.clear()
        elif service == TransitionId.Enable:
            self._look_at = now + _SECOND_NS
        self._out(record)
        self.links.send_transition(record, info)
        if service == TransitionId.EndRun:
            self.core.settle(self._clock())
            self.end_run()
        elif service == TransitionId.Unconfigure:
            self.core = None
        return int(record["pulse_id"][0])

    def gone(self, drp_id: int) -> None:
        """Take a drp out until the next configure."""
        self.links.gone(drp_id)
        if self.core is not None:
            self.core.gone(drp_id)

    def turn(self) -> None:
        """Take what has come, and fire what is due."""
        now = self._clock()
        core = self.core
        for one in self.links.receive():
            if core is not None and one.drp_id in core.members:
                self._take(core, one, now)
        if core is None:
            return
        if self._journal is not None:
            self._journal.retry()
        blocked = self._journal is not None and self._journal.blocked
        slow = None if blocked else core.slow_update(now)
        if slow is not None:
            self._out(slow)
            self.links.send_transition(slow, {"inhibited": self._inhibited(core)})
        events = core.fire(now, blocked=blocked)
        if len(events):
            self._out(events)
            self.links.send(events)
        if now >= self._look_at:
            self._look(core, now)

    def wait_s(self) -> float:
        """Return the seconds until the next pulse, or how long to sleep where none is due; a message ends the sleep."""
        due = None if self.core is None else self.core.next_ns()
        if due is None:
            return IDLE_S
        return min(max(0.0, (due - self._clock()) / _SECOND_NS), IDLE_S)

    def counts(self) -> dict[str, Any]:
        """Return what became of the pulses of this run."""
        core = self.core
        if core is None:
            return {}
        names = {drp.drp_id: drp.alias for drp in (*self.links.drps.values(),)}
        members = dict(core.members)  # this may be another thread, that of metrics
        return {
            "events": core.events,
            "groups": {str(group): counts.fired for group, counts in core.groups.items()},
            "inhibited_groups": {str(group): counts.inhibited for group, counts in core.groups.items()},
            "inhibited": {names.get(drp, str(drp)): member.inhibited for drp, member in members.items()},
            "dead_s": {
                names.get(drp, str(drp)): member.dead_ns / _SECOND_NS for drp, member in members.items()
            },
            "enabled_s": core.enabled_ns / _SECOND_NS,
            "skipped": core.skipped,
        }

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState.UNCONFIGURED if self.core is None else self.core.state

    def _inhibited(self, core: Triggering) -> list[int]:
        """Return by readout group how many of its triggers were inhibited in this run."""
        return [core.groups[group].inhibited if group in core.groups else 0 for group in range(MAX_GROUPS)]

    def _take(self, core: Triggering, one: Joined | Credit | Left, now: int) -> None:
        if isinstance(one, Credit):
            core.grant(one.drp_id, one.total, now)
        else:
            core.joined(one.drp_id, now)

    def _out(self, records: Any) -> None:
        """Write triggers down before they are sent."""
        self._clock.gave(int(records["pulse_id"][-1]))
        if self._journal is not None:
            self._journal.write(records)

    def _look(self, core: Triggering, now: int) -> None:
        """See how dead each drp was since the last look."""
        self._look_at = now + _SECOND_NS
        core.settle(now)
        for drp in self.links.drps.values():
            member = core.members.get(drp.drp_id)
            if member is None:
                continue
            dead, enabled = self._told.get(drp.drp_id, (0, 0))
            span = core.enabled_ns - enabled
            self.dead[drp.alias] = min(1.0, max(0.0, (member.dead_ns - dead) / span)) if span > 0 else 0.0
            self._told[drp.drp_id] = (member.dead_ns, core.enabled_ns)

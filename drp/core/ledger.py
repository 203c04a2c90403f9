"""The account of a run: every event has exactly one fate, and damage is counted beside it.

The fates add up to the number of events that the source counted, or the ledger does not close. Damage is
another matter, since a damaged event is recorded as well: it is counted by bit and by the user value in its
top four bits, separately for what came in, what drp did, what the script set itself, and what the trigger's
event builder found. An event may count in all four.

The ledger is written by drp as the detector `drpledger`, printed, and reported; this module gives its
fields for each. It knows nothing of who counts: the engine counts in its own arrays, whose indices are
those of `Fate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from xtc import Damage

N_DAMAGE_BITS = 12
N_CODES = 16
FIRST_SCRIPT_CODE = 8
_USER_SHIFT = 12


class Fate(IntEnum):
    """What became of an event. The values index the engine's counters."""

    recorded_verdict = 0
    recorded_prescale = 1
    recorded_no_verdict = 2
    recorded_bypass = 3
    not_recorded = 4
    filtered = 5
    lost_before_slot = 6
    lost_with_process = 7


FATE_TEXT: dict[Fate, str] = {
    Fate.recorded_verdict: "recorded, the trigger said so",
    Fate.recorded_prescale: "recorded by prescale only",
    Fate.recorded_no_verdict: "recorded, no trigger decided",
    Fate.recorded_bypass: "recorded, bypassing the trigger",
    Fate.not_recorded: "processed, not recorded (no -o)",
    Fate.filtered: "filtered by the trigger",
    Fate.lost_before_slot: "lost before a slot was free",
    Fate.lost_with_process: "lost: not recorded when the run was over",
}


class Cause(IntEnum):
    """Why drp damaged an event: the user value (bits 12..15) of its damage. 8..15 belong to the script
    (`ds.damage`).
    """

    none = 0
    raised = 1
    timed_out = 2
    died = 3
    truncated = 4
    nonsense = 5
    left = 6
    no_worker = 7

    @property
    def damage(self) -> Damage:
        """The damage word that drp sets for this cause: the code, and TimedOut or Truncated where true."""
        bits = {Cause.timed_out: Damage.TimedOut, Cause.truncated: Damage.Truncated}
        return bits.get(self, Damage(0)).with_user_code(self)


def code_name(code: int) -> str:
    """Return the name of a user value of damage, 0..15, as the report writes it."""
    return Cause(code).name if code < FIRST_SCRIPT_CODE else f"script_{code}"


@dataclass(slots=True)
class DamageCounts:
    """Events that carry damage from one origin: how many, by bit 0..11, and by user value 0..15."""

    events: int = 0
    bits: list[int] = field(default_factory=lambda: [0] * N_DAMAGE_BITS)
    codes: list[int] = field(default_factory=lambda: [0] * N_CODES)

    def count(self, damage: int) -> None:
        """Count one event with the 16-bit word `damage`; nothing where it is 0."""
        if not damage:
            return
        self.events += 1
        for bit in range(N_DAMAGE_BITS):
            self.bits[bit] += damage >> bit & 1
        code = damage >> _USER_SHIFT & (N_CODES - 1)
        if code:
            self.codes[code] += 1

    def add(self, other: DamageCounts) -> None:
        """Add what another thread counted."""
        self.events += other.events
        self.bits = [a + b for a, b in zip(self.bits, other.bits, strict=True)]
        self.codes = [a + b for a, b in zip(self.codes, other.codes, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """Return {"events", "bits": {name: n}, "codes": {name: n}}, with the names that are not zero."""
        return {
            "events": self.events,
            "bits": {_bit_name(bit): n for bit, n in enumerate(self.bits) if n},
            # Code 0 is that of damage that has none: the engine counts it as it comes.
            "codes": {code_name(code): n for code, n in enumerate(self.codes) if n and code},
        }


def _bit_name(bit: int) -> str:
    return next((known.name for known in Damage if known == 1 << bit and known.name), f"bit{bit}")


@dataclass(slots=True)
class Ledger:
    """Counts of fates, and of damage by origin."""

    fates: list[int] = field(default_factory=lambda: [0] * len(Fate))
    incoming: DamageCounts = field(default_factory=DamageCounts)
    drp: DamageCounts = field(default_factory=DamageCounts)
    script: DamageCounts = field(default_factory=DamageCounts)
    trigger: DamageCounts = field(default_factory=DamageCounts)

    def count(self, fate: Fate, events: int = 1) -> None:
        """Give `events` events their fate."""
        self.fates[fate] += events

    def count_damage(self, incoming: int = 0, drp: int = 0, script: int = 0) -> None:
        """Count the damage of one event: the words that came in, that drp set, and that the script set."""
        self.incoming.count(incoming)
        self.drp.count(drp)
        self.script.count(script)

    def add(self, other: Ledger) -> None:
        """Add what another thread counted."""
        self.fates = [a + b for a, b in zip(self.fates, other.fates, strict=True)]
        self.incoming.add(other.incoming)
        self.drp.add(other.drp)
        self.script.add(other.script)
        self.trigger.add(other.trigger)

    def __getitem__(self, fate: Fate) -> int:
        return self.fates[fate]

    @property
    def total(self) -> int:
        """Events that have a fate."""
        return sum(self.fates)

    @property
    def recorded(self) -> int:
        """Events that are in the file, whatever let them in."""
        return sum(self.fates[fate] for fate in Fate if fate.name.startswith("recorded"))

    @property
    def lost(self) -> int:
        """Events that are gone though nobody decided so."""
        return self.fates[Fate.lost_before_slot] + self.fates[Fate.lost_with_process]

    def closes(self, source_count: int) -> bool:
        """Say whether every one of the source's events has a fate, and no other has."""
        return self.total == source_count

    def as_fields(self) -> dict[str, int]:
        """Return the fields of the detector `drpledger`, all UINT64: the same names in the same order in
        every run.
        """
        fields = {fate.name: self.fates[fate] for fate in Fate}
        fields["total"] = self.total
        fields["damaged_incoming"] = self.incoming.events
        fields["damaged_drp"] = self.drp.events
        fields["damaged_script"] = self.script.events
        fields["damaged_trigger"] = self.trigger.events
        fields |= {f"drp_{cause.name}": self.drp.codes[cause] for cause in Cause if cause is not Cause.none}
        return fields

    def as_dict(self) -> dict[str, int]:
        """Return one integer per fate, and their `total`: the report's `ledger`."""
        return {fate.name: self.fates[fate] for fate in Fate} | {"total": self.total}

    def damage_as_dict(self) -> dict[str, Any]:
        """Return the damage by origin (`incoming`, `drp`, `script`, `trigger`) (DamageCounts.as_dict of each)."""
        return {
            "incoming": self.incoming.as_dict(),
            "drp": self.drp.as_dict(),
            "script": self.script.as_dict(),
            "trigger": self.trigger.as_dict(),
        }

    def as_text(self, source_count: int) -> list[str]:
        """Return the lines of the summary: the fates that happened, their sum beside the source's, and the
        damage.
        """
        width = max(len(f"{self.total:,}"), len(f"{source_count:,}"))
        lines = [f"  {self.fates[f]:>{width},}  {FATE_TEXT[f]}" for f in Fate if self.fates[f]]
        verdict = "the ledger closes" if self.closes(source_count) else "THE LEDGER DOES NOT CLOSE"
        lines.append(f"  {self.total:>{width},}  of {source_count:,} events of the source: {verdict}")
        origins = (
            ("came in", self.incoming),
            ("by drp", self.drp),
            ("by the script", self.script),
            ("by the trigger", self.trigger),
        )
        lines += [
            f"  damaged, {origin}: {_damage_text(counts)}" for origin, counts in origins if counts.events
        ]
        return lines


def _damage_text(counts: DamageCounts) -> str:
    told = counts.as_dict()
    kinds = [f"{name} {n:,}" for name, n in (told["bits"] | told["codes"]).items()]
    return f"{counts.events:,} ({', '.join(kinds)})"


LEDGER_FIELDS: tuple[str, ...] = tuple(Ledger().as_fields())

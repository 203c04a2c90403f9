"""The partition's ledger: whether every trigger that timing sent has a fate in each drp of its group, and all of them kept the same.

`issued` is timing's own count by readout group. Each drp's ledger must add up to that of its group. Drps of one group must have recorded as many
events as each other, unless one recorded without a verdict, which is what a teb that was away leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drp.core.ledger import Fate

RECORDED = tuple(fate.name for fate in Fate if fate.name.startswith("recorded"))


@dataclass(frozen=True, slots=True)
class Account:
    """The ledger of one run. `drps` has what each drp told, or None, by alias; `problems` is empty where it closes.

    `undelivered` is None but where timing died in the run: then it has the triggers that did not reach a drp, by alias, and `issued` is what
    reached any.
    """

    experiment: str
    run: int
    issued: dict[str, int]
    inhibited: dict[str, int]
    groups: dict[str, int]
    drps: dict[str, dict[str, int] | None]
    gone: tuple[str, ...]
    undelivered: dict[str, int] | None
    problems: tuple[str, ...]

    @property
    def closes(self) -> bool:
        """Whether everything adds up."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "experiment": self.experiment,
            "run": self.run,
            "closes": self.closes,
            "problems": list(self.problems),
            "issued": self.issued,
            "inhibited": self.inhibited,
            "groups": self.groups,
            "drps": self.drps,
            "gone": list(self.gone),
            "undelivered": self.undelivered,
        }

    def as_text(self) -> list[str]:
        """Return its lines for a person."""
        lines = [f"run {self.run} of {self.experiment}: triggers {_counts(self.issued, 'group ')}"]
        for alias, ledger in self.drps.items():
            none = "died in the run, and took its ledger along" if alias in self.gone else "no ledger"
            told = none if ledger is None else _counts({k: n for k, n in ledger.items() if n})
            lines.append(f"  {alias} (group {self.groups[alias]}): {told}")
        if self.undelivered is not None:
            lost = {alias: n for alias, n in self.undelivered.items() if n}
            lines.append(
                f"  timing died in the run; triggers that reached one drp of a group and not another: {_counts(lost)}"
            )
        if any(self.inhibited.values()):
            lines.append(f"  inhibited by dead time: {_counts(self.inhibited)}")
        verdict = "the partition's ledger closes" if self.closes else "THE PARTITION'S LEDGER DOES NOT CLOSE"
        return [*lines, f"  {verdict}", *(f"  {problem}" for problem in self.problems)]


def account(
    experiment: str,
    run: int,
    groups: dict[str, int],
    ledgers: dict[str, object],
    counts: object,
    gone: Sequence[str] = (),
    *,
    timing_gone: bool = False,
) -> Account:
    """Return the account of a run: `groups` and `ledgers` by alias of the drps, as they told them; `counts` as timing told them.

    From those that are `gone` no ledger is wanted: what they had is lost with the process, and is said to be. With `timing_gone` nobody but
    timing's journal knows of triggers that reached no drp.
    """
    told = counts if isinstance(counts, dict) else {}
    issued, inhibited = _numbers(told.get("groups")), _numbers(told.get("inhibited")) or {}
    drps = {alias: _numbers(ledgers.get(alias)) for alias in sorted(groups)}
    undelivered = None
    if timing_gone and issued is None:
        issued = _reached(groups, drps)
        undelivered = {
            a: issued[str(groups[a])] - one["total"] for a, one in drps.items() if one and "total" in one
        }
    problems = [] if issued is not None else ["timing has not told how many triggers it sent"]
    for alias, ledger in drps.items():
        if alias in gone:
            continue
        if ledger is None or "total" not in ledger:
            problems.append(f"{alias} has given no ledger")
        elif (
            issued is not None
            and undelivered is None
            and ledger["total"] != issued.get(str(groups[alias]), 0)
        ):
            sent = issued.get(str(groups[alias]), 0)
            problems.append(
                f"{alias} has {ledger['total']} events, and group {groups[alias]} had {sent} triggers"
            )
    for group in sorted(set(groups.values())):
        mine = {a: one for a, one in drps.items() if groups[a] == group and one is not None}
        if not any((undelivered or {}).get(alias) for alias in mine):
            problems += _unequal(mine)
    return Account(
        experiment, run, issued or {}, inhibited, groups, drps, tuple(gone), undelivered, tuple(problems)
    )


def _reached(groups: dict[str, int], drps: dict[str, dict[str, int] | None]) -> dict[str, int]:
    """Return the most events that a drp of each group had."""
    most = dict.fromkeys((str(group) for group in groups.values()), 0)
    for alias, ledger in drps.items():
        group = str(groups[alias])
        most[group] = max(most[group], (ledger or {}).get("total", 0))
    return most


def _unequal(drps: dict[str, dict[str, int]]) -> list[str]:
    recorded = {alias: sum(one.get(fate, 0) for fate in RECORDED) for alias, one in drps.items()}
    unjudged = any(one.get(Fate.recorded_no_verdict.name, 0) for one in drps.values())
    if unjudged or len(set(recorded.values())) < 2:
        return []
    return [f"drps of one group recorded differently: {_counts(recorded)}"]


def _numbers(fields: object) -> dict[str, int] | None:
    """Return what is a dictionary of counts, else None."""
    if not isinstance(fields, dict):
        return None
    good = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in fields.values())
    return {str(name): one for name, one in fields.items()} if good else None


def _counts(counts: dict[str, int], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name} {n:,}" for name, n in counts.items()) or "none"

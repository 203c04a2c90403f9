"""What members are told in the first phase of each transition, and who takes part: pure functions of who is there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from drp.control.members import MAX_OF_LEVEL, Failure, Peer, group_of
from drp.core.errors import DrpError, MessageError
from drp.core.partition import LEVELS, State
from drp.core.wire import MAX_GROUPS
from drp.source.base import near_misses

MEMBERS = "members"
_MORE = ("phase2_s", "slow_update_hz")
LOOSE = (State.RESET, State.UNALLOCATED)
"""Where nothing is settled yet, and members may come and go."""
ONE_AT_LEAST = ("timing", "drp")


class Selection:
    """Which members take part, and in which readout group; made of what LCLS's active-detectors file holds. Without one all take part."""

    def __init__(self, levels: dict[str, Any]) -> None:
        """Take {level: {alias: {"active": 0 or 1, "det_info": {"readout": group}}}}. MessageError: it is not that."""
        self.levels: dict[str, dict[str, dict[str, Any]]] = {}
        for level, aliases in levels.items():
            if level not in (*LEVELS, "control", "tpr") or not isinstance(aliases, dict):
                raise MessageError(f"{level!r} is no level with aliases in it")
            if level in LEVELS:
                self.levels[level] = {alias: _entry(alias, one) for alias, one in aliases.items()}

    @classmethod
    def from_text(cls, text: str) -> Selection:
        """Return what an active-detectors file says; MessageError."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MessageError(f"the text is no JSON: {error}") from None
        levels = content.get("activedet", content) if isinstance(content, dict) else None
        if not isinstance(levels, dict):
            raise MessageError("the active detectors are an object of levels")
        return cls(levels)

    def as_dict(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return self.levels

    def takes(self, peer: Peer) -> bool:
        """Say whether a member takes part."""
        return bool(self.levels.get(peer.level, {}).get(peer.alias, {}).get("active"))

    def group(self, peer: Peer) -> int | None:
        """Return the readout group it gives a member, None where it does not say."""
        return group_of(self.levels.get(peer.level, {}).get(peer.alias, {}))

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """Level and alias of all that must be there."""
        return [
            (level, alias) for level, one in self.levels.items() for alias in one if one[alias].get("active")
        ]


def _entry(alias: str, entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise MessageError(f"{alias} is no object")
    group = group_of(entry)
    if group is not None and not 0 <= group < MAX_GROUPS:
        raise MessageError(f"{alias} has readout group {group}, and they are 0-{MAX_GROUPS - 1}")
    made: dict[str, Any] = {"active": int(bool(entry.get("active", 1)))}
    return made if group is None else made | {"det_info": {"readout": group}}


def candidates(peers: Iterable[Peer], selection: Selection | None) -> list[Peer]:
    """Return who would take part, one for each level and alias: whoever is heard comes before who is not."""
    best: dict[tuple[str, str], Peer] = {}
    for peer in sorted(peers, key=lambda one: (one.closed_s is not None, one.silent)):
        if (selection is None or selection.takes(peer)) and peer.closed_s is None:
            best.setdefault((peer.level, peer.alias), peer)
    return sorted(best.values(), key=lambda peer: (LEVELS.index(peer.level), peer.alias))


def missing(peers: Iterable[Peer], selection: Selection | None) -> list[Failure]:
    """Return who is not there that must be."""
    there = {(peer.level, peer.alias) for peer in peers}
    if selection is not None:
        return [
            Failure(f"{level} {alias}", "it is not there")
            for level, alias in selection.wanted
            if (level, alias) not in there
        ]
    levels = {level for level, _ in there}
    return [Failure("", f"no {level} is there") for level in ONE_AT_LEAST if level not in levels]


def too_many(peers: Iterable[Peer]) -> list[Failure]:
    """Return the levels that have more members than there may be."""
    levels = [peer.level for peer in peers]
    return [
        Failure("", f"{levels.count(level)} members are {level}, and there may be {most}")
        for level, most in MAX_OF_LEVEL.items()
        if levels.count(level) > most
    ]


def unfit(peers: Iterable[Peer]) -> list[Failure]:
    """Return those that stand elsewhere than at the beginning, with what an earlier partition left."""
    return [
        Failure(one.name, f"it is {one.state}, not unallocated", hint="Reset the partition")
        for one in peers
        if one.state != State.UNALLOCATED
    ]


def number(peers: list[Peer], selection: Selection | None) -> None:
    """Give each its id within its level, by alias, and its readout group."""
    for level in LEVELS:
        for at, peer in enumerate(one for one in peers if one.level == level):
            chosen = None if selection is None else selection.group(peer)
            peer.id, peer.gone, peer.connect_info = at, False, {}
            peer.readout = (group_of(peer.who) or 0) if chosen is None else chosen


def table(peers: Iterable[Peer]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what `connect` tells of everybody, by level and alias."""
    found: dict[str, dict[str, dict[str, Any]]] = {level: {} for level in LEVELS}
    for peer in peers:
        found[peer.level][peer.alias] = {
            "id": peer.id,
            "readout": peer.readout,
            "connect_info": peer.connect_info,
            "proc_info": peer.who.get("proc_info", {}),
            "det_info": {"readout": peer.readout},
        }
    return found


def take_connect_info(
    peers: Iterable[Peer], answers: dict[str, dict[str, Any]], phase2_s: float
) -> list[Failure]:
    """Keep what alloc was answered; return what cannot be right with it."""
    failures = []
    for peer in peers:
        info = answers.get(peer.uid, {}).get("connect_info")
        if not isinstance(info, dict):
            failures.append(Failure(peer.name, "its answer to alloc has no connect_info"))
            continue
        peer.connect_info = info
        limit_s = info.get("eb_timeout_s", peer.who.get("eb_timeout_s", 0))
        if isinstance(limit_s, int | float) and limit_s >= phase2_s:
            what = f"its event-builder time-out of {limit_s:g} s is not below the {phase2_s:g} s of the second phase"
            failures.append(Failure(peer.name, what, hint="Make it shorter, or give control a longer -T"))
    return failures


def merged(body: dict[str, Any], extra: dict[str, Any], peer: Peer | None = None) -> dict[str, Any]:
    """Return a body with what the user adds to it: to all, and under "members" to one alias."""
    own = extra.get(MEMBERS, {}) if peer is not None else {}
    of_peer = own.get(peer.alias, {}) if peer is not None and isinstance(own, dict) else {}
    common = {name: value for name, value in extra.items() if name != MEMBERS}
    return body | common | (of_peer if isinstance(of_peer, dict) else {})


def unknown_members(extra: dict[str, Any], bodies: dict[str, dict[str, Any]]) -> list[Failure]:
    """Return what the user adds for members that are not there, or of which a member knows nothing; `bodies` by alias."""
    own = extra.get(MEMBERS, {})
    if not isinstance(own, dict):
        return [Failure("control", "members is an object of aliases")]
    failures = []
    for alias, more in own.items():
        if alias not in bodies:
            what = f"no member of the partition is called {alias!r}{near_misses(alias, list(bodies))}"
            failures.append(Failure("control", what))
            continue
        known = [*bodies[alias], *_MORE]
        failures += [
            Failure("control", f"{alias} cannot be told {name!r}{near_misses(name, known)}")
            for name in (more if isinstance(more, dict) else {})
            if name not in known
        ]
    return failures


def of_error(error: DrpError) -> Failure:
    """Return an error of control's own as a failure."""
    return Failure("control", error.what, error.where, error.hint)

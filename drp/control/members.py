"""Who is there: the members that control hears, and how long ago. Clock injected, no sockets.

A member is known by the id it chose at its start; level and alias say what it is to the partition. It is named when it has not been heard for
SILENT_S, or does not take its commands for as long. It is dead when its connection has been closed for DEAD_S, or it was silent for
`gone_after_s`: the one is a process that ended, the other one that may as well have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from drp.core.errors import DrpError, MessageError
from drp.core.partition import LEVELS, State
from drp.core.wire import MAX_DRPS, MAX_GROUPS, MAX_MEBS, MAX_TEBS
from drp.link.control import SILENT_S

DEAD_S = 0.9
GONE_AFTER_S = 30.0
MAX_NAME = 64
MAX_OF_LEVEL = {"drp": MAX_DRPS, "teb": MAX_TEBS, "meb": MAX_MEBS, "timing": 1}


class News(StrEnum):
    """What the clock says of a member."""

    silent = "silent"
    back = "back"
    stuck = "stuck"
    dead = "dead"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with whom. `traceback` is that of a script, or empty."""

    who: str
    what: str
    where: str = ""
    hint: str = ""
    traceback: str = ""

    @classmethod
    def told(cls, who: str, fields: object) -> Failure:
        """Return the failure in what a member told, whatever it is."""
        if not isinstance(fields, dict):
            return cls(who, str(fields)[:1000])
        what, where, hint, trace = (
            str(fields.get(name) or "") for name in ("what", "where", "hint", "traceback")
        )
        return cls(who, what or "it failed and does not say why", where, hint, trace)

    def as_dict(self) -> dict[str, str]:
        """Return the fields, for JSON."""
        return {
            "who": self.who,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
            "traceback": self.traceback,
        }

    def __str__(self) -> str:
        text = str(DrpError(f"{self.where}: {self.what}" if self.where else self.what, hint=self.hint))
        text = f"{self.who}: {text}" if self.who else text
        return f"{text}\n{self.traceback.rstrip()}" if self.traceback else text


@dataclass(slots=True)
class Peer:
    """One member as control knows it. `who` is what it told last; `id`, `readout` and `connect_info` are what alloc agreed on."""

    uid: str
    level: str
    alias: str
    heard_s: float
    who: dict[str, Any] = field(repr=False)
    closed_s: float | None = None
    silent: bool = False
    stuck: bool = False
    gone: bool = False
    id: int = -1
    readout: int = 0
    connect_info: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Level and alias, such as `drp cam_0`."""
        return f"{self.level} {self.alias}"

    @property
    def place(self) -> str:
        """Process id and host."""
        info = self.who.get("proc_info")
        info = info if isinstance(info, dict) else {}
        return f"pid {info.get('pid', '?')} on {info.get('host', '?')}"

    @property
    def state(self) -> str:
        """The state that it told last."""
        return str(self.who.get("state", ""))


class Members:
    """All members that are heard."""

    def __init__(self, gone_after_s: float = GONE_AFTER_S) -> None:
        self._gone_after_s = gone_after_s
        self._peers: dict[str, Peer] = {}

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def get(self, uid: str) -> Peer | None:
        """Return the member of that id."""
        return self._peers.get(uid)

    def named(self, level: str, alias: str) -> Peer | None:
        """Return the member that has this alias, and is not about to be given up."""
        return next((one for one in self if (one.level, one.alias) == (level, alias)), None)

    def heard(self, uid: str, who: dict[str, Any], now: float) -> Peer:
        """Take a heartbeat. MessageError: it is none, or its alias belongs to another process that is alive."""
        peer = self._peers.get(uid)
        if peer is None:
            peer = self._new(uid, who, now)
        _check(who, peer)
        peer.who, peer.heard_s, peer.closed_s = who, now, None
        return peer

    def closed(self, uid: str, now: float) -> None:
        """Take note that the connection of a member is gone."""
        peer = self._peers.get(uid)
        if peer is not None and peer.closed_s is None:
            peer.closed_s = now

    def tick(self, now: float) -> list[tuple[Peer, News]]:
        """Return what has become of whom since the last call; the dead are not known any more."""
        news = []
        for peer in self:
            if self._is_dead(peer, now):
                del self._peers[peer.uid]
                news.append((peer, News.dead))
                continue
            silent = now - peer.heard_s >= SILENT_S
            if silent != peer.silent:
                peer.silent = silent
                news.append((peer, News.silent if silent else News.back))
            untaken_s = peer.who.get("untaken_s")
            stuck = isinstance(untaken_s, int | float) and untaken_s >= SILENT_S
            if stuck and not peer.stuck:
                news.append((peer, News.stuck))
            peer.stuck = stuck
        return news

    def shift(self, seconds: float) -> None:
        """Move all times by as much as control itself stood still: nobody is silent for that."""
        for peer in self:
            peer.heard_s += seconds
            if peer.closed_s is not None:
                peer.closed_s += seconds

    def _is_dead(self, peer: Peer, now: float) -> bool:
        closed = peer.closed_s is not None and now - peer.closed_s >= DEAD_S
        return closed or now - peer.heard_s >= self._gone_after_s

    def _new(self, uid: str, who: dict[str, Any], now: float) -> Peer:
        level, alias = who.get("level"), who.get("alias")
        if level not in LEVELS or not isinstance(alias, str) or not 0 < len(alias) <= MAX_NAME:
            raise MessageError(f"{str(level)[:MAX_NAME]} {str(alias)[:MAX_NAME]} is no member of a partition")
        peer = Peer(uid, level, alias, now, who)
        before = self.named(level, alias)
        if before is not None and before.closed_s is None and not before.silent:
            raise MessageError(
                f"{peer.name} is there already: {before.place}",
                hint="Give this process another alias (-u), or end that one",
            )
        self._peers[uid] = peer
        return peer


def _check(who: dict[str, Any], peer: Peer) -> None:
    """Check what a heartbeat says; MessageError."""
    if (who.get("level"), who.get("alias")) != (peer.level, peer.alias):
        raise MessageError(f"{peer.name} calls itself something else now")
    if who.get("state") not in tuple(State):
        raise MessageError(f"{peer.name} is in no state that there is")
    group = group_of(who)
    if group is not None and not 0 <= group < MAX_GROUPS:
        raise MessageError(f"{peer.name} has readout group {group}, and they are 0-{MAX_GROUPS - 1}")


def group_of(who: dict[str, Any]) -> int | None:
    """Return the readout group that a member tells; None where it tells none."""
    info = who.get("det_info")
    group = info.get("readout") if isinstance(info, dict) else None
    return group if isinstance(group, int) and not isinstance(group, bool) else None

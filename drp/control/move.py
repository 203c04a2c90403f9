"""One transition on its way: who has been asked, who has answered, and what went wrong with whom. Clock injected, no sockets.

First phase: every member is asked, and all answers are awaited; no failure hides another. Second phase, where timing inserts the transition: all
drps, tebs and mebs tell that it has come through. Where a transition leads forward, a failure in the first phase keeps it from being
inserted. Where it leads back, it is inserted whatever they answer, and who is silent is not waited for: a run must be able to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from drp.control.members import Failure, Peer
from drp.core.partition import OUT_OF_STREAM, RESET, STEPS, State
from drp.link.control import ROLLCALL

INSERT = "insert"
INSERT_LIMIT_S = 5.0
RESET_LIMIT_S = 30.0


class Phase(StrEnum):
    """Where a transition stands."""

    answers = "answers"
    insertion = "insertion"
    reports = "reports"
    over = "over"


def _limits() -> dict[str, float]:
    return {key: step.limit_s for key, step in STEPS.items()} | {RESET: RESET_LIMIT_S}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: of the first phases by transition, and of the second phase."""

    phase1_s: dict[str, float] = field(default_factory=_limits)
    phase2_s: float = 12.5


@dataclass(slots=True)
class Move:
    """A transition, from its first question to its last report. `send` sends a command and returns its msg_id; `body` is what each is asked with."""

    key: str
    peers: Sequence[Peer]
    send: Callable[[Peer, str, dict[str, Any]], str]
    body: Callable[[Peer], dict[str, Any]]
    limits: Limits
    timing: Peer | None = None
    info: dict[str, Any] = field(default_factory=dict)
    unable: frozenset[str] = frozenset()
    """Members, by id, that did not get through the transition which this one undoes: they have nothing to tell of it."""
    phase: Phase = Phase.answers
    failures: list[Failure] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    insertion: dict[str, Any] = field(default_factory=dict)
    inserted: bool = False
    pulse_id: int = 0
    began_s: float = 0.0
    until_s: float = 0.0
    _asked: dict[str, Peer] = field(default_factory=dict)
    _unheard: dict[str, Peer] = field(default_factory=dict)

    @property
    def forward(self) -> bool:
        """Whether it brings the partition nearer to running."""
        return self.key in STEPS and bool(STEPS[self.key].undone_by)

    @property
    def service(self) -> str:
        """What timing inserts for it, or empty."""
        return STEPS[self.key].service if self.key in STEPS else ""

    @property
    def failed(self) -> frozenset[str]:
        """Members, by id, that did not get through: those that said so, and where that is a drp the tebs and mebs, which need all drps for it."""
        failed = {uid for uid, body in self.reports.items() if body.get("error")}
        if any(peer.uid in failed and peer.level == "drp" for peer in self.peers):
            failed |= {peer.uid for peer in self.peers if peer.level in ("teb", "meb")}
        return frozenset(failed)

    @property
    def over(self) -> bool:
        """Whether nothing is awaited any more."""
        return self.phase is Phase.over

    @property
    def awaited(self) -> list[Peer]:
        """Those whose word is awaited."""
        return list(self._unheard.values() if self.phase is Phase.reports else self._asked.values())

    def begin(self, now: float) -> None:
        """Ask everybody."""
        self.began_s = now
        self.until_s = now + self.limits.phase1_s[self.key]
        for peer in self.peers:
            self._asked[self.send(peer, self.key, self.body(peer))] = peer
        self._go_on(now)

    def answered(self, peer: Peer, key: str, msg_id: str, body: dict[str, Any], now: float) -> bool:
        """Take an answer; False where none is awaited from that member under that id, as for one that came twice or too late."""
        if self._asked.get(msg_id) is not peer:
            return False
        del self._asked[msg_id]
        if self.phase is Phase.insertion:
            self._inserted(peer, body)
        elif key != self.key:
            self.failures.append(Failure(peer.name, f"it answers {self.key} with {key[:40]}"))
        elif "err_info" in body:
            self.failures.append(Failure.told(peer.name, body["err_info"]))
        else:
            self.answers[peer.uid] = body
            # Its next heartbeat says the same, half a second later.
            after = State.UNALLOCATED if key == RESET else STEPS[key].after
            peer.who = peer.who | ({} if key == ROLLCALL else {"state": str(after)})
        self._go_on(now)
        return True

    def reported(self, peer: Peer, body: dict[str, Any], now: float) -> bool:
        """Take word that the transition has come through at a member; False where that is not this transition, or is not awaited."""
        early = self.phase is Phase.insertion
        if body.get("service") != self.service or not (early or self._is_awaited(peer, body)):
            return False
        self.reports[peer.uid] = body
        if not early:
            self._count(peer, body)
            self._go_on(now)
        return True

    def lost(self, peer: Peer, why: str, now: float, *, excused: bool) -> None:
        """Wait for a member no longer; unless `excused`, that is a failure."""
        was_awaited = peer in self.awaited
        self._asked = {msg_id: one for msg_id, one in self._asked.items() if one is not peer}
        self._unheard.pop(peer.uid, None)
        if peer is self.timing:
            # Nothing is inserted any more, and nothing comes through.
            self.timing, was_awaited = None, True
            if self.phase is not Phase.answers:
                self._asked, self._unheard = {}, {}
        if was_awaited and not excused:
            self.failures.append(Failure(peer.name, why))
        if self.phase is Phase.reports and not any(one.level == "drp" for one in self.peers if not one.gone):
            self._unheard = {}
        self._go_on(now)

    def silent(self, peer: Peer, now: float) -> None:
        """A member is not heard: who leads back does not wait for its answer."""
        if not self.forward and self.phase is Phase.answers and peer in self.awaited:
            self.lost(peer, "it does not answer and is not heard", now, excused=False)

    def tick(self, now: float) -> None:
        """Give up what has taken too long."""
        if self.over or now < self.until_s:
            return
        whole_s = self.until_s - self.began_s
        for peer in self.awaited:
            what = f"it has not answered {self.key} within {self.limits.phase1_s[self.key]:g} s"
            if self.phase is Phase.insertion:
                what = f"it has not inserted {self.service} within {INSERT_LIMIT_S:g} s"
            if self.phase is Phase.reports:
                what = f"{self.service} has not come through within {self.limits.phase2_s:g} s, {whole_s:.1f} s after {self.key} began"
            hint = f"It is at {peer.who.get('busy')}" if peer.who.get("busy") else ""
            self.failures.append(Failure(peer.name, what, hint=hint))
        self._asked, self._unheard = {}, {}
        self._go_on(now)

    def _is_awaited(self, peer: Peer, body: dict[str, Any]) -> bool:
        return (
            self.phase is Phase.reports
            and peer.uid in self._unheard
            and body.get("pulse_id") == self.pulse_id
        )

    def _count(self, peer: Peer, body: dict[str, Any]) -> None:
        self._unheard.pop(peer.uid, None)
        if body.get("error"):
            self.failures.append(Failure.told(peer.name, body["error"]))
            if self.forward:
                self._unheard = {uid: one for uid, one in self._unheard.items() if uid not in self.failed}

    def _go_on(self, now: float) -> None:
        """Pass to the next phase where nobody is awaited in this one."""
        if self.over or self.awaited:
            return
        wanted = self.service and self.timing is not None
        if self.phase is Phase.answers and wanted and not (self.forward and self.failures):
            self._insert(now)
        elif self.phase is Phase.insertion and self.inserted:
            self._await_reports(now)
        else:
            self.phase = Phase.over

    def _insert(self, now: float) -> None:
        assert self.timing is not None
        self.phase = Phase.insertion
        self.until_s = now + INSERT_LIMIT_S
        said = {"service": self.service, "info": self.info}
        self._asked[self.send(self.timing, INSERT, said)] = self.timing

    def _inserted(self, peer: Peer, body: dict[str, Any]) -> None:
        pulse_id = body.get("pulse_id")
        if "err_info" in body:
            self.failures.append(Failure.told(peer.name, body["err_info"]))
        elif not isinstance(pulse_id, int) or isinstance(pulse_id, bool):
            self.failures.append(Failure(peer.name, f"it says of no pulse that {self.service} was inserted"))
        else:
            self.inserted, self.pulse_id, self.insertion = True, pulse_id, body

    def _await_reports(self, now: float) -> None:
        self.phase = Phase.reports
        self.until_s = now + self.limits.phase2_s
        out = {uid for uid, answer in self.answers.items() if answer.get(OUT_OF_STREAM)}
        able = self.answers.keys() - self.unable - out
        readers = [one for one in self.peers if one is not self.timing and not one.gone and one.uid in able]
        if any(peer.level == "drp" for peer in readers):  # from them the others have it
            self._unheard = {peer.uid: peer for peer in readers}
        early, self.reports = self.reports, {}
        for peer in self.awaited:
            body = early.get(peer.uid)
            if body is not None and body.get("pulse_id") == self.pulse_id:
                self.reports[peer.uid] = body
                self._count(peer, body)
        self._go_on(now)

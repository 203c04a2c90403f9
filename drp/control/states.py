"""The partition: where it stands, what it is asked for, and what becomes of that. Clock injected, no sockets.

What comes from members and clients goes in, with the time; what is to be sent, published and kept comes out of `take()`. One job at a time: a row of
transitions, each a `Move`. A transition that leads forward and fails is undone with those that had taken part in it; one that leads back has
happened as soon as it is inserted, whatever anybody says, so that a run can always be ended. A reset may come at any time.

A member that dies while the partition is allocated is `gone`: the others are told, and a run goes on without it; nothing new is begun before the
partition was reset. Without timing nothing goes on: then only a reset leads on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from drp.control import plan
from drp.control.jobs import Configs, Done, Job, Keep, Numbers, Out, Publish, Send, Settings
from drp.control.ledger import Account, account
from drp.control.members import GONE_AFTER_S, Failure, Members, News, Peer
from drp.control.move import Move
from drp.control.plan import LOOSE
from drp.control.status import status_of
from drp.core.errors import DrpError, MessageError
from drp.core.partition import IN_RUN, OUT_OF_STREAM, RESET, STEPS, TABLE, State, path
from drp.link.control import GONE, HEARTBEAT, REFUSED, ROLLCALL, Message

PROGRESS_S = 0.5
BACK_S = 5.0
"""How long who took part before timing died is awaited once all that must be there are."""
TOLD = ("error", "warning", "fileReport", "step")
TIMING_TRANSITION = "timingTransition"
_NEEDS_ALL = ("alloc", "connect", "configure", "beginrun")


def _no_configs(_alias: str) -> Mapping[str, dict[str, Any]]:
    return {}


class Partition:
    """See the module. Every method that takes `now` may bring something to an end; ask `take()` after each."""

    def __init__(
        self,
        settings: Settings,
        numbers: Numbers,
        new_id: Callable[[], str],
        *,
        configs: Configs = _no_configs,
        epoch: int = 0,
        gone_after_s: float = GONE_AFTER_S,
    ) -> None:
        """`configs` gives what is configured under an alias, by name of member or trigger; `new_id` a text that no message had before."""
        self.settings = settings
        self.state = State.RESET
        self.epoch = epoch
        self.run = 0
        self.recorded = False
        self.transition = RESET
        self.broken = ""
        self.active: list[Peer] = []
        self.took_part: set[str] = set()
        self.members = Members(gone_after_s)
        self.last_account: Account | None = None
        self._numbers = numbers
        self._new_id = new_id
        self._configs = configs
        self._configured: Mapping[str, dict[str, Any]] = {}
        self._out: deque[Out] = deque()
        self._job: Job | None = None
        self._move: Move | None = None
        self._undoing = False
        self._gather_until_s: float | None = None
        self._back_until_s: float | None = None
        self._progress_s = 0.0
        self._wanted: list[str] = []
        self._said: dict[str, Any] = {}

    def take(self) -> list[Out]:
        """Return what is to be sent, published and kept since the last call, in order."""
        out = list(self._out)
        self._out.clear()
        return out

    @property
    def busy(self) -> str:
        """The transition that is going on, or empty."""
        if self._move is not None:
            return self._move.key
        return ROLLCALL if self._gather_until_s is not None else ""

    @property
    def awaited(self) -> list[str]:
        """Whose word is awaited in it."""
        if self._move is not None:
            return [peer.name for peer in self._move.awaited]
        return self._wanted if self._gather_until_s is not None else []

    @property
    def last_run(self) -> int:
        """The last run number that was given out for the experiment, 0 where there is none or it cannot be read."""
        try:
            return self._numbers.last_run(self.settings.experiment)
        except DrpError:
            return 0

    # What members say.

    def message(self, uid: str, message: Message, now: float) -> None:
        """Take what a member said."""
        if message.key == HEARTBEAT:
            self._heartbeat(uid, message.body, now)
            return
        peer = self.members.get(uid)
        if peer is None:
            return
        if message.msg_id:
            if self._move is not None:
                self._move.answered(peer, message.key, message.msg_id, message.body, now)
        elif message.key == TIMING_TRANSITION:
            self._report(peer, message.body, now)
        elif message.key in TOLD:
            said = {"who": peer.name, "alias": peer.alias}
            told = {"err_info": str(Failure.told(peer.name, message.body.get("err_info", message.body)))}
            self._publish(
                message.key, message.body | said | (told if message.key in ("error", "warning") else {})
            )
        self._settle(now)

    def nonsense(self, uid: str, why: str, now: float) -> None:
        """Take note that what a member sent cannot be read."""
        peer = self.members.get(uid)
        if peer is None:
            return
        self._error(Failure(peer.name, f"it says what cannot be read: {why}"))
        if self._move is not None:
            self._move.lost(peer, f"it says what cannot be read: {why}", now, excused=False)
        self._settle(now)

    def closed(self, uid: str, now: float) -> None:
        """Take note that the connection of a member is gone."""
        self.members.closed(uid, now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for peer, news in self.members.tick(now):
            self._news(peer, news, now)
        if self._move is not None:
            self._move.tick(now)
        if self._gather_until_s is not None:
            self._gather(now)
        self._settle(now)
        if self._move is not None and now >= self._progress_s:
            self._progress_s = now + PROGRESS_S
            elapsed, total = now - self._move.began_s, self._move.until_s - self._move.began_s
            self._publish(
                "progress",
                {"transition": self._move.key, "elapsed": round(elapsed, 1), "total": round(total, 1)},
            )

    # What clients ask for.

    def request_state(self, job: int, goal: State, phase1: dict[str, Any], now: float) -> None:
        """Begin to go to a state, by as many transitions as it takes; `phase1` has what the user adds to each, by its name."""
        row = deque(path(self.state, goal))
        if self.state is State.UNALLOCATED and row and row[0] == "alloc":
            row.appendleft(ROLLCALL)  # who came, or came back, since the last one
        stranded = self.state in LOOSE and any(peer.state != State.UNALLOCATED for peer in self.members)
        if goal is not State.RESET and (self.broken or (stranded and row)):
            row = deque((RESET, *path(State.RESET, goal)))
        unused = [
            f"{key} is not made on the way from {self.state} to {goal}: what is added to it is not used"
            for key in phase1
            if key not in row
        ]
        self._request(Job(job, row, phase1, warnings=unused), now)

    def request_transition(self, job: int, key: str, phase1: dict[str, Any], now: float) -> None:
        """Begin one transition."""
        if key != RESET and (self.state, key) not in TABLE:
            legal = ", ".join(one for state, one in TABLE if state is self.state)
            why = Failure(
                "control",
                f"{key} is not legal while the partition is {self.state}",
                hint=f"Legal are {legal}, reset",
            )
            self._out.append(Done(job, (why,)))
            return
        self._request(Job(job, deque([key]), {key: phase1}), now)

    def select(self, selection: plan.Selection | None) -> None:
        """Set who takes part from the next rollcall on; DrpError once that is settled."""
        if self.state not in LOOSE or self.busy:
            raise DrpError(
                f"who takes part is settled while the partition is {self.state}",
                hint="Go to unallocated first",
            )
        self.settings.selection = selection

    def adopt(self, state: State, active: list[Peer], *, run: int, recorded: bool) -> None:
        """Go on with a partition as another control left it."""
        self.state, self.active, self.run, self.recorded = state, active, run, recorded
        self.publish_status()

    def _request(self, job: Job, now: float) -> None:
        if self._job is not None:
            if not job.row or job.row[0] != RESET:
                self._out.append(Done(job.number, (Failure("control", f"it is busy with {self.busy}"),)))
                return
            self._job.failures.append(Failure("control", f"{self.busy} was ended by a reset"))
            self._end_job()
        self._job = job
        self._next(now)
        self._settle(now)

    def _end_job(self) -> None:
        job, self._job, self._move, self._undoing = self._job, None, None, False
        self._gather_until_s = None
        if job is not None:
            for failure in job.failures:
                self._error(failure)
            self._out.append(Done(job.number, tuple(job.failures), tuple(job.warnings)))
        self.publish_status()

    # One transition after another.

    def _next(self, now: float) -> None:
        if self._job is None or not self._job.row:
            self._end_job()
            return
        key = self._job.row.popleft()
        self.transition = key
        if key == ROLLCALL:
            self._gather_until_s = now + self.settings.limits.phase1_s[ROLLCALL]
            self._back_until_s = None if self._back_until_s is None else math.inf
            self._gather(now)
            return
        self._begin(key, self._taking_part(key), now)

    def _taking_part(self, key: str) -> list[Peer]:
        if key == RESET:
            return [peer for peer in self.members if peer.closed_s is None]
        return [peer for peer in self.active if not peer.gone]

    def _gather(self, now: float) -> None:
        """Wait for those that must be there, and then ask them all."""
        assert self._gather_until_s is not None
        assert self._job is not None
        selection = None if self.settings.bypass else self.settings.selection
        peers = plan.candidates(self.members, selection)
        failures = plan.missing(peers, selection) + plan.unfit(peers)
        awaited = failures or ([] if selection is not None else self._not_back(peers, now))
        if awaited and now < self._gather_until_s:
            if (wanted := [str(one) for one in awaited]) != self._wanted:
                self._wanted = wanted
                self.publish_status()
            return
        self._gather_until_s = None
        failures += plan.too_many(peers)
        if failures:
            self._job.failures += failures
            self._end_job()
            return
        self._back_until_s = None
        plan.number(peers, selection)
        self._begin(ROLLCALL, peers, now)

    def _not_back(self, peers: list[Peer], now: float) -> list[Failure]:
        """Return who took part before timing died, and is still awaited."""
        if self._back_until_s is None:
            return []
        self._back_until_s = min(self._back_until_s, now + BACK_S)
        names = self.took_part - {peer.name for peer in peers} if now < self._back_until_s else ()
        return [Failure(name, "it took part before, and is not there yet") for name in sorted(names)]

    def _begin(self, key: str, peers: list[Peer], now: float) -> None:
        assert self._job is not None
        failures = self._hindrances(key)
        extra = self._job.phase1.get(key, {})
        extra = extra if isinstance(extra, dict) else {}
        bodies: dict[str, dict[str, Any]] = {}
        common: dict[str, Any] = {}
        if not failures:
            try:
                common = plan.merged(self._common(key), extra)
                told = {one.uid: common | self._own(key, one) for one in peers}
                failures = plan.unknown_members(extra, {one.alias: told[one.uid] for one in peers})
                bodies = {one.uid: plan.merged(told[one.uid], extra, one) for one in peers}
            except DrpError as error:
                failures = [plan.of_error(error)]
        if failures:
            self._job.failures += failures
            self._end_job()
            return
        self._start(key, peers, now, info=common, bodies=bodies, insert=True)

    def _start(
        self,
        key: str,
        peers: list[Peer],
        now: float,
        *,
        info: dict[str, Any],
        bodies: dict[str, dict[str, Any]],
        insert: bool,
        unable: frozenset[str] = frozenset(),
    ) -> None:
        self.transition = key
        timing = next((one for one in self.active if one.level == "timing" and not one.gone), None)
        self._move = Move(
            key,
            peers,
            self._send,
            lambda peer: bodies.get(peer.uid, {}),
            self.settings.limits,
            timing if insert else None,
            info,
            unable,
        )
        self._move.begin(now)
        self._progress_s = now + PROGRESS_S
        for peer in peers:
            if peer.silent:
                self._move.silent(peer, now)
        self.publish_status()

    def _hindrances(self, key: str) -> list[Failure]:
        """Return why a transition cannot even begin."""
        if key == RESET:
            return []
        if self.broken:
            return [Failure("control", self.broken, hint="Reset the partition")]
        failures = []
        if key in _NEEDS_ALL:
            failures = [
                Failure(one.name, "it is gone", hint="Reset the partition to bring it back")
                for one in self.active
                if one.gone
            ]
        if STEPS[key].undone_by:
            failures += [
                Failure(one.name, "it is not heard") for one in self.active if one.silent and not one.gone
            ]
        return failures

    def _common(self, key: str) -> dict[str, Any]:
        """Return what a transition tells everybody; DrpError."""
        settings = self.settings
        match key:
            case "connect":
                return {"partition": plan.table(self.active)}
            case "configure":
                self.epoch += 1
                self._configured = self._configs(settings.config_alias)
                return {"epoch": self.epoch, "config_alias": settings.config_alias, "script": None}
            case "beginrun":
                self.recorded = settings.record
                self.run = self._numbers.next_run(settings.experiment) if self.recorded else 0
                info = {"experiment_name": settings.experiment, "run_number": self.run}
                return {"run_info": info, "record": self.recorded}
            case "beginstep":
                return {"step_keys": [], "step_values": {}}
            case _:
                return {}

    def _own(self, key: str, peer: Peer) -> dict[str, Any]:
        """Return what a transition tells this member alone."""
        settings = self.settings
        if key == "alloc":
            return {
                "id": peer.id,
                "platform": settings.platform,
                "partition": settings.name,
                "readout": peer.readout,
            }
        if key == "configure":
            rate = {} if settings.slow_update_hz is None else {"slow_update_hz": settings.slow_update_hz}
            config, trigger = (self._configured.get(name) for name in (peer.alias, settings.trigger_config))
            return {"config": config, "trigger": trigger} | rate
        return {}

    def _settle(self, now: float) -> None:
        """Go on where a transition is over."""
        while self._move is not None and self._move.over:
            move, self._move = self._move, None
            assert self._job is not None
            if self._undoing:
                self._undoing = False
                self._job.failures += [
                    Failure(one.who, f"undoing it, {one.what}", one.where, one.hint) for one in move.failures
                ]
                lost = any(answer.get(OUT_OF_STREAM) for answer in move.answers.values())
                if lost and move.key == "endrun":  # whom BeginRun has cost its Configure
                    self._job.row = deque(("unconfigure",))
                    self._next(now)
                else:
                    self._end_job()
            elif self._over(move):
                self._next(now)
            elif not self._undo(move, now):
                self._end_job()

    def _over(self, move: Move) -> bool:
        """Take what a transition led to; False where the row ends with it."""
        assert self._job is not None
        failures = [*move.failures, *self._after(move)]
        self._job.failures += failures
        held = bool(move.service) and not move.inserted
        if held and not move.failures:
            self._job.failures.append(Failure("control", f"no timing is there to insert {move.service}"))
        if held or (failures and (move.forward or move.key == ROLLCALL)):
            return False
        if move.key == RESET:
            self.state, self.broken, self.active, self.run = State.RESET, "", [], 0
            return True
        self.state = STEPS[move.key].after
        if move.key == ROLLCALL:
            self.active = [peer for peer in move.peers if peer.uid in move.answers]
            self._miss()
        if move.key == "endrun":
            self.run = 0
        if self.state is State.UNALLOCATED:
            self.active = [peer for peer in self.active if not peer.gone]
        self.publish_status()
        return True

    def _miss(self) -> None:
        """Say who took part before and does not now: nobody is to find out by the files."""
        names = {peer.name for peer in self.active}
        for name in sorted(self.took_part - names):
            text = f"{name} took part before, and does not now"
            self._publish("warning", {"err_info": text, "alias": ""})
            if self._job is not None:
                self._job.warnings.append(text)
        self.took_part = names

    def _after(self, move: Move) -> list[Failure]:
        """Return what is wrong with what a transition has brought, beyond what members said of it."""
        if move.key == "alloc":
            return (
                plan.take_connect_info(move.peers, move.answers, self.settings.limits.phase2_s)
                if not move.failures
                else []
            )
        if move.key in ("endrun", RESET) and self.state in IN_RUN:
            told = move.reports if move.key == "endrun" else move.answers
            return self._account(move, told)
        return []

    def _account(self, move: Move, told: dict[str, dict[str, Any]]) -> list[Failure]:
        drps = [peer for peer in self.active if peer.level == "drp"]
        counts = move.insertion.get("counts")
        if move.key == RESET:
            counts = next(
                (move.answers.get(one.uid, {}).get("counts") for one in self.active if one.level == "timing"),
                None,
            )
        made = account(
            self.settings.experiment,
            self.run,
            {peer.alias: peer.readout for peer in drps},
            {peer.alias: told.get(peer.uid, {}).get("ledger") for peer in drps},
            counts,
            gone=[peer.alias for peer in drps if peer.gone],
            timing_gone=any(peer.gone for peer in self.active if peer.level == "timing"),
        )
        self.last_account = made
        self._out.append(Keep(made))
        self._publish("ledger", made.as_dict() | {"text": made.as_text()})
        problems = [Failure("the partition's ledger", problem) for problem in made.problems]
        if move.key != RESET:
            return problems
        for one in problems:
            self._error(one)
        return []

    def _undo(self, move: Move, now: float) -> bool:
        """Bring those back that a transition has brought forward; False where there is nothing to do."""
        peers = [peer for peer in move.peers if peer.uid in move.answers and not peer.gone]
        if not move.forward or not peers or self.broken:
            return False
        self._undoing = True
        key = STEPS[move.key].undone_by
        self._start(key, peers, now, info={}, bodies={}, insert=move.inserted, unable=move.failed)
        return True

    # What becomes of members.

    def _heartbeat(self, uid: str, body: dict[str, Any], now: float) -> None:
        try:
            self.members.heard(uid, body, now)
        except MessageError as error:
            if self.members.get(uid) is not None:
                self.nonsense(uid, error.what, now)
            else:
                self._out.append(Send(uid, REFUSED, "", {"what": str(error)}))
                self._error(Failure("control", f"a process was refused: {error}"), once=True)

    def _report(self, peer: Peer, body: dict[str, Any], now: float) -> None:
        files = body.get("files")
        for file in files if isinstance(files, list) else []:
            self._publish("fileReport", {"path": str(file), "alias": peer.alias})
        if self._move is not None and self._move.reported(peer, body, now):
            return
        if body.get("error"):
            self._error(Failure.told(peer.name, body["error"]))
        elif self._move is None:
            what = f"{str(body.get('service'))[:40]} has come through, and nobody waited for that any more"
            self._publish("warning", {"err_info": str(Failure(peer.name, what)), "alias": peer.alias})

    def _news(self, peer: Peer, news: News, now: float) -> None:
        why = {
            News.silent: "it has not been heard for 1.5 s",
            News.back: "it is heard again",
            News.stuck: f"it does not take its commands; it is at {peer.who.get('busy') or 'something else'}",
            News.dead: "it is gone: its connection is closed"
            if peer.closed_s is not None
            else "it is gone: nothing was heard of it for long",
        }[news]
        said = Failure(f"{peer.name} ({peer.place})", why)
        if news is News.back:
            self._publish("warning", {"err_info": str(said), "alias": peer.alias})
            return
        self._error(said, alias=peer.alias)
        if news is News.silent and self._move is not None:
            self._move.silent(peer, now)
        if news is News.dead:
            self._dead(peer, why, now)

    def _dead(self, peer: Peer, why: str, now: float) -> None:
        if peer.level == "timing" and peer.name in self.took_part:
            self._back_until_s = math.inf
        if self._move is not None and peer not in self.active:
            self._move.lost(peer, why, now, excused=False)
        if peer not in self.active:
            return
        if self.state in LOOSE and not (self._move is not None and self._move.key == "alloc"):
            self.active.remove(peer)
        peer.gone = True
        if peer.level == "timing" and self.state not in LOOSE:
            self.broken = f"{peer.name} is gone, and nothing goes on without it"
        for other in self.active:
            if not other.gone and self.state not in LOOSE:
                self._out.append(
                    Send(other.uid, GONE, "", {"level": peer.level, "alias": peer.alias, "id": peer.id})
                )
        if self._move is not None:
            move = self._move
            excused = move.key != ROLLCALL and (not move.forward or self.state in IN_RUN)
            move.lost(peer, why, now, excused=excused and peer.level != "timing")
        self.publish_status()

    # What is told.

    def publish_status(self) -> None:
        """Tell everybody how the partition is."""
        self._publish("status", status_of(self))

    def _send(self, peer: Peer, key: str, body: dict[str, Any]) -> str:
        msg_id = self._new_id()
        self._out.append(Send(peer.uid, key, msg_id, body))
        return msg_id

    def _publish(self, key: str, body: dict[str, Any]) -> None:
        self._out.append(Publish(key, body))

    def _error(self, failure: Failure, *, alias: str = "", once: bool = False) -> None:
        body = {"err_info": str(failure), "alias": alias, "failure": failure.as_dict()}
        if not (once and body == self._said):
            self._publish("error", body)
        self._said = body

"""The timing process: its main loop, and who tells it what to insert: control, or a script of its own where it is alone.

One thread does everything, so that a trigger waits for nobody; a thread of its own only talks to control. It sleeps until the next pulse is due, a
message comes, or a command.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import zmq

from drp.core.errors import DrpError
from drp.core.transitions import RunState, path_to
from drp.link.control import Command, Member
from drp.link.sockets import Endpoint
from drp.timing.links import Links
from drp.timing.partition import Partition
from xtc import TransitionId

log = logging.getLogger("drp.timing")

LEAVE_S = 10.0
MAX_RUN = 0xFFFFFFFF


class Director(Protocol):
    """Who says which transitions come when."""

    @property
    def fd(self) -> int | None:
        """Readable while there is something to do at once; None: it has only its turns."""

    def turn(self) -> bool:
        """Do what is to be done now. False: the process is to end."""


def serve(
    partition: Partition, socket: zmq.Socket[bytes], director: Director, stopped: Callable[[], bool]
) -> None:
    """Run until the director says that it is over, or `stopped` does."""
    fds = [int(socket.getsockopt(zmq.FD))] + ([] if director.fd is None else [director.fd])
    while not stopped() and director.turn():
        partition.turn()
        if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            select.select(fds, [], [], partition.wait_s())


class Controlled:
    """The commands of control."""

    def __init__(
        self,
        partition: Partition,
        member: Member,
        endpoint: Endpoint,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """`look` is called at every turn, and must be quick."""
        self._look = look
        self._partition = partition
        self._member = member
        self._endpoint = endpoint
        self._drps: dict[int, tuple[str, int]] = {}
        self._keys: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "rollcall": lambda _body: {},
            "alloc": lambda _body: {"connect_info": {"endpoint": self._endpoint.as_dict()}},
            "connect": self._connect,
            "configure": self._configure,
            "beginrun": self._begin_run,
            "insert": self._insert,
            "gone": self._gone,
            "reset": self._reset,
            "disconnect": self._reset,
            "dealloc": self._reset,
        }

    @property
    def fd(self) -> int:
        """Of the member."""
        return self._member.fd

    def turn(self) -> bool:
        """Obey what control said."""
        for command in self._member.commands():
            self._obey(command)
        self._look()
        return True

    def _obey(self, command: Command) -> None:
        answers = bool(command.msg_id)
        try:
            obey = self._keys.get(command.key)
            body = {} if obey is None else obey(command.body)
        except DrpError as error:
            log.error("%s: %s", command.key, error)
            if answers:
                self._member.answer(command, error=error)
            return
        if answers:
            self._member.answer(command, body)

    def _connect(self, body: dict[str, Any]) -> dict[str, Any]:
        members = body.get("partition")
        drps = members.get("drp") if isinstance(members, dict) else None
        if not isinstance(drps, dict):
            raise DrpError("connect says nothing of drps", hint="Start control from the same installation")
        self._drps = {}
        for alias, drp in drps.items():
            number, group = drp.get("id"), drp.get("readout", self._partition.config.plan.common)
            if not isinstance(number, int) or not isinstance(group, int) or number in self._drps:
                raise DrpError(f"the drp {alias} has no id of its own, or no readout group")
            self._drps[number] = (alias, group)
        return {}

    def _configure(self, body: dict[str, Any]) -> dict[str, Any]:
        epoch = body.get("epoch")
        if not isinstance(epoch, int) or epoch < 1:
            raise DrpError("configure has no epoch", hint="Start control from the same installation")
        self._partition.reset()
        self._partition.links.expect(self._drps, epoch)
        slow_hz = body.get("slow_update_hz")
        self._partition.configure(float(slow_hz) if isinstance(slow_hz, int | float) else None)
        return {}

    def _begin_run(self, body: dict[str, Any]) -> dict[str, Any]:
        said = body.get("run_info")
        run_info = said if isinstance(said, dict) else {}
        experiment, run = run_info.get("experiment_name", ""), run_info.get("run_number", 0)
        if not isinstance(experiment, str) or not isinstance(run, int) or not 0 <= run <= MAX_RUN:
            raise DrpError("beginrun names no experiment and run")
        self._partition.begin_run(experiment, run, record=bool(body.get("record", True)))
        return {}

    def _insert(self, body: dict[str, Any]) -> dict[str, Any]:
        name, info = body.get("service"), body.get("info")
        if not isinstance(name, str) or name not in TransitionId.__members__:
            raise DrpError(f"there is no transition {name!r}")
        service = TransitionId[name]
        counts = self._partition.counts() if service == TransitionId.EndRun else {}
        pulse_id = self._partition.insert(service, info if isinstance(info, dict) else {})
        return {"pulse_id": pulse_id} | ({"counts": counts} if counts else {})

    def _gone(self, body: dict[str, Any]) -> dict[str, Any]:
        number = body.get("id")
        if body.get("level") == "drp" and isinstance(number, int):
            self._partition.gone(number)
        return {}

    def _reset(self, _body: dict[str, Any]) -> dict[str, Any]:
        counts = self._partition.counts()
        self._partition.reset()
        return {"counts": counts} if counts else {}


class Alone:
    """A script without control: when so many drps are there, a run of one step, until the events are done or it is told to stop."""

    fd = None

    def __init__(
        self,
        partition: Partition,
        links: Links,
        drps: int,
        experiment: str,
        run: int,
        *,
        record: bool,
        stopping: Callable[[], bool],
        clock_s: Callable[[], float],
    ) -> None:
        self._partition = partition
        self._links = links
        self._drps = drps
        self._run: dict[str, Any] = {
            "run_info": {"experiment_name": experiment, "run_number": run},
            "record": record,
        }
        self._stopping = stopping
        self._clock_s = clock_s
        self._until: float | None = None
        self.counts: Mapping[str, Any] = {}
        self.left_behind: list[str] = []

    def turn(self) -> bool:
        """Go on to the next thing."""
        if self._until is not None:
            there = [drp.alias for drp in self._links.drps.values() if drp.identity is not None]
            self.left_behind = there
            return bool(there) and self._clock_s() < self._until
        core = self._partition.core
        if core is None:
            if self._stopping():
                return False
            if len(self._links.drps) - len(self._links.missing) >= self._drps:
                self._begin()
        elif core.done or self._stopping():
            self._end()
        return True

    def _begin(self) -> None:
        self._partition.configure()
        info = self._run["run_info"]
        self._partition.begin_run(info["experiment_name"], info["run_number"], record=self._run["record"])
        said = {TransitionId.BeginRun: self._run}
        for service in path_to(RunState.CONFIGURED, RunState.RUNNING) or ():
            if self._partition.state is RunState.UNCONFIGURED:
                self._partition.insert(TransitionId.Configure, {})
            self._partition.insert(service, said.get(service, {}))

    def _end(self) -> None:
        for service in path_to(self._partition.state, RunState.UNCONFIGURED) or ():
            if service == TransitionId.EndRun:
                self.counts = self._partition.counts()
            self._partition.insert(service, {})
        self._until = self._clock_s() + LEAVE_S

"""What clients may ask of control, and what they are answered. No sockets.

A request is a message as members send them; its answer repeats key and msg_id. `setState` and `setTransition` are answered when they are
over, everything else at once. An answer that tells of a failure has `err_info`, the whole text, and `failures`, one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from drp.control.members import Failure
from drp.control.plan import Selection
from drp.control.runs import Store
from drp.control.states import Partition
from drp.control.status import platform_of, status_of
from drp.core.errors import DrpError, MessageError
from drp.core.partition import RESET, STEPS, State
from drp.link.control import Message
from drp.source.base import near_misses

SELECTION = "activedet"
MAX_ALIAS = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to the client at `address`."""

    address: bytes
    key: str
    msg_id: str
    body: dict[str, Any]


class Service:
    """Answers requests about a partition."""

    def __init__(self, partition: Partition, store: Store) -> None:
        self._partition = partition
        self._store = store
        self._jobs: dict[int, tuple[bytes, Message]] = {}
        self._numbers = itertools.count(1)
        self._asks: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "getState": lambda _body: {"state": partition.state},
            "getStatus": lambda _body: status_of(partition),
            "getInstrument": lambda _body: {"instrument": partition.settings.instrument},
            "getPlatform": lambda _body: platform_of(partition),
            "getBlock": self._get_block,
            "setRecord": self._set_record,
            "setBypass": self._set_bypass,
            "setConfig": self._set_config,
            "selectPlatform": self._select_platform,
            "storeJsonConfig": self._store_json,
        }

    @property
    def waiting(self) -> list[tuple[bytes, Message]]:
        """The requests that are going on: who asked, and what."""
        return list(self._jobs.values())

    def request(self, address: bytes, message: Message, now: float) -> Reply | None:
        """Take a request; return the answer, or None where it comes later through `done`."""
        try:
            if message.key in ("setState", "setTransition"):
                self._begin(address, message, now)
                return None
            if message.key not in self._asks:
                raise MessageError(f"control is not asked for {message.key[:40]!r}")
            body = self._asks[message.key](message.body) or {}
        except DrpError as error:
            body = failed([Failure("control", error.what, error.where, error.hint)])
        return Reply(address, message.key, message.msg_id, body)

    def done(self, job: int, failures: Iterable[Failure], warnings: Iterable[str] = ()) -> Reply | None:
        """Return the answer to the request that became this job, if one did."""
        address, message = self._jobs.pop(job, (b"", None))
        if message is None:
            return None
        told = list(failures)
        body = {"state": self._partition.state, "warnings": list(warnings)} | (failed(told) if told else {})
        return Reply(address, message.key, message.msg_id, body)

    def _begin(self, address: bytes, message: Message, now: float) -> None:
        phase1 = message.body.get("phase1", {})
        if not isinstance(phase1, dict):
            raise MessageError("what is added to the first phase is an object")
        if message.key == "setState":
            goal = message.body.get("state")
            if goal not in tuple(State):
                raise MessageError(f"{goal!r} is no state", hint=f"States are {', '.join(State)}")
            for name in phase1:
                if name not in (*STEPS, RESET):
                    raise MessageError(f"{name!r} is no transition{near_misses(name, (*STEPS, RESET))}")
            job = self._take(address, message)
            self._partition.request_state(job, State(goal), phase1, now)
            return
        key = message.body.get("transition")
        if key not in (*STEPS, RESET):
            raise MessageError(
                f"{key!r} is no transition", hint=f"Transitions are {', '.join((*STEPS, RESET))}"
            )
        self._partition.request_transition(self._take(address, message), str(key), phase1, now)

    def _take(self, address: bytes, message: Message) -> int:
        job = next(self._numbers)
        self._jobs[job] = (address, message)
        return job

    def _set_record(self, body: dict[str, Any]) -> None:
        self._partition.settings.record = _flag(body, "record")
        self._partition.publish_status()

    def _set_bypass(self, body: dict[str, Any]) -> None:
        self._partition.settings.bypass = _flag(body, "bypass")
        self._partition.publish_status()

    def _set_config(self, body: dict[str, Any]) -> None:
        alias = body.get("config")
        if not isinstance(alias, str) or not 0 < len(alias) <= MAX_ALIAS:
            raise MessageError("a configuration alias is a word, such as BEAM")
        self._partition.settings.config_alias = alias
        self._partition.publish_status()

    def _select_platform(self, body: dict[str, Any]) -> None:
        """Take what getPlatform gave, with other values of `active` and `readout`."""
        levels: dict[str, dict[str, Any]] = {}
        for level, members in body.items():
            if not isinstance(members, dict):
                raise MessageError(f"{level!r} is no level with members in it")
            for one in members.values():
                info = one.get("proc_info") if isinstance(one, dict) else None
                if not isinstance(info, dict) or not isinstance(info.get("alias"), str):
                    raise MessageError("a member has no proc_info with an alias")
                levels.setdefault(level, {})[info["alias"]] = one
        self._partition.select(Selection(levels))
        self._partition.publish_status()

    def _store_json(self, body: dict[str, Any]) -> None:
        selection = Selection.from_text(str(body.get("json_data", "")))
        self._partition.select(selection)
        self._store.save(f"{self._partition.settings.name}-{SELECTION}", {"activedet": selection.as_dict()})
        self._partition.publish_status()

    def _get_block(self, _body: dict[str, Any]) -> dict[str, Any]:
        raise DrpError(
            "control makes no Names and ShapesData blocks",
            hint="Give a step's values as they are: {'beginstep': {'step_values': {'motor': 1.5}}}",
        )


def failed(failures: list[Failure]) -> dict[str, Any]:
    """Return what an answer says of failures."""
    return {
        "err_info": "\n".join(str(one) for one in failures),
        "failures": [one.as_dict() for one in failures],
    }


def _flag(body: dict[str, Any], name: str) -> bool:
    flag = body.get(name)
    if not isinstance(flag, bool):
        raise MessageError(f"{name} is true or false")
    return flag

"""A teb as member of a partition: what control says, and what it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drp.core.batch import Contributor
from drp.core.building import Transition
from drp.core.errors import DrpError, MessageError, ScriptError
from drp.link.control import Command, Member, told
from drp.link.sockets import Endpoint
from drp.teb.process import Teb
from xtc import TransitionId

ALLOC, CONNECT, CONFIGURE, GONE, UNCONFIGURE = "alloc", "connect", "configure", "gone", "unconfigure"
ENDS = ("disconnect", "dealloc", "reset")

log = logging.getLogger("drp.teb")


class TebMember:
    """Do what control says to a teb that is served at `endpoint`. `member` may be None until `attach`."""

    def __init__(self, teb: Callable[[], Teb], endpoint: Endpoint) -> None:
        self._teb = teb
        self._endpoint = endpoint
        self._member: Member | None = None
        self._drps: list[Contributor] = []
        self._mebs: dict[str, int] = {}

    def attach(self, member: Member) -> None:
        """Use this line to control."""
        self._member = member

    def obey(self) -> None:
        """Do what control has said since."""
        assert self._member is not None
        for command in self._member.commands():
            try:
                answer = self._do(command.key, command.body)
            except (MessageError, DrpError) as error:
                self._member.answer(command, error=error)
            else:
                self._answer(command, answer)

    def _answer(self, command: Command, answer: dict[str, Any]) -> None:
        if command.key != GONE and self._member is not None:
            self._member.answer(command, answer)

    def _do(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        teb = self._teb()
        timeout_s = teb.config.limits.timeout_s
        if key == ALLOC:
            return {
                "connect_info": {
                    "endpoint": self._endpoint.as_dict(),
                    "timeout_s": timeout_s,
                    "eb_timeout_s": timeout_s,
                }
            }
        if key == CONNECT:
            self._connect(body)
        elif key == CONFIGURE:
            self._configure(teb, body)
        elif key == GONE:
            if body.get("level") == "drp" and isinstance(body.get("id"), int):
                teb.links.gone(int(body["id"]))
        elif key in ENDS:
            teb.end(f"control says {key}")
        return {}

    def _connect(self, body: Mapping[str, Any]) -> None:
        partition = body.get("partition")
        if not isinstance(partition, dict):
            raise MessageError("connect comes with the partition")
        self._drps = [
            Contributor(number, alias, group) for alias, number, group in _members(partition.get("drp", {}))
        ]
        self._mebs = {alias: number for alias, number, _ in _members(partition.get("meb", {}))}

    def _configure(self, teb: Teb, body: Mapping[str, Any]) -> None:
        epoch = body.get("epoch")
        if not isinstance(epoch, int):
            raise MessageError("configure comes with an epoch")
        if not self._drps:
            raise DrpError("there is no drp in the partition", hint="A teb decides on what drps contribute.")
        script = body.get("script") or ()
        if not isinstance(script, list | tuple) or not all(isinstance(one, str) for one in script):
            raise MessageError("a script is [path, argument, ...]")
        if script and not teb.config.script:
            raise DrpError("this teb runs no script", hint='Start it with -p "trigger.py ...".')
        named = (*script, *teb.config.script)[:1]
        if named and not Path(named[0]).is_file():
            raise ScriptError(f"there is no trigger script {named[0]}", transition="Configure")
        trigger = body.get("trigger")
        teb.mebs = self._mebs
        teb.config_alias = str(body.get("config_alias", ""))
        configs = {"trigger_0": trigger} if isinstance(trigger, dict) else {}
        teb.begin(epoch, self._drps, configs, tuple(script))

    def warn(self, what: str) -> None:
        """Tell control, which tells its users."""
        if self._member is not None:
            self._member.tell("warning", {"what": what})

    def told(self, built: Transition, missing: list[str], error: DrpError | None) -> None:
        """Tell control that a transition is over here."""
        if self._member is None or built.service == TransitionId.SlowUpdate:
            return
        fault = None if error is None else told(error)
        if missing and fault is None:
            fault = told(f"it did not come from {', '.join(missing)} in time")
        name = TransitionId(built.service).name
        self._member.tell(
            "timingTransition", {"service": name, "pulse_id": built.pulse_id, "error": fault, "files": []}
        )


def _members(level: object) -> list[tuple[str, int, int]]:
    """Return alias, id and readout group of the members of one level; MessageError where that is not what it should be."""
    if not isinstance(level, dict):
        raise MessageError("a level of the partition is {alias: {...}}")
    found = []
    for alias, one in level.items():
        number, group = (
            (one.get(name, 0) for name in ("id", "readout")) if isinstance(one, dict) else (None, None)
        )
        if (
            not isinstance(number, int)
            or not isinstance(group, int)
            or not 0 <= number < 64
            or not 0 <= group < 16
        ):
            raise MessageError(f"{alias}: {str(one)[:100]} is no member of the partition")
        found.append((str(alias), number, group))
    return found

"""A meb as member of a partition: what control says, and what it is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from drp.core.errors import DrpError, MessageError
from drp.core.wire import MAX_DRPS, MAX_GROUPS
from drp.link.control import Member
from drp.meb.assembly import Contributor
from drp.meb.server import Meb
from xtc import TransitionId

ALLOC, CONNECT, CONFIGURE, GONE = "alloc", "connect", "configure", "gone"
ENDS = ("unconfigure", "disconnect", "dealloc", "reset")

log = logging.getLogger("drp.meb")


class MebMember:
    """Has `meb` do what control says through `member`."""

    def __init__(self, meb: Meb, member: Member) -> None:
        self._meb = meb
        self._member = member
        self._drps: dict[int, Contributor] = {}
        meb.built = self._tell
        meb.watch(member.fd, self.obey)

    def obey(self) -> None:
        """Do what control has said since."""
        for command in self._member.commands():
            try:
                answer = self._do(command.key, command.body)
            except DrpError as error:
                self._member.answer(command, error=error)
            else:
                if command.key != GONE:
                    self._member.answer(command, answer)

    def _do(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if key == ALLOC:
            info = {"endpoint": self._meb.endpoint.as_dict(), "viewers": self._meb.viewers_endpoint.as_dict()}
            return {"connect_info": info}
        if key == CONNECT:
            self._drps = _drps(body)
        elif key == CONFIGURE:
            epoch = body.get("epoch")
            if not isinstance(epoch, int):
                raise MessageError("configure comes with an epoch")
            self._meb.configure(epoch, self._drps.values())
        elif key == GONE and body.get("level") == "drp":
            self._meb.drps.assembly.remove(int(body.get("id", -1)))
        elif key in ENDS[1:]:
            self._meb.configure(0, ())
        return {}

    def _tell(self, service: TransitionId, pulse_id: int, missing: tuple[int, ...]) -> None:
        """Tell control that a transition is over here. That a drp's copy did not come costs a viewer something, and the run nothing."""
        if service == TransitionId.SlowUpdate:
            return
        if missing:
            names = ", ".join(self._drps[one].alias if one in self._drps else str(one) for one in missing)
            self._member.tell("warning", {"what": f"{service.name} did not come to the meb from {names}"})
        self._member.tell(
            "timingTransition", {"service": service.name, "pulse_id": pulse_id, "error": None, "files": []}
        )


def _drps(body: Mapping[str, Any]) -> dict[int, Contributor]:
    partition = body.get("partition")
    drps = partition.get("drp", {}) if isinstance(partition, dict) else None
    if not isinstance(drps, dict):
        raise MessageError("connect comes with the partition")
    found = {}
    for alias, one in drps.items():
        number, group = (one.get("id"), one.get("readout", 0)) if isinstance(one, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(group, int):
            raise MessageError(f"{alias}: {str(one)[:100]} is no member of the partition")
        if not (0 <= number < MAX_DRPS and 0 <= group < MAX_GROUPS):
            raise MessageError(f"{alias}: drp {number} of readout group {group}: there are no such")
        found[number] = Contributor(number, alias, group)
    return found

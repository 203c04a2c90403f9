"""What a new control does with the partition of one that was killed.

The partition's state is on disk at every change, before anybody hears of it. A new control waits for the members to be heard. If all that took
part are there, the same processes, and each stands where the old control left the partition, then nothing was going on and nothing was lost: it goes
on from there, in the middle of a run if need be. Otherwise it resets them, which closes their runs in order. What the user had set stays set.
"""

from __future__ import annotations

from typing import Any

from drp.control.members import Peer
from drp.control.plan import LOOSE
from drp.control.states import Partition
from drp.core.partition import State

LOOK_S = 2.0
RESET_JOB = 0
_OWN = ("uid", "level", "alias", "id", "readout", "connect_info", "gone")
_SETTINGS = ("experiment", "config_alias", "record", "bypass")


def snapshot(partition: Partition) -> dict[str, Any]:
    """Return what must be kept of a partition, for JSON."""
    return {
        "state": partition.state,
        "transition": partition.transition,
        "busy": partition.busy,
        "broken": partition.broken,
        "epoch": partition.epoch,
        "run": partition.run,
        "recorded": partition.recorded,
        "took_part": sorted(partition.took_part),
        "settings": {name: getattr(partition.settings, name) for name in _SETTINGS},
        "active": [
            {name: getattr(peer, name) for name in _OWN} | {"proc_info": peer.who.get("proc_info", {})}
            for peer in partition.active
        ],
    }


class Takeover:
    """Looks for the members of the partition that `kept` tells of, until `over`."""

    def __init__(self, kept: dict[str, Any], partition: Partition, now: float) -> None:
        self.over = kept.get("state", State.RESET) in LOOSE and not kept.get("busy")
        self.taken = False
        self._kept = kept
        self._partition = partition
        self._until_s = now + LOOK_S
        partition.took_part = set(kept.get("took_part", ()))
        if not self.over:
            for name in _SETTINGS:
                setattr(partition.settings, name, kept["settings"][name])

    def tick(self, now: float) -> None:
        """Take the partition over as soon as that can be done; reset whoever is left once the time is over."""
        if self.over:
            return
        if self._is_sound():
            self._take()
            self.over = self.taken = True
        elif now >= self._until_s:
            self.over = True
            self._partition.request_transition(RESET_JOB, "reset", {}, now)

    def _is_sound(self) -> bool:
        kept = self._kept
        if kept.get("busy") or kept.get("broken") or kept.get("state") not in tuple(State):
            return False
        there = [
            self._partition.members.get(str(one.get("uid"))) for one in kept["active"] if not one.get("gone")
        ]
        return bool(there) and all(peer is not None and peer.state == kept["state"] for peer in there)

    def _take(self) -> None:
        kept, partition = self._kept, self._partition
        active = []
        for one in kept["active"]:
            peer = partition.members.get(one["uid"]) or Peer(
                one["uid"], one["level"], one["alias"], 0.0, {"proc_info": one["proc_info"]}
            )
            peer.id, peer.readout, peer.gone = int(one["id"]), int(one["readout"]), bool(one["gone"])
            peer.connect_info = dict(one["connect_info"])
            active.append(peer)
        partition.transition = str(kept["transition"])
        partition.adopt(State(kept["state"]), active, run=int(kept["run"]), recorded=bool(kept["recorded"]))

"""What is told of a partition: its status, and who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drp.control.members import group_of
from drp.control.plan import LOOSE

if TYPE_CHECKING:
    from drp.control.states import Partition


def status_of(partition: Partition) -> dict[str, Any]:
    """Return the state of everything, for JSON."""
    settings = partition.settings
    return {
        "instrument": settings.instrument,
        "transition": partition.transition,
        "state": partition.state,
        "busy": partition.busy,
        "awaited": partition.awaited,
        "config_alias": settings.config_alias,
        "recording": settings.record,
        "bypass_activedet": settings.bypass,
        "experiment_name": settings.experiment,
        "run_number": partition.run,
        "last_run_number": partition.last_run,
        "broken": partition.broken,
        "gone": [peer.name for peer in partition.active if peer.gone],
        "silent": [peer.name for peer in partition.members if peer.silent],
        "platform": platform_of(partition),
    }


def platform_of(partition: Partition) -> dict[str, dict[str, dict[str, Any]]]:
    """Return everybody who is there or takes part, by level and id, as LCLS's getPlatform gives it."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    selection = partition.settings.selection
    settled = partition.state not in LOOSE
    for peer in [*partition.members, *(one for one in partition.active if one.gone)]:
        active = peer in partition.active if settled else selection is None or selection.takes(peer)
        found.setdefault(peer.level, {})[peer.uid] = {
            "active": int(active),
            "gone": int(peer.gone),
            "proc_info": peer.who.get("proc_info", {}),
            "det_info": {"readout": peer.readout if peer.id >= 0 else group_of(peer.who) or 0},
            "state": peer.state,
        }
    return found

"""Timing with drps in one thread over real sockets, turned until something holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zmq

from drp.core import wire
from drp.core.triggering import TriggerPlan
from drp.link.sockets import Endpoint, listen
from drp.source.timing_link import Events, TimingLink, Transition, Who
from drp.timing.clock import PulseClock
from drp.timing.links import Links
from drp.timing.partition import Partition, TimingConfig
from xtc import TransitionId

LIMIT_S = 10.0
BEGIN = (TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable)
END = (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun, TransitionId.Unconfigure)


class FakeDrp:
    """A drp that keeps what it gets, with `slots` for events; `take` frees them at once. `made` has those that were made, so that a test can close them."""

    made: ClassVar[list[FakeDrp]] = []

    def __init__(self, endpoint: Endpoint, who: Who, slots: int = 100) -> None:
        self.link = TimingLink(endpoint, who)
        self.made.append(self)
        self.slots = slots
        self.take = True
        self.pulses: list[int] = []
        self.groups: list[int] = []
        self.transitions: list[Transition] = []
        self.order: list[int] = []

    def turn(self) -> None:
        self.link.grant(self.link.dealt + (self.slots if self.take else 0))
        for one in self.link.receive():
            if isinstance(one, Events):
                records = one.triggers.view(wire.TRIGGER)
                self.pulses += records["pulse_id"].tolist()
                self.order += records["pulse_id"].tolist()
                self.groups += (records["env"] & wire.GROUPS_MASK).tolist()
                self.link.dealt += one.count
            else:
                self.transitions.append(one)
                self.order.append(one.pulse_id)

    @property
    def services(self) -> list[TransitionId]:
        return [one.service for one in self.transitions if one.service != TransitionId.SlowUpdate]


class World:
    """Timing on a real socket, and the drps of a test."""

    def __init__(self, folder: Path, name: str = "timing-tst-p0") -> None:
        self.folder = folder
        self.name = name
        self.drps: list[FakeDrp] = []
        self.socket: zmq.Socket[bytes] | None = None

    def start(self, plan: TriggerPlan | None = None, **config: Any) -> Partition:
        self.socket, self.endpoint = listen(zmq.ROUTER, self.name)
        self.links = Links(self.socket)
        self.partition = Partition(
            TimingConfig(plan or TriggerPlan(rate_hz=None, slow_hz=0), **config), self.links, PulseClock()
        )
        return self.partition

    def stop(self) -> None:
        """As a kill would: no good-bye."""
        if self.socket is not None:
            self.socket.close()

    def configure(self, members: dict[int, tuple[str, int]], epoch: int = 1) -> None:
        self.links.expect(members, epoch)
        self.partition.configure()
        self.partition.insert(TransitionId.Configure, {})

    def join(self, number: int, group: int = 0, epoch: int = 1, slots: int = 100) -> FakeDrp:
        drp = FakeDrp(self.endpoint, Who(f"drp_{number}", number, group, epoch), slots)
        self.drps.append(drp)
        return drp

    def insert(self, *services: TransitionId, **info: Any) -> None:
        for service in services:
            self.partition.insert(service, info)

    def until(self, holds: Callable[[], Any], timing: bool = True) -> None:
        end = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < end, "it did not come"
            if timing:
                self.partition.turn()
            for drp in self.drps:
                drp.turn()

    def until_ready(self) -> None:
        """Wait until every drp has joined and given credit."""
        core = self.partition.core
        assert core is not None
        self.until(lambda: all(member.granted for member in core.members.values()))

    def close(self) -> None:
        for drp in self.drps:
            drp.link.close()
        self.stop()


def rising(pulses: list[int]) -> bool:
    return bool((np.diff(np.array(pulses, np.int64)) > 0).all())

"""What connects a drp with the rest of its partition while it is configured: triggers come in, contributions go out, verdicts come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from drp.engine.judging import Judge
from drp.engine.meblink import MebLinks, MebTarget
from drp.engine.teblink import Me, TebLinks
from drp.link.keys import Keys
from drp.member.plan import Place
from drp.source import Source
from drp.source.timing_link import TimingLink, Who
from drp.source.triggered import Triggered, stock_of

TEB_LIMIT_S = 3.0
"""Longest that BeginRun waits for tebs: control's limit for it is 6 s."""


class Links(Protocol):
    """Makes the ends of one Configure."""

    def source(self, inner: Source, place: Place, epoch: int, edit: Callable[[bytes], bytes]) -> Source:
        """Return a source that follows timing, with the data of `inner`; its Configure goes through `edit`. Raises DrpError."""

    def judge(self, place: Place, epoch: int) -> Judge | None:
        """Return who asks the tebs, None where the partition has none. Raises DrpError."""

    def monitor(self, place: Place, epoch: int) -> MebLinks | None:
        """Return who sends monitored events to the mebs, None where the partition has none. Raises DrpError."""

    def disconnect(self) -> None:
        """Leave the mebs."""


class PartitionLinks:
    """The links to the timing and the tebs that control names. The data begin with `first_event` of what is recorded."""

    def __init__(self, alias: str, keys: Keys | None = None, *, first_event: int = 0) -> None:
        self._alias = alias
        self._keys = keys
        self._first_event = first_event
        self._mebs: MebLinks | None = None

    def source(self, inner: Source, place: Place, epoch: int, edit: Callable[[bytes], bytes]) -> Source:
        """Return a Triggered."""
        stock = stock_of(inner, self._first_event)
        link = TimingLink(
            place.timing.endpoint, Who(self._alias, place.id, place.group, epoch), keys=self._keys
        )
        return Triggered(stock, link, name=inner.describe(), edit=edit, scan=place.first)

    def judge(self, place: Place, epoch: int) -> Judge | None:
        """Return TebLinks; events that the common readout group has no part in are not judged."""
        if not place.tebs:
            return None
        detector, _, _ = self._alias.rpartition("_")
        me = Me(self._alias, detector, place.id, place.group, epoch)
        endpoints = [one.endpoint for one in place.tebs]
        common = 1 << place.platform
        return TebLinks(endpoints, me, groups=common, keys=self._keys, ready_limit_s=TEB_LIMIT_S)

    def monitor(self, place: Place, epoch: int) -> MebLinks | None:
        """Return MebLinks, the same from one Configure to the next."""
        if self._mebs is None and place.mebs:
            targets = [MebTarget(one.id, one.alias, one.endpoint) for one in place.mebs]
            self._mebs = MebLinks(
                targets, alias=self._alias, drp_id=place.id, group=place.group, keys=self._keys
            )
            self._mebs.start()
        if self._mebs is not None:
            self._mebs.configured(epoch)
        return self._mebs

    def disconnect(self) -> None:
        """Close MebLinks."""
        if self._mebs is not None:
            self._mebs.close()
            self._mebs = None

"""What connects a drp with the rest of its partition while it is configured: triggers come in, contributions go out, verdicts come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from drp.link.keys import Keys
from drp.member.plan import Place
from drp.source import Source
from drp.source.timing_link import TimingLink, Who
from drp.source.triggered import Triggered, stock_of


class Links(Protocol):
    """Makes the two ends of one Configure."""

    def source(self, inner: Source, place: Place, epoch: int, edit: Callable[[bytes], bytes]) -> Source:
        """Return a source that follows timing, with the data of `inner`; its Configure goes through `edit`. Raises DrpError."""


class PartitionLinks:
    """The links to the timing and the tebs that control names. The data begin with `first_event` of what is recorded."""

    def __init__(self, alias: str, group: int, keys: Keys | None = None, *, first_event: int = 0) -> None:
        self._alias = alias
        self._group = group
        self._keys = keys
        self._first_event = first_event

    def source(self, inner: Source, place: Place, epoch: int, edit: Callable[[bytes], bytes]) -> Source:
        """Return a Triggered."""
        stock = stock_of(inner, self._first_event)
        link = TimingLink(
            place.timing.endpoint, Who(self._alias, place.id, self._group, epoch), keys=self._keys
        )
        return Triggered(stock, link, name=inner.describe(), edit=edit, scan=place.first)

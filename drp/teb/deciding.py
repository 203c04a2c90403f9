"""Who decides on built events: nobody (all persist), a condition, or a trigger script in its own process (`drp.teb.stage`), all by one protocol."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from drp.core import wire
from drp.core.batch import RESULT, Contributor, Layout
from drp.core.conditions import Bound, Conditions

Array = npt.NDArray[Any]


class Decider(Protocol):
    """What decides. `submit` at most `room` events; their RESULTs come out of `verdicts` in the same order, and then `fd` is readable."""

    fd: int

    def start(self) -> None:
        """Do what is to be done before the first thread."""
        ...

    def begin(
        self,
        contributors: Sequence[Contributor],
        connect: Mapping[str, Any],
        *,
        script: Sequence[str] | None = None,
    ) -> None:
        """Begin to be ready for events of these contributors; DrpError where that is known to be in vain."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it is ready; raises, once, the DrpError of what has failed. `fd` is readable when it has become either."""
        ...

    @property
    def room(self) -> int:
        """How many events may be submitted now."""
        ...

    def submit(self, events: Array, rows: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Have these events decided on."""
        ...

    def verdicts(self) -> Array:
        """Return the RESULTs there are."""
        ...

    def unconfigure(self) -> None:
        """Decide no more."""
        ...

    def close(self) -> None:
        """End."""
        ...


class AtOnce:
    """Decide within `submit`: by a condition, or let all persist."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._conditions = conditions
        self._bound: Bound | None = None
        self._layout = Layout(())
        self._done: deque[Array] = deque()

    def start(self) -> None:
        """Do nothing."""

    def begin(
        self,
        contributors: Sequence[Contributor],
        connect: Mapping[str, Any],
        *,
        script: Sequence[str] | None = None,
    ) -> None:
        """Find the words of the condition; ConditionError where they are not there."""
        del connect, script
        self.unconfigure()
        self._layout = Layout(tuple(contributors))
        words = {one.alias: [name for name, _ in one.words] for one in contributors}
        self._bound = None if self._conditions is None else self._conditions.bind(words)

    @property
    def ready(self) -> bool:
        """It always is."""
        return True

    @property
    def room(self) -> int:
        """A batch, always."""
        return self._layout.max_events

    def submit(self, events: Array, rows: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Decide."""
        out = np.zeros(len(events), RESULT)
        out["number"], out["pulse_id"] = events["number"], events["pulse_id"]
        out["result"] = wire.PERSIST
        if self._bound is not None:
            out["result"] = np.where(self._keep(self._bound, rows, len(events)), wire.PERSIST, 0)
        self._done.append(out)
        os.eventfd_write(self.fd, 1)

    def _keep(self, bound: Bound, rows: Sequence[npt.NDArray[np.uint8]], n: int) -> npt.NDArray[np.bool_]:
        """Where a contributor gave no words, or did not contribute, its words are not known: such an event is kept."""
        layout = self._layout
        asked = {alias for alias, _ in bound.columns}
        columns: dict[tuple[str, str], Array] = {}
        known: dict[str, npt.NDArray[np.bool_]] = {}
        for i, one in enumerate(layout.contributors):
            if one.alias in asked:
                words = layout.words(rows[i], i)
                columns |= {column: words[column[1]] for column in bound.columns if column[0] == one.alias}
                said = np.ascontiguousarray(rows[i][:, : wire.CONTRIBUTION.itemsize]).view(wire.CONTRIBUTION)[
                    :, 0
                ]
                known[one.alias] = said["flags"] & wire.Contributed.words != 0
        return bound.evaluate(columns, n, known)

    def verdicts(self) -> Array:
        """Return what was decided."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        if not self._done:
            return np.empty(0, RESULT)
        out = np.concatenate(self._done)
        self._done.clear()
        return out

    def unconfigure(self) -> None:
        """Forget what was configured."""
        self._bound = None
        self._done.clear()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

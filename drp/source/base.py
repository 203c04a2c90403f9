"""What a source of datagrams is, and how one is found by the text a user gives.

A source puts whole dgrams into the slots it is handed; it knows nothing of workers, files written, or the
order that transitions must have: what it leaves out is put in by the batch of slots. New sources are found
through the entry point group `drp.sources`, so this module names none but the two that are always there,
and imports those only when they are asked for.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from drp.core.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Buffer

END = -1
GROUP = "drp.sources"
BUILT_IN = {
    "sim": "drp.source.sim:open_source",
    "xtc2": "drp.source.replay:open_source",
    "ts": "drp.source.ts:open_source",
    "triggered": "drp.source.triggered:open_source",
}


class Slots(Protocol):
    """Free slots that a source fills, in order; `drp.shm._pebble.SlotBatch` is the real one."""

    @property
    def events_free(self) -> int:
        """L1Accepts that can be put now."""

    @property
    def transitions_free(self) -> int:
        """Transitions, SlowUpdates included, that can be put now."""

    def put(self, dgram: Buffer, pulse_id: int = 0) -> bool:
        """Copy one whole dgram; False: no slot of its kind is free now, offer it again later. `pulse_id` 0:
        not known.
        """


class Source(Protocol):
    """Something that makes or receives dgrams. Used by one thread.

    One that cannot wait also has `lost_events`, how many L1Accepts never came to a slot; they are counted in
    the ledger, and exit with 1. One that is told when there is something has `wait(timeout_s)`, which returns then or after so long, and is
    called where `fill` put nothing; its `fill` is also called when no slot for an event is free, so that transitions get through. One that reads
    what was recorded may say more, for the report: `warnings` and `faults` (lines; a fault exits with 1), and `truncated` (lines).
    """

    @property
    def max_event_bytes(self) -> int:
        """Size of the largest L1Accept this source can put."""

    @property
    def max_transition_bytes(self) -> int:
        """Size of the largest transition, SlowUpdates included."""

    def fill(self, slots: Slots) -> int:
        """Put what is due now and has a slot, without waiting. Returns how many were put; END when there is
        nothing more.
        """

    def wait_s(self) -> float:
        """Seconds until the next dgram is due; 0 where it is due now."""

    def close(self) -> None:
        """Give back what the source holds. It is not used afterwards."""

    def describe(self) -> str:
        """One line for people: what it is and how much of it."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the caller, not the text that names the source, decides about it."""

    rate_hz: float | None = None
    """L1Accepts per second; None: as fast as slots are free."""
    loop: bool = False
    """Go on from the start where a recorded source ends."""
    events: int | None = None
    """How many L1Accepts the caller will take, as far as it is known; a source may make no more than these,
    and need not stop.
    """
    instrument: str = "tst"
    clock_ns: Callable[[], int] = field(default=time.monotonic_ns, compare=False)

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 0 < self.rate_hz < 1e9:
            raise SourceError(f"a rate is above 0 and below 1e9 events per second, not {self.rate_hz:g}")


Opener = Callable[[str, SourceOptions], Source]


def open_source(text: str | Sequence[str], options: SourceOptions | None = None) -> Source:
    """Open the source that `text` names: `NAME`, `NAME:REST`, a file, or several files in the order to be
    read.

    A text that is an existing file is one, whatever it looks like. SourceError: nothing has that name, or
    it cannot be opened.
    """
    options = options or SourceOptions()
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise SourceError("no source was given")
    others = [
        text for text in texts if not Path(text).is_file() and _find(text.partition(":")[0]) is not None
    ]
    if others and len(texts) > 1:
        raise SourceError(
            "it cannot be read together with others", source=others[0], hint="Give one source, or files"
        )
    if len(texts) == 1 and not Path(texts[0]).is_file():
        return _open_named(texts[0], options)
    from drp.source.replay import Replay  # noqa: PLC0415 - the file reader is only for those who read files

    return Replay(texts, options)


def source_names() -> list[str]:
    """Return the names that `open_source` knows, those of installed packages included."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def near_misses(word: str, known: Sequence[str]) -> str:
    """Return ` (did you mean ...?)` where some of `known` look like `word`, else nothing."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _open_named(text: str, options: SourceOptions) -> Source:
    name, _, rest = text.partition(":")
    opener = _find(name)
    if opener is not None:
        return opener(rest, options)
    if Path(text).is_dir():
        raise SourceError("it is a folder", source=text, hint="Name the files in it")
    if "/" in text or "." in text:
        folder = Path(text).parent
        others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        place = "" if folder.is_dir() else f": there is no folder {folder}"
        raise SourceError(f"there is no file {text}{place}{near_misses(Path(text).name, others)}")
    known = source_names()
    raise SourceError(
        f"no source is called {name!r}{near_misses(name, known)}",
        hint=f"Known are {', '.join(known)}; or give xtc2 files",
    )


def _find(name: str) -> Opener | None:
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        return cast(Opener, getattr(import_module(module), function))
    for entry in entry_points(group=GROUP, name=name):
        try:
            return cast(Opener, entry.load())
        except (ImportError, AttributeError) as error:
            raise SourceError(f"the source {name!r} ({entry.value}) cannot be loaded: {error}") from error
    return None

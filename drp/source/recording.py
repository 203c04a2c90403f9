"""Recording: where every dgram of one or several xtc2 files lies, found once, with the files mapped and
nothing copied.

It reads headers, follows chunks, and takes pulse ids from `drpinfo` where a file has it; what is done with
the dgrams is the business of whoever asks. Every extent is checked (by `xtc`) before it is used. A last
dgram that is cut off ends its file and is reported, and so does one that is wrong after a good one; anything
else raises SourceError with the file and what to do.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from drp.core.errors import SourceError
from drp.source.base import near_misses
from xtc import (
    ChunkInfo,
    Config,
    DataType,
    Dgram,
    Scan,
    Tail,
    TransitionId,
    XtcError,
    find_smdinfo,
    read_chunkinfo,
)
from xtc.chunk import MAX_CHUNKS, chunk_number, find_config, next_chunk

if TYPE_CHECKING:
    from xtc import Column

BLOCK = 1 << 15
EVENTS = (TransitionId.L1Accept_EndOfBatch, TransitionId.L1Accept)
_U64 = npt.NDArray[np.uint64]
_GZIP = b"\x1f\x8b"
_STREAM = re.compile(r"(?P<run>.+-r\d+)-s(?P<stream>\d+)-c\d+(\.smd)?\.xtc2")


class Recording:
    """Dgram i is `sizes[i]` bytes at `offsets[i]` of `maps[which[i]]`, the map of `paths[which[i]]`.

    `which`, `offsets`, `sizes`, `timestamps` and `pulse_ids` (0: not known) are uint64 arrays, `services` uint8, an
    L1Accept_EndOfBatch being an L1Accept. `tails` holds the path and place of each cut-off end; `faults` says of each file
    what ended it before its end; `smalldata` the files that hold only where the events of others lie.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths: list[Path] = []
        self.maps: list[mmap.mmap] = []
        self.tails: list[tuple[Path, Tail]] = []
        self.faults: list[str] = []
        self.smalldata: list[Path] = []
        self._rows = _Rows()
        self._config: Config | None = None
        self._pulse: Column | None = None
        self._is_smd = False
        self._read_all([Path(path) for path in paths])
        self.which, self.offsets, self.sizes, self.timestamps, self.pulse_ids = (
            self._rows.column(name) for name in _Rows.NAMES
        )
        self.services = as_events(self._rows.services())

    def __len__(self) -> int:
        return len(self._rows)

    def dgram(self, number: int) -> bytes:
        """Return a copy of one dgram."""
        start = int(self.offsets[number])
        return bytes(self.maps[int(self.which[number])][start : start + int(self.sizes[number])])

    @property
    def not_rising(self) -> int:
        """How many events are not later than the event before them in their run."""
        is_event = self.services == TransitionId.L1Accept
        stamps = self.timestamps[is_event]
        runs = np.cumsum(self.services == TransitionId.BeginRun)[is_event]
        return int(((stamps[1:] <= stamps[:-1]) & (runs[1:] == runs[:-1])).sum())

    @property
    def truncated(self) -> list[str]:
        """The files whose last dgram is cut off, each with what is there of it."""
        return [
            f"{path}: {tail.have} of {tail.need} bytes at byte {tail.offset}" for path, tail in self.tails
        ]

    def warnings(self, *, not_rising: bool = True) -> list[str]:
        """Return what is odd about the files and costs nothing, a line each; `not_rising`: events not in the order of time too."""
        found = [
            f"{path} is smalldata: it says where the events of another file lie, and holds none of their data"
            for path in self.smalldata
        ]
        found += [
            f"{path} ends in a cut-off dgram: {tail.have} of {tail.need} bytes at byte {tail.offset}"
            for path, tail in self.tails
        ]
        if not_rising and (count := self.not_rising):
            found.append(
                f"{count:,} {'event is' if count == 1 else 'events are'} not later than the one before: recorded as they came"
            )
        return found

    def close(self) -> None:
        """Let go of the files; what still looks at a map keeps it."""
        self.maps.clear()

    def _read_all(self, given: list[Path]) -> None:
        _refuse_streams_of_one_run(given)
        followed: list[Path] = []
        for path in given:
            if any(_same(path, chunk) for chunk in followed):
                continue
            current = chunk_number(path.name)
            announced = self._read(path)
            while announced is not None and announced.chunkid > current and len(followed) < MAX_CHUNKS:
                path, current = _next_chunk(self.paths[-1], announced), announced.chunkid  # noqa: PLW2901
                followed.append(path)
                announced = self._read(path)

    def _read(self, path: Path) -> ChunkInfo | None:
        """Index one file; return what it says of the chunk it goes on in, if anything."""
        mapped = _map(path)
        scan = Scan(mapped, path=str(path), config=self._config)
        announced = None
        known = len(self)
        self.paths.append(path)
        self.maps.append(mapped)
        try:
            while (dgram := self._next(scan, path, known)) is not None:
                if self._config is None and dgram.service != TransitionId.Configure:
                    raise _no_configure(path, dgram)
                announced = self._add(dgram) or announced
                self._rows.take(scan, len(self.maps) - 1, self._pulse)
        except XtcError as error:
            raise SourceError(_without_path(error), source=str(path)) from error
        if scan.tail is not None:
            if len(self) == known:
                raise SourceError(
                    f"no xtc2 file, or cut off within its first dgram: there are {len(mapped)} bytes, "
                    f"the header asks for {scan.tail.need}",
                    source=str(path),
                )
            self.tails.append((path, scan.tail))
        return announced

    def _next(self, scan: Scan, path: Path, known: int) -> Dgram | None:
        """Return the next dgram; None at the end, and where there is none though there are bytes, which is a fault."""
        try:
            return next(scan, None)
        except XtcError as error:
            if len(self) == known:
                what = f"no xtc2 file, its first dgram is wrong: {_without_path(error)}"
                raise SourceError(what, source=str(path)) from error
            self.faults.append(_fault(path, error, self._rows.end))
            return None

    def _add(self, dgram: Dgram) -> ChunkInfo | None:
        service = dgram.service
        if service == TransitionId.Configure:
            self._configure(dgram)
        pulse_id = self._pulse_id(dgram) if service in EVENTS else 0
        self._rows.add(service, len(self.maps) - 1, dgram.offset, dgram.size, dgram.timestamp, pulse_id)
        return None if self._is_smd else read_chunkinfo(dgram)

    def _pulse_id(self, dgram: Dgram) -> int:
        if self._pulse is None:
            return 0
        try:
            return self._pulse.read(dgram) or 0
        except XtcError:
            # What is wrong inside an event is for whoever reads it; its pulse id cannot be known.
            return 0

    def _configure(self, dgram: Dgram) -> None:
        config = dgram.config
        if config is None:
            raise XtcError("the Configure has no Names", offset=dgram.offset)
        self._config = config
        self._is_smd = find_smdinfo(config) is not None
        if self._is_smd and self.paths[-1] not in self.smalldata:
            self.smalldata.append(self.paths[-1])
        try:
            pulse = config.column("drpinfo", "drpinfo", "pulse_id")
        except XtcError:
            pulse = None
        is_number = pulse is not None and (pulse.field.dtype, pulse.field.rank) == (DataType.UINT64, 0)
        self._pulse = pulse if is_number else None


class _Rows:
    """The columns of a recording while it is being read: transitions one by one, events by the block."""

    NAMES = ("which", "offsets", "sizes", "timestamps", "pulse_ids")

    def __init__(self) -> None:
        self._blocks: list[_U64] = []
        self._services: list[npt.NDArray[np.uint8]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def end(self) -> int:
        """Where the dgram added last ends in its file."""
        last = self._blocks[-1][:, -1]
        return int(last[self.NAMES.index("offsets")]) + int(last[self.NAMES.index("sizes")])

    def add(self, service: int, *row: int) -> None:
        """Add one dgram; `row` has the values of NAMES."""
        self._keep(np.array([row], np.uint64).T, np.array([service], np.uint8))

    def take(self, scan: Scan, which: int, pulse: Column | None) -> None:
        """Add the events and SlowUpdates that come next."""
        count = BLOCK
        while count == BLOCK:
            block = np.zeros((len(self.NAMES), BLOCK), np.uint64)
            services = np.empty(BLOCK, np.uint8)
            block[0] = which
            count = scan.index(block[1], block[2], block[3], services, block[4], pulse)
            if count:
                self._keep(block[:, :count].copy(), services[:count].copy())

    def _keep(self, block: _U64, services: npt.NDArray[np.uint8]) -> None:
        self._blocks.append(block)
        self._services.append(services)
        self._length += len(services)

    def column(self, name: str) -> _U64:
        """Return one of NAMES."""
        place = self.NAMES.index(name)
        return np.concatenate([np.empty(0, np.uint64), *(block[place] for block in self._blocks)])

    def services(self) -> npt.NDArray[np.uint8]:
        """Return the services."""
        return np.concatenate([np.empty(0, np.uint8), *self._services])


def as_events(services: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the services with those that readers take for events as L1Accepts."""
    return np.where(services == TransitionId.L1Accept_EndOfBatch, TransitionId.L1Accept, services).astype(
        np.uint8
    )


def _refuse_streams_of_one_run(paths: Sequence[Path]) -> None:
    streams: dict[str, tuple[str, Path]] = {}
    for path in paths:
        if (found := _STREAM.fullmatch(path.name)) is None:
            continue
        stream, first = streams.setdefault(found["run"], (found["stream"], path))
        if stream != found["stream"]:
            raise SourceError(
                f"it is another stream of the run than {first.name}: they are to be read side by side, and a drp reads one",
                source=str(path),
                hint="Start a drp for each",
            )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _map(path: Path) -> mmap.mmap:
    try:
        if path.exists() and not path.is_file():
            what = "it is a folder" if path.is_dir() else "it is not a regular file"
            raise SourceError(what, source=str(path), hint="Name the xtc2 file itself")
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise SourceError("the file is empty", source=str(path))
            file.seek(0)
            if file.read(len(_GZIP)) == _GZIP:
                raise SourceError(
                    "it is compressed with gzip", source=str(path), hint="Expand it first: gunzip -k"
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"there is no such file{near_misses(path.name, others)}", source=str(path)
        ) from None
    except OSError as error:
        raise SourceError(f"it cannot be read: {error.strerror or error}", source=str(path)) from error


def _without_path(error: XtcError) -> str:
    return str(type(error)(error.what, **error.fields() | {"path": None}))


def _fault(path: Path, error: XtcError, end: int) -> str:
    """Say what ended a file at byte `end`, and what to do about it."""
    left = path.stat().st_size - end
    return (
        f"{path} is read up to byte {end}, the {left:,} bytes from there on are no dgrams: {_without_path(error).rstrip('.')}. "
        f"Cut them off if nothing is missed: xtc cut {path.name} whole.xtc2"
    )


def _no_configure(path: Path, dgram: Dgram) -> SourceError:
    what = f"it begins with {dgram.service.name}, not with Configure, so nothing says what its data are"
    hint = "Give the file that holds the Configure before it"
    number = chunk_number(path.name)
    if number > 0:
        found = find_config(path)
        first = "the run's first chunk (usually called ...-c000.xtc2)" if found is None else found[1]
        what = f"{what}; it is chunk {number} of a run"
        hint = f"Give {first}; the later chunks are then found"
    return SourceError(what, source=str(path), hint=hint)


def _next_chunk(path: Path, announced: ChunkInfo) -> Path:
    following = next_chunk(path, announced)
    if following is None:
        raise SourceError(
            f"it goes on in chunk {announced.filename}, which is not beside it",
            source=str(path),
            hint="Copy it there",
        )
    return following

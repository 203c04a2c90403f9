"""Recording: where every dgram of one or several xtc2 files lies, found once, with the files mapped and
nothing copied.

It reads headers, follows chunks, and takes pulse ids from `drpinfo` where a file has it; what is done with
the dgrams is the business of whoever asks. Every extent is checked (by `xtc`) before it is used. A last
dgram that is cut off ends its file and is reported; anything else that is wrong raises SourceError with the
file and what to do.
"""

from __future__ import annotations

import mmap
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from drp.core.errors import SourceError
from drp.source.base import near_misses
from xtc import Config, Dgram, Scan, Tail, TransitionId, XtcError

if TYPE_CHECKING:
    from xtc import Column

_CHUNK = re.compile(r"(.*)-c(\d+)(\.smd)?\.xtc2")
_HEADER_BYTES = 24


class Recording:
    """Dgram i is `sizes[i]` bytes at `offsets[i]` of `maps[which[i]]`, the map of `paths[which[i]]`.

    `which`, `offsets`, `sizes`, `timestamps` and `pulse_ids` (0: not known) are uint64 arrays, `services`
    uint8. `tails` holds the path and place of each cut-off end.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths: list[Path] = []
        self.maps: list[mmap.mmap] = []
        self.tails: list[tuple[Path, Tail]] = []
        self._columns = {
            name: array("Q") for name in ("which", "offsets", "sizes", "timestamps", "pulse_ids")
        }
        self._services = array("B")
        self._config: Config | None = None
        self._pulse: Column | None = None
        self._read_all([Path(path) for path in paths])
        self.which, self.offsets, self.sizes, self.timestamps, self.pulse_ids = (
            _as_uint64(column) for column in self._columns.values()
        )
        self.services: npt.NDArray[np.uint8] = np.frombuffer(self._services, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._services)

    def close(self) -> None:
        """Let go of the files; what still looks at a map keeps it."""
        self.maps.clear()

    def _read_all(self, given: list[Path]) -> None:
        waiting = list(given)
        while waiting:
            path = waiting.pop(0)
            following = self._read(path)
            if following is None:
                continue
            if any(_same(following, old) for old in self.paths):
                raise SourceError(
                    f"its chunkinfo goes on in {following.name}, which was read before", source=str(path)
                )
            if not (waiting and _same(following, waiting[0])):
                waiting.insert(0, following)

    def _read(self, path: Path) -> Path | None:
        """Index one file; return the chunk it goes on in, if any."""
        mapped = _map(path)
        scan = Scan(mapped, path=str(path), config=self._config)
        following = None
        known = len(self)
        self.paths.append(path)
        self.maps.append(mapped)
        try:
            for dgram in scan:
                if self._config is None and dgram.service != TransitionId.Configure:
                    raise _no_configure(path, dgram)
                following = self._add(path, dgram)
        except XtcError as error:
            raise _not_xtc2(path, error) if len(self) == known else SourceError(str(error)) from error
        if scan.tail is not None:
            if len(self) == known and self._config is None:
                raise SourceError(
                    f"no xtc2 file, or cut off within its first dgram: there are {len(mapped)} bytes, "
                    f"the header asks for {scan.tail.need}",
                    source=str(path),
                )
            self.tails.append((path, scan.tail))
        return following

    def _add(self, path: Path, dgram: Dgram) -> Path | None:
        service = dgram.service
        if service == TransitionId.Configure:
            self._config = dgram.config
            self._pulse = _pulse_column(self._config)
        pulse_id = 0
        if service == TransitionId.L1Accept and self._pulse is not None:
            pulse_id = self._pulse.read(dgram) or 0
        columns = self._columns
        columns["which"].append(len(self.maps) - 1)
        columns["offsets"].append(dgram.offset)
        columns["sizes"].append(dgram.size)
        columns["timestamps"].append(dgram.timestamp)
        columns["pulse_ids"].append(pulse_id)
        self._services.append(service)
        if service == TransitionId.Enable and dgram.size > _HEADER_BYTES:
            return _next_chunk(path, dgram)
        return None


def _as_uint64(column: array[int]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(column, dtype=np.uint64)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise SourceError("the file is empty", source=str(path))
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"there is no such file{near_misses(path.name, others)}", source=str(path)
        ) from None
    except OSError as error:
        raise SourceError(f"it cannot be read: {error.strerror or error}", source=str(path)) from error


def _not_xtc2(path: Path, error: XtcError) -> SourceError:
    return SourceError(f"no xtc2 file, its first dgram is wrong: {error}", source=str(path))


def _no_configure(path: Path, dgram: Dgram) -> SourceError:
    what = f"it begins with {dgram.service.name}, not with Configure, so nothing says what its data are"
    hint = "Give the file that holds the Configure before it"
    chunk = _CHUNK.fullmatch(path.name)
    if chunk is not None and int(chunk[2]) > 0:
        what = f"{what}; it is chunk {int(chunk[2])} of a run"
        first = path.with_name(f"{chunk[1]}-c{0:0{len(chunk[2])}d}{chunk[3] or ''}.xtc2")
        name = str(first) if first.exists() else "the run's first chunk (usually called ...-c000.xtc2)"
        hint = f"Give {name}; the later chunks are then found"
    return SourceError(what, source=str(path), hint=hint)


def _pulse_column(config: Config | None) -> Column | None:
    try:
        return None if config is None else config.column("drpinfo", "drpinfo", "pulse_id")
    except XtcError:
        return None


def _next_chunk(path: Path, dgram: Dgram) -> Path | None:
    names = [
        value.value
        for value in dgram.fields()
        if (value.names.detname, value.field.name) == ("chunkinfo", "filename")
    ]
    if not names:
        return None
    if not names[-1] or Path(names[-1]).name != names[-1]:
        raise SourceError(
            f"the name of its next chunk, {names[-1]!r}, is no plain file name", source=str(path)
        )
    following = path.with_name(names[-1])
    if not following.exists():
        raise SourceError(f"it goes on in chunk {names[-1]}, which is not beside it", source=str(path))
    return following

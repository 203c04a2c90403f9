"""Chunks: one stream in several files, tied by a `chunkinfo` in the Enable that ends each but the last.

The next file has no Configure and follows the first one's. File names of LCLS are made and taken apart here
too. Values of chunkinfo are looked up by field name, because writers differ in their order; the file name
must be one of the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xtc._dgram import Dgram, Scan, Tail
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId
from xtc.names import Alg, Field, Names, to_bytes
from xtc.reader import Reader
from xtc.values import encode_shapes_data

UNFINISHED = (".inprogress", ".noendrun")
"""What follows the name of a file that is being written, and of one whose writer died."""

_UNFINISHED = r"(?:\.inprogress|\.noendrun(?:\.\d+)?)?"
_ENDING = re.compile(rf"(?<=\.xtc2){_UNFINISHED}\Z")
_CHUNK = re.compile(rf"-c(\d+)(?:\.smd)?\.xtc2{_UNFINISHED}\Z")
_NAME = re.compile(
    rf"(?P<expt>.+)-r(?P<run>\d+)-s(?P<stream>\d+)-c(?P<chunk>\d+)(?P<smd>\.smd)?\.xtc2{_UNFINISHED}\Z"
)
MAX_CHUNKS = 10_000
MAX_NEIGHBOURS = 100
BLOCK = 4096
MAX_NAME_BYTES = 255  # NAME_MAX of Linux


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """What the Enable at the end of a chunk says: the file name, without folder, and number of the next."""

    filename: str
    chunkid: int


@dataclass(frozen=True, slots=True)
class FileName:
    """The parts of an xtc2 file's name, `<expt>-rRRRR-sSSS-cCCC[.smd].xtc2`."""

    expt: str
    run: int
    stream: int
    chunk: int
    smd: bool = False

    def __str__(self) -> str:
        smd = ".smd" if self.smd else ""
        return f"{self.expt}-r{self.run:04d}-s{self.stream:03d}-c{self.chunk:03d}{smd}.xtc2"

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Take a bare name apart, the ending of an unfinished file ignored; None where it is not of that form."""
        found = _NAME.match(name)
        if found is None:
            return None
        run, stream, chunk = (int(found[part]) for part in ("run", "stream", "chunk"))
        return cls(found["expt"], run, stream, chunk, found["smd"] is not None)


def chunk_number(name: str) -> int:
    """Return the number after `-c` at the end of a file name, 0 where there is none."""
    found = _CHUNK.search(name)
    return int(found[1]) if found else 0


def chunkinfo_names(names_id: int) -> Names:
    """Return the Names of chunkinfo, in the DAQ's field order."""
    fields = (Field("filename", DataType.CHARSTR, 1), Field("chunkid", DataType.UINT32))
    return Names(names_id, "chunkinfo", "chunkinfo", "", 0, Alg("chunkinfo", (0, 0, 1)), fields)


def encode_chunkinfo(names: Names, info: ChunkInfo) -> bytes:
    """Return the ShapesData that announces the next chunk, in the field order of `names`."""
    return encode_shapes_data(names, {"filename": info.filename, "chunkid": info.chunkid})


def read_chunkinfo(dgram: Dgram) -> ChunkInfo | None:
    """Return what an Enable says of the next chunk, or None; raise XtcError where it is no name of a file
    beside this one.
    """
    if dgram.service != TransitionId.Enable or dgram.config is None:
        return None
    for shapes in dgram.shapes_data():
        names = dgram.config.names.get(shapes.names_id)
        if names is None or (names.detname, names.alg.name) != ("chunkinfo", "chunkinfo"):
            continue
        found = {field.name: value for field, value in zip(names.fields, shapes.values(), strict=True)}
        filename, chunkid = found.get("filename"), found.get("chunkid")
        place = ("chunkinfo", f"{dgram.service.name} dgram")
        if not isinstance(filename, str) or not isinstance(chunkid, int):
            raise XtcError(
                "chunkinfo lacks filename or chunkid", path=dgram.path, offset=dgram.offset, inside=place
            )
        too_long = len(to_bytes(filename)) > MAX_NAME_BYTES
        if not filename or "/" in filename or filename in (".", "..") or too_long:
            raise XtcError(
                "the next chunk is no file of the same folder",
                path=dgram.path,
                offset=dgram.offset,
                inside=place,
                expected="a bare file name",
                found=repr(filename[:80]),
            )
        return ChunkInfo(filename, chunkid)
    return None


class Stream:
    """Iterate over one stream from `path` through the chunks after it; dgrams of later chunks follow the
    first one's Configure. Without `events` L1Accepts and SlowUpdates are passed over by their headers.

    A chunk whose number does not rise ends the stream, as in psana. `tail` is that of the last file read,
    `paths` are those read so far. Raises XtcError where an announced file is not there.
    """

    def __init__(self, path: str | Path, *, config: Config | None = None, events: bool = True) -> None:
        self.paths: list[str] = []
        self._events = events
        self.tail: Tail | None = None
        self._first = Path(path)
        self._config = config

    def __iter__(self) -> Iterator[Dgram]:
        path, config = self._first, self._config
        current = chunk_number(path.name)
        self.paths, self.tail = [], None
        for _ in range(MAX_CHUNKS):
            self.paths.append(str(path))
            announced: ChunkInfo | None = None
            with Reader(path, config=config) as reader:
                scan = reader.scan()
                for dgram in scan if self._events else _transitions(scan):
                    announced = read_chunkinfo(dgram) or announced
                    yield dgram
                self.tail, config = scan.tail, scan.config
            if announced is None or announced.chunkid <= current:
                return
            path, current = _next_file(path, announced), announced.chunkid
        raise XtcError("a stream has too many chunks", path=str(path), expected=f"at most {MAX_CHUNKS}")


def _transitions(scan: Scan) -> Iterator[Dgram]:
    offsets, sizes, times = (np.empty(BLOCK, np.uint64) for _ in range(3))
    services = np.empty(BLOCK, np.uint8)
    while True:
        while scan.index(offsets, sizes, times, services) == BLOCK:
            continue
        dgram = next(scan, None)
        if dgram is None:
            return
        yield dgram


def _next_file(path: Path, announced: ChunkInfo) -> Path:
    following = next_chunk(path, announced)
    if following is None:
        raise XtcError(
            "the next chunk is missing",
            path=str(path),
            expected=str(path.parent / announced.filename),
            hint="Copy it beside this file.",
        )
    return following


def next_chunk(path: Path, announced: ChunkInfo) -> Path | None:
    """Return the file beside `path` that it announces, finished or not; None where it is not there."""
    whole = path.parent / announced.filename
    names = (whole, *(whole.with_name(whole.name + ending) for ending in UNFINISHED))
    return next((one for one in names if one.exists()), None)


def find_config(path: str | Path) -> tuple[Config, str] | None:
    """Return the Config of a chunk that has no Configure, and the file beside it that holds it; None where
    there is none.

    By its name it is the first chunk of the same run and stream. Else it is the one from which chunks lead to this one, of those that may:
    the first `MAX_NEIGHBOURS` are followed.
    """
    wanted = Path(path)
    name = _ENDING.sub("", wanted.name)
    first = FileName.parse(name)
    before = [
        one
        for one in sorted(wanted.parent.glob("*.xtc2*"))
        if one != wanted
        and _ENDING.search(one.name)
        and chunk_number(one.name) < max(chunk_number(wanted.name), 1)
    ]
    if first is not None:
        for candidate in before:
            if FileName.parse(candidate.name) == replace(first, chunk=0):
                config = _own_config(candidate)
                if config is not None:
                    return config, str(candidate)
    for candidate in before[:MAX_NEIGHBOURS]:
        config = _announces(candidate, name)
        if config is not None:
            return config, str(candidate)
    return None


def _own_config(candidate: Path) -> Config | None:
    """Return the Config of the Configure that a file begins with; None where it has none that can be read."""
    try:
        with Reader(candidate) as reader:
            return reader.config
    except (XtcError, OSError):
        return None


def _announces(candidate: Path, name: str) -> Config | None:
    """Follow the chunks from `candidate`; its Config if one of them announces the file `name`. A neighbour
    that cannot be read announces nothing.
    """
    stream = Stream(candidate, events=False)
    try:
        for dgram in stream:
            info = read_chunkinfo(dgram)
            if info is not None and info.filename == name:
                return dgram.config
    except (XtcError, OSError):
        return None
    return None

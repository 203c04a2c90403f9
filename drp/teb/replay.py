"""Verdicts of a trigger script over recorded files: what it would have said, or did say, of the events of several drps.

The files of one stream (`...-sNNN-cNNN.xtc2`, chunks and all) are one contributor, named by the detector and segment of its trigger words.
Events are built by pulse id where all files have them (`drpinfo`), else by time stamp. The words are those that the scripts recorded and the
stage is the one that runs online, so the verdicts are the same. What no file says: the readout groups of the drps; all are taken to be in the
common one, and nobody is said to be missing.
"""

from __future__ import annotations

import logging
import re
import select
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.batch import EVENT, Contributor, EventFlag
from drp.core.errors import SourceError
from drp.core.ledger import Cause
from drp.core.wire import CONTRIBUTION, KEEP_RAW, MONITOR_MASK, PERSIST, PRESCALE, Contributed
from drp.script.info import BOOKKEEPING
from drp.source.recording import Recording
from drp.teb.connect import connect_info
from drp.teb.deciding import Decider
from xtc import Column, Config, Dgram, Names, TransitionId, XtcError

_STREAM = re.compile(r"(?P<stream>.+-r\d+-s\d+)-c\d+(\.smd)?\.xtc2")
_WAIT_S = 1.0
_U64 = npt.NDArray[np.uint64]

log = logging.getLogger("drp.teb")


@dataclass(frozen=True, slots=True)
class Stream:
    """One contributor's events: `pulse_ids` (0: not known) and `timestamps` (n,) uint64, `rows` (n, stride) as it sent them."""

    contributor: Contributor
    pulse_ids: _U64
    timestamps: _U64
    rows: npt.NDArray[np.uint8]

    @property
    def head(self) -> npt.NDArray[Any]:
        """The CONTRIBUTION of each event, a view of `rows`."""
        return self.rows[:, : CONTRIBUTION.itemsize].view(CONTRIBUTION)[:, 0]


@dataclass(slots=True)
class Tally:
    """What came of a replay."""

    events: int = 0
    persist: int = 0
    prescaled_only: int = 0
    filtered: int = 0
    monitored: int = 0
    failed: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)

    def add(self, results: npt.NDArray[Any], events: npt.NDArray[Any]) -> None:
        """Count verdicts."""
        word = results["result"]
        persist, prescale = word & PERSIST != 0, word & PRESCALE != 0
        self.events += len(results)
        self.persist += int(persist.sum())
        self.prescaled_only += int((prescale & ~persist).sum())
        self.filtered += int((~persist & ~prescale).sum())
        self.monitored += int((word & MONITOR_MASK != 0).sum())
        self.failed += int((events["flags"] & EventFlag.failed != 0).sum())
        self.unanswered.update(Cause(code).name for code in results["cause"].tolist() if code)

    def lines(self) -> list[str]:
        """Return it as lines for people."""
        out = [
            f"{self.events:,} events: {self.persist:,} persist, {self.prescaled_only:,} by prescale only, {self.filtered:,} filtered; "
            f"{self.monitored:,} for monitors"
        ]
        if self.failed:
            out.append(f"{self.failed:,} persist because a script of a drp failed on them")
        out += [
            f"{n:,} persist because the trigger script gave no answer: {cause}"
            for cause, n in self.unanswered.items()
        ]
        return out


def streams_of(paths: Sequence[str | Path]) -> list[list[Path]]:
    """Return the files by stream, in the order given."""
    streams: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        found = _STREAM.fullmatch(path.name)
        streams.setdefault(str(path.parent / found["stream"]) if found else str(path), []).append(path)
    return list(streams.values())


def read_stream(paths: Sequence[Path], number: int) -> Stream | None:
    """Read the events of one stream; None for smalldata. SourceError: they are no files of a run."""
    recording = Recording(paths)
    try:
        if recording.smalldata:
            log.info("%s is smalldata and passed over", recording.smalldata[0])
            return None
        for line in (*recording.warnings(not_rising=False), *recording.faults):
            log.warning("%s", line)
        return _read(recording, number)
    finally:
        recording.close()


def _read(recording: Recording, number: int) -> Stream:
    where = np.flatnonzero(recording.services == TransitionId.L1Accept)
    configures = np.flatnonzero(recording.services == TransitionId.Configure)
    config = Config(_dgram(recording, int(configures[0])))
    names = [one for one in config.names.values() if one.alg.name == "trigger"]
    if len(names) > 1:
        raise SourceError("it has the trigger words of several drps", source=str(recording.paths[0]))
    words = tuple((one.name, one.dtype.name) for one in names[0].fields) if names else ()
    contributor = Contributor(number, _alias(config, names, recording.paths[0]), 0, words)
    rows = np.zeros((len(where), contributor.stride), np.uint8)
    stream = Stream(contributor, recording.pulse_ids[where], recording.timestamps[where], rows)
    columns = [config.column(names[0].detname, "trigger", name, names[0].segment) for name, _ in words]
    values = np.zeros(len(where), contributor.dtype)
    head = stream.head
    head["pulse_id"], head["timestamp"] = stream.pulse_ids, stream.timestamps
    cause = _column(config, "drpinfo", "drpinfo", "cause")
    for k, at in enumerate(where.tolist()):
        dgram = _dgram(recording, at, config)
        head["env"][k], head["damage"][k] = dgram.env, int(dgram.damage)
        failed = cause is not None and bool(cause.read(dgram))
        found = [one.read(dgram) for one in columns]
        if failed:
            head["flags"][k] = Contributed.failed
        elif found and None not in found:
            head["flags"][k] = Contributed.words
            values[k] = tuple(found)
    size = contributor.dtype.itemsize if words else 0
    rows[:, CONTRIBUTION.itemsize : CONTRIBUTION.itemsize + size] = values.view(np.uint8).reshape(
        len(where), -1
    )[:, :size]
    return stream


def _dgram(recording: Recording, at: int, config: Config | None = None) -> Dgram:
    return Dgram(recording.maps[int(recording.which[at])], int(recording.offsets[at]), config=config)


def _column(config: Config, det: str, alg: str, name: str) -> Column | None:
    try:
        return config.column(det, alg, name)
    except XtcError:
        return None


def _alias(config: Config, names: Sequence[Names], path: Path) -> str:
    """Return the alias of who recorded it: of the trigger words, else of the first detector."""
    found = list(names) or [one for one in config.names.values() if one.detname not in BOOKKEEPING]
    if not found:
        raise SourceError("there is no detector in it", source=str(path))
    return f"{found[0].detname}_{found[0].segment}"


def build(streams: Sequence[Stream]) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.uint8]]]:
    """Build the events of all streams, by pulse id or else by time stamp; return EVENT (n,) and the rows of each stream.

    SourceError: two streams are the same contributor.
    """
    aliases = Counter(one.contributor.alias for one in streams)
    for alias, count in aliases.items():
        if count > 1:
            raise SourceError(f"{count} streams are of {alias}", hint="Give the files of one run.")
    by_pulse = all(one.pulse_ids.all() for one in streams)
    keys = [one.pulse_ids if by_pulse else one.timestamps for one in streams]
    known = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.uint64)
    events = np.zeros(len(known), EVENT)
    rows = []
    for place, (stream, key) in enumerate(zip(streams, keys, strict=True)):
        _, first = np.unique(key, return_index=True)
        if len(first) < len(key):
            log.warning(
                "%s has %d events twice: the first of each is taken",
                stream.contributor.alias,
                len(key) - len(first),
            )
        at = np.searchsorted(known, key[first])
        head = stream.head[first]
        fresh = at[events["present"][at] == 0]
        for name in ("pulse_id", "timestamp", "env"):
            events[name][fresh] = head[name][np.isin(at, fresh)]
        events["present"][at] |= np.uint64(1 << place)
        events["damage"][at] |= head["damage"]
        events["flags"][at] |= np.where(head["flags"] & Contributed.failed, EventFlag.failed, 0).astype(
            np.uint16
        )
        whole = np.zeros((len(known), stream.contributor.stride), np.uint8)
        whole[at] = stream.rows[first]
        rows.append(whole)
    events["number"] = np.arange(1, len(known) + 1)
    return events, rows


def verdicts(
    decider: Decider, events: npt.NDArray[Any], rows: Sequence[npt.NDArray[np.uint8]], prescale: int = 0
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield (events, RESULT) as they come, with what a teb adds.

    An event that a drp's script failed on persists; those with keepRaw, and every so many events (`prescale`, 0: none), are prescaled.
    """
    sent = done = 0
    while done < len(events):
        while sent < len(events) and (room := decider.room):
            some = slice(sent, sent + room)
            decider.submit(events[some], [one[some] for one in rows])
            sent = min(sent + room, len(events))
        select.select([decider.fd], [], [], _WAIT_S)
        results = decider.verdicts()
        part = events[done : done + len(results)]
        done += len(results)
        results["result"] |= np.where(part["flags"] & EventFlag.failed, PERSIST, 0).astype(np.uint32)
        prescaled = part["env"] & KEEP_RAW != 0
        if prescale:
            prescaled |= part["number"] % prescale == 0
        results["result"] |= np.where(prescaled, PRESCALE, 0).astype(np.uint32)
        yield part, results


def replay(
    paths: Sequence[str | Path],
    decider: Decider,
    *,
    platform: int = 0,
    instrument: str = "",
    prescale: int = 0,
    configs: Mapping[str, Any] | None = None,
    write: Path | None = None,
) -> Tally:
    """Have `decider`, not started yet, decide on all events of the files; write a list of the verdicts where `write` says.

    `configs`: typed JSON by `<detector>_<segment>`, for a script's get_config; `prescale`: as of a teb, the files being of one run. The decider
    is closed. Raises SourceError, ScriptError at a script's Configure, ConditionError.
    """
    tally = Tally()
    try:
        decider.start()
        found = (read_stream(one, number) for number, one in enumerate(streams_of(paths)))
        streams = [one for one in found if one is not None]
        if not streams:
            raise SourceError("there is nothing but smalldata", source=str(paths[0]) if paths else "")
        events, rows = build(streams)
        contributors = tuple(one.contributor for one in streams)
        connect = connect_info(contributors, platform=platform, instrument=instrument, configs=configs)
        decider.begin(contributors, connect)
        while not decider.ready:
            select.select([decider.fd], [], [], _WAIT_S)
            decider.verdicts()
        _write(write, tally, verdicts(decider, events, rows, prescale))
    finally:
        decider.close()
    return tally


def _write(
    path: Path | None, tally: Tally, found: Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> None:
    lines = ["# pulse_id timestamp result cause\n"]
    for events, results in found:
        tally.add(results, events)
        if path is not None:
            columns = (events["pulse_id"], events["timestamp"], results["result"], results["cause"])
            lines += [
                f"{pulse} {stamp} {word:#x} {Cause(cause).name}\n"
                for pulse, stamp, word, cause in zip(*(one.tolist() for one in columns), strict=True)
            ]
    if path is not None:
        path.write_text("".join(lines))

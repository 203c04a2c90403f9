"""What a script declared, as drp takes it from an answer, and which NamesIds that and drp's own Names
get.

The ids are a function of the Configure and of the declarations in their order, and of nothing else, so
that a run gets the same ones from one worker, from many, and offline. It knows neither files nor rings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from drp.core.errors import WorkerError
from drp.core.ledger import LEDGER_FIELDS
from xtc import Alg, Config, DataType, Field, Names, XtcError, chunkinfo_names, smdinfo_names
from xtc.codes import CHUNKINFO_INDEX, MAX_NODE, RUNINFO_INDEX, SMDINFO_INDEX
from xtc.names import DET_NAME

Role = Literal["trigger", "reduce"] | None
ROLES = (None, "trigger", "reduce")
MAX_DECLARED = 1024
MAX_FIELDS = 4096
LAST_DETECTOR_INDEX = 127
LAST_FREE_INDEX = 251
BOOKKEEPING = ("drpinfo", "drpledger", "drpcalib", "runinfo", "chunkinfo", "smdinfo")
MAX_BOOKKEEPING = 16  # what a Gather strips at most

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Declared:
    """Names without an id: `names` holds all but the id (0 there); `node_id` and `names_id` are what
    the script asked for.
    """

    names: Names
    role: Role = None
    node_id: int | None = None
    names_id: int | None = None

    def __str__(self) -> str:
        names = self.names
        fields = ", ".join(f"{one.name} {one.dtype.name} rank {one.rank}" for one in names.fields)
        ids = [
            f"{key} {value}"
            for key, value in (("node", self.node_id), ("names", self.names_id))
            if value is not None
        ]
        who = [
            names.detname,
            names.alg.name,
            ".".join(map(str, names.alg.version)),
            f"segment {names.segment}",
            *ids,
        ]
        return f"{' '.join(who)} ({fields})"

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Declared:
        """Read one object of an answer's `names`; raise WorkerError where it cannot be held by the format."""
        try:
            if len(item["fields"]) > MAX_FIELDS:
                raise ValueError(f"{len(item['fields'])} fields, at most {MAX_FIELDS}")
            fields = tuple(Field(str(name), DataType[kind], int(rank)) for name, kind, rank in item["fields"])
            major, minor, micro = item["version"]
            names = Names(
                0,
                str(item["dettype"]),
                str(item["det"]),
                str(item["detid"]),
                int(item["segment"]),
                Alg(str(item["alg"]), (int(major), int(minor), int(micro))),
                fields,
            )
            role = item["role"]
            node_id, names_id = _asked(item, "node_id", MAX_NODE), _asked(item, "names_id", 255)
        except (KeyError, TypeError, ValueError, OverflowError, XtcError) as error:
            raise WorkerError(f"a declaration cannot be read: {error!r}") from error
        if not DET_NAME.match(names.detname):
            raise WorkerError(
                "a declaration names no detector", expected="A-Z a-z 0-9 _", found=names.detname
            )
        if role not in ROLES:
            raise WorkerError("a declaration has an unknown role", expected=ROLES, found=role)
        if role == "reduce" and any(one.dtype > DataType.DOUBLE for one in names.fields):
            raise WorkerError("only numbers can be reduced", found=[one.dtype.name for one in names.fields])
        return cls(names, role, node_id, names_id)


def _asked(item: Mapping[str, Any], key: str, most: int) -> int | None:
    number = item[key]
    if number is None:
        return None
    asked: int = int(number)
    if not 0 <= asked <= most:
        raise ValueError(f"{key} {number!r} is not within 0..{most}")
    return asked


def _own(name: str, *fields: tuple[str, DataType, int], version: tuple[int, int, int] = (0, 0, 1)) -> Names:
    return Names(0, name, name, "", 0, Alg(name, version), tuple(Field(*one) for one in fields))


DRPINFO = _own(
    "drpinfo", ("pulse_id", DataType.UINT64, 0), ("cause", DataType.UINT8, 0), ("worker", DataType.UINT16, 0)
)
DRPLEDGER = _own("drpledger", *((name, DataType.UINT64, 0) for name in LEDGER_FIELDS))
DRPCALIB = _own("drpcalib", *((name, DataType.CHARSTR, 1) for name in ("digest", "source", "constants")))
RUNINFO = _own("runinfo", ("expt", DataType.CHARSTR, 1), ("runnum", DataType.UINT32, 0))
CHUNKINFO = chunkinfo_names(0)
SMDINFO = smdinfo_names(0)


class Ids:
    """NamesIds that are taken, and the next free one."""

    def __init__(self, config: Config) -> None:
        self.taken = set(config.names)
        last = next(reversed(config.names.values()), None)
        self.node = 0 if last is None else last.node

    def free(self, node: int) -> int:
        """Return the lowest id of `node` above those that detectors have; raise XtcError where the
        node is full.
        """
        used = {names_id & 0xFF for names_id in self.taken if names_id >> 8 == node}
        low = max((index for index in used if index <= LAST_DETECTOR_INDEX), default=0)
        above, below = range(low + 1, LAST_FREE_INDEX + 1), range(1, low)
        index: int | None = next((index for index in (*above, *below) if index not in used), None)
        if index is None:
            raise XtcError(
                "a node has no free NamesId",
                expected=f"1..{LAST_FREE_INDEX}",
                found=f"node {node}, all taken",
            )
        return node << 8 | index

    def take(self, node: int | None, index: int | None) -> int:
        """Take the id asked for, or a free one where it is taken or none was."""
        node = self.node if node is None else node
        names_id = self.free(node) if index is None else node << 8 | index
        if names_id in self.taken:
            names_id = self.free(node)
        self.taken.add(names_id)
        return names_id


def assign_names(config: Config, declared: Sequence[Declared]) -> list[Names]:
    """Return the Names of the declarations, in their order, with their ids.

    An id that was asked for and is free is given. Else the node is the one asked for, or that of the last
    Names of the Configure, and the index the lowest above the highest that a detector has there (below
    128). Raises XtcError where a node has no room.
    """
    ids = Ids(config)
    return [_named(one, ids) for one in declared]


def _named(one: Declared, ids: Ids) -> Names:
    names_id = ids.take(one.node_id, one.names_id)
    if one.names_id is not None and names_id & 0xFF != one.names_id:
        _log.info(
            "%s.%s: names_id %d is taken, it gets %d",
            one.names.detname,
            one.names.alg.name,
            one.names_id,
            names_id & 0xFF,
        )
    return replace(one.names, names_id=names_id)


@dataclass(frozen=True, slots=True)
class OwnNames:
    """Names that drp writes itself. `added` are those the Configure lacks, `dropped` ids of incoming
    Names that go, `stripped` the ids of incoming ShapesData that go. `drpcalib` is None where constants are
    none of this drp's business.
    """

    drpinfo: Names
    drpledger: Names
    runinfo: Names
    chunkinfo: Names
    smdinfo: Names
    drpcalib: Names | None
    added: tuple[Names, ...]
    dropped: tuple[int, ...]
    stripped: tuple[int, ...]


def assign_own(
    config: Config, script: Sequence[Names], *, constants: bool = False, segment: int = 0
) -> OwnNames:
    """Give drp's own Names their ids, after the script's; drpinfo first, and smdinfo in the smd file
    only. `segment` is that of those which only drp writes (drpinfo, drpledger, drpcalib).

    Names of an incoming file (a replay of what drp wrote) are used again where they have our fields, and
    replaced under the same id where they have others.
    `constants`: drpcalib is among ours; else an incoming one stays as it is. Raises XtcError where there is no room.
    """
    ids = Ids(config)
    ids.taken.update(one.names_id for one in script)
    found: dict[str, Names] = {}
    added: list[Names] = []
    dropped: list[int] = []
    wanted: tuple[tuple[Names, int | None], ...] = (
        (replace(DRPINFO, segment=segment), None),
        (replace(DRPLEDGER, segment=segment), None),
        (RUNINFO, RUNINFO_INDEX),
        (CHUNKINFO, CHUNKINFO_INDEX),
        *(((replace(DRPCALIB, segment=segment), None),) if constants else ()),
    )
    for own, index in wanted:
        name = own.detname
        before = _of(config, name)
        if before and _same_fields(before[0], own):
            found[name] = before[0]
            continue
        names_id = before[0].names_id if before else ids.take(None, index)
        dropped += [one.names_id for one in before]
        found[name] = replace(own, names_id=names_id)
        added.append(found[name])
    smd = [one.names_id for one in _of(config, "smdinfo")]
    ours = [one for name in BOOKKEEPING for one in _of(config, name)]
    if len(ours) > MAX_BOOKKEEPING:
        raise XtcError(
            "the Configure holds too many Names of the DAQ's own books",
            expected=f"at most {MAX_BOOKKEEPING} of {', '.join(BOOKKEEPING)}",
            found=len(ours),
        )
    ids.taken.difference_update(smd)
    written = ("drpinfo", "drpledger", "chunkinfo", *(("drpcalib",) if constants else ()))
    stripped = {one.names_id for name in written for one in _of(config, name)}
    return OwnNames(
        drpinfo=found["drpinfo"],
        drpledger=found["drpledger"],
        runinfo=found["runinfo"],
        chunkinfo=found["chunkinfo"],
        drpcalib=found.get("drpcalib"),
        smdinfo=replace(SMDINFO, names_id=ids.take(None, SMDINFO_INDEX)),
        added=tuple(added),
        dropped=tuple(sorted({*dropped, *smd})),
        stripped=tuple(sorted({*stripped, *smd})),
    )


def _of(config: Config, detname: str) -> list[Names]:
    return [one for one in config.names.values() if one.detname == detname]


def _same_fields(found: Names, own: Names) -> bool:
    """Whether a reader of `own` finds its fields: order and width of integers may differ only where
    LCLS's writers differ.
    """
    if own.detname in ("drpinfo", "drpledger", "drpcalib"):
        return replace(found, names_id=0) == own
    return _kinds(found.fields) == _kinds(own.fields)


def _kinds(fields: Iterable[Field]) -> set[tuple[str, bool, int]]:
    return {(one.name, one.dtype == DataType.CHARSTR, one.rank) for one in fields}

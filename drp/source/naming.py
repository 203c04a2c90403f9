"""The Configure of a source under the name that its drp has in a partition.

A simulator and a recorded file know nothing of partitions: each says segment 0, and its own name. Readers put the streams of one run together
by detector and segment, and a script finds its drp's by `-u`. So the Names of the detector are rewritten as the Configure comes in; ids,
fields and data stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from drp.core.errors import SourceError
from xtc import Dgram, DgramHeader, Names, TypeId, XtcError
from xtc.config import read_names
from xtc.from_json import json_to_names
from xtc.records import XTC_BYTES
from xtc.values import encode_shapes_data

NO_DETECTORS = frozenset(
    ("runinfo", "chunkinfo", "smdinfo", "drpinfo", "drpledger", "drpcalib", "epics", "epicsinfo", "scan")
)
EPICS = ("epics", "epicsinfo")
CONFIG_ALG = "config"
LAST_INDEX = 0xFF


@dataclass(frozen=True, slots=True)
class Named:
    """Detector, first segment and serial number ("": the source's own) that a Configure is to have.

    `number` is the drp's among all of the partition, and the segment of `epics`: each source may bring that, and readers take no segment from two
    streams.
    """

    detname: str
    segment: int
    detid: str = ""
    number: int = 0


def first_segment(configure: bytes, named: Named) -> int:
    """Return the lowest segment that `renamed` gives: the drp's number, times the segments that each drp of the detector has."""
    names = read_names(Dgram(configure))
    return named.segment * len(_segments(names, _detector(names, named.detname)))


def renamed(configure: bytes, named: Named, config_json: str = "") -> bytes:
    """Return a Configure whose detector has another name and other segments, with `config_json` (typed JSON) as its `config` in place of its own.

    Raises SourceError where it has several detectors and none of that name, XtcError where the JSON is none of that kind.
    """
    dgram = Dgram(configure)
    names = read_names(dgram)
    detector = _detector(names, named.detname)
    segments = _segments(names, detector)
    first = named.segment * len(segments)
    dropped = {one.names_id for one in names if config_json and _is_config(one, detector)}

    def rewritten(one: Names) -> Names:
        if one.detname in EPICS:
            return replace(one, segment=named.number)
        if one.detname != detector:
            return one
        segment = first + segments.index(one.segment)
        return replace(one, detname=named.detname, segment=segment, detid=named.detid or one.detid)

    parts = list(_edited(dgram, dropped, rewritten))
    if config_json:
        parts += _configuration(config_json, names, named, first)
    body = b"".join(parts)
    header = replace(DgramHeader.decode(configure), extent=XTC_BYTES + len(body))
    return header.encode() + body


def _edited(dgram: Dgram, dropped: set[int], rewritten: Callable[[Names], Names]) -> Iterable[bytes]:
    view = dgram.view
    for xtc in dgram.xtcs():
        if xtc.parent != -1:
            continue
        raw = bytes(view[xtc.offset : xtc.offset + xtc.extent])
        if xtc.type == TypeId.Names:
            one = Names.decode(raw)
            if one.names_id not in dropped:
                yield rewritten(one).encode()
        elif xtc.type != TypeId.ShapesData or xtc.src & 0x0FFFFFFF not in dropped:
            yield raw


def _configuration(text: str, names: list[Names], named: Named, segment: int) -> list[bytes]:
    used = {one.names_id for one in names}
    node = names[-1].names_id >> 8 if names else 0
    free = next((node << 8 | index for index in range(LAST_INDEX) if node << 8 | index not in used), None)
    if free is None:
        raise XtcError(
            "a node has no free NamesId", expected=f"below {LAST_INDEX}", found=f"node {node}, all taken"
        )
    config, values = json_to_names(text, names_id=free, segment=segment)
    config = replace(config, detname=named.detname, detid=named.detid or config.detid)
    return [config.encode(), encode_shapes_data(config, values)]


def _is_config(names: Names, detector: str) -> bool:
    return names.detname == detector and names.alg.name == CONFIG_ALG


def _detector(names: list[Names], wanted: str) -> str:
    found = sorted({one.detname for one in names} - NO_DETECTORS)
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    raise SourceError(
        f"it has no detector {wanted}, but {', '.join(found) or 'none at all'}",
        hint="Name the drp (-u) after the one that it is to have.",
    )


def _segments(names: list[Names], detector: str) -> list[int]:
    return sorted({one.segment for one in names if one.detname == detector})

"""A file as JSON and as lines of text, as psana's reader would see it.

Fields of one detector, segment and alg stand together, of a field that comes twice the last one; an enum
value brings its dictionary. The JSON is made piece by piece, so a file may be longer than memory. It knows
values, not how they are stored.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xtc._dgram import Dgram, Value
from xtc.chunk import find_config
from xtc.codes import DTYPES
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId
from xtc.names import Field, Names
from xtc.reader import Reader, open_regular
from xtc.records import time_text

FIRST_ELEMENTS = 6
_READ_BYTES = 1 << 20
Key = tuple[str, int, str]


def dump_json(path: str | Path, config: Config | None = None) -> Iterator[str]:
    """Yield the pieces of one JSON object that says all about a file.

    Where the bytes are at fault the object is finished, with the error in `error`, and then the XtcError is
    raised.
    """
    config, external = _config_for(path, config)
    with Reader(path, config=config) as reader:
        head = {"file": str(path), "filesize": reader.size, "sha256": file_digest(path)}
        yield f'{json.dumps(head)[:-1]}, "dgrams": ['
        configs = [] if config is None else [config_record(config, None)]
        services: Counter[str] = Counter()
        error: XtcError | None = None
        scan = reader.scan()
        try:
            for dgram in scan:
                if dgram.service == TransitionId.Configure and dgram.config is not None:
                    configs.append(config_record(dgram.config, dgram.index))
                record = json.dumps(dgram_record(dgram))
                yield f"{', ' if services else ''}{record}"
                services[dgram.service.name] += 1
        except XtcError as fault:
            error = fault
        rest = {
            "truncated_tail": None if scan.tail is None else scan.tail._asdict(),
            "external_config": external,
            "configs": configs,
            "ndgrams": services.total(),
            "services": dict(services),
        }
        if error is not None:
            rest["error"] = str(error)
        yield f"], {json.dumps(rest)[1:]}\n"
        if error is not None:
            raise error


def _config_for(path: str | Path, config: Config | None) -> tuple[Config | None, str | None]:
    """Return the Config to begin with, and the file it was found in where the file has none and none was
    given.
    """
    if config is not None or Reader(path).has_configure:
        return config, None
    return find_config(path) or (None, None)


def dump_text(path: str | Path, config: Config | None = None) -> Iterator[str]:
    """Yield lines for people: each Names, each dgram and each of its fields."""
    with Reader(path, config=_config_for(path, config)[0]) as reader:
        scan = reader.scan()
        for dgram in scan:
            yield from _names_lines(dgram)
            yield dgram_line(dgram)
            for record in dgram_record(dgram)["fields"]:
                shown = record["value"] if "value" in record else f"{record['dtype']}{record['shape']}"
                label = f" ({record['names'].get(str(shown), 'no label')})" if "names" in record else ""
                place = f"{record['det']}[{record['seg']}].{record['alg']}.{record['field']}"
                yield f"    {place} = {shown!r}{label}"
        if scan.tail is not None:
            yield tail_line(scan.tail.offset, scan.tail.have, scan.tail.need)


def list_lines(path: str | Path) -> Iterator[str]:
    """Yield one line per Names and one per dgram."""
    with Reader(path) as reader:
        scan = reader.scan()
        for dgram in scan:
            yield from _names_lines(dgram)
            ids = Counter(shapes.names_id for shapes in dgram.shapes_data())
            yield f"{dgram_line(dgram)} {' '.join(hex(one) for one in ids)}".rstrip()
        if scan.tail is not None:
            yield tail_line(scan.tail.offset, scan.tail.have, scan.tail.need)


def _names_lines(dgram: Dgram) -> Iterator[str]:
    if dgram.service == TransitionId.Configure and dgram.config is not None:
        yield from (names_line(names) for names in dgram.config.names.values())


def dgram_line(dgram: Dgram) -> str:
    """Return one line on a dgram's header."""
    damage = f" damage {int(dgram.damage):#06x}" if dgram.damage else ""
    time = time_text(dgram.timestamp)
    return f"{dgram.index:>8} {dgram.offset:#012x} {dgram.size:>10} {dgram.service.name:<12} {time}{damage}"


def names_line(names: Names) -> str:
    """Return one line on a Names."""
    version = ".".join(str(part) for part in names.alg.version)
    fields = ", ".join(f"{one.name} {one.dtype.name}{'[]' * one.rank}" for one in names.fields[:8])
    more = f" and {len(names.fields) - 8} more" if len(names.fields) > 8 else ""
    return (
        f"   Names {names.names_id:#x} {names.detname}[{names.segment}] ({names.dettype}) "
        f"{names.alg.name} {version}: {fields}{more}"
    )


def tail_line(offset: int, have: int, need: int) -> str:
    """Return one line on a cut-off end."""
    return f"the last dgram, at {offset:#x}, is cut off: {have} of {need} bytes"


def dgram_record(dgram: Dgram) -> dict[str, Any]:
    """Return all about one dgram, its fields sorted by detector, segment, alg and name."""
    fields: dict[tuple[str, int, str, str], dict[str, Any]] = {}
    damage: dict[Key, int] = {}
    for shapes in dgram.shapes_data():
        names = shapes.names
        key = (names.detname, names.segment, names.alg.name)
        damage[key] = int(shapes.damage)
        values = [
            Value(names, field, value, shapes.damage)
            for field, value in zip(names.fields, shapes.values(), strict=True)
        ]
        labels = enum_labels(values)
        for one in values:
            if one.field.dtype != DataType.ENUMDICT:
                fields[(*key, one.field.label)] = field_record(one, labels)
    return {
        "index": dgram.index,
        "offset": dgram.offset,
        "size": dgram.size,
        "timestamp": dgram.timestamp,
        "sec": dgram.timestamp >> 32,
        "nsec": dgram.timestamp & 0xFFFFFFFF,
        "service": int(dgram.service),
        "service_name": dgram.service.name,
        "env": dgram.env,
        "src": dgram.src,
        "contains": dgram.contains,
        "damage": int(dgram.damage),
        "extent": dgram.extent,
        "sha256": hashlib.sha256(dgram.view).hexdigest(),
        "fields": [fields[key] for key in sorted(fields)],
        "xtc_damage": [[*key, damage[key]] for key in sorted(damage)],
    }


def enum_labels(values: list[Value]) -> dict[str, dict[int, str]]:
    """Return the dictionary of each enum type of one ShapesData: number to label."""
    out: dict[str, dict[int, str]] = {}
    for one in values:
        if one.field.dtype == DataType.ENUMDICT and one.field.rank == 0:
            label, _, kind = one.field.name.partition(":")
            out.setdefault(kind, {})[one.value] = label
    return out


def field_record(one: Value, labels: dict[str, dict[int, str]]) -> dict[str, Any]:
    """Return one field's value: itself where it is short, a digest of its bytes in C order where it is an
    array.
    """
    record: dict[str, Any] = {
        "det": one.names.detname,
        "seg": one.names.segment,
        "alg": one.names.alg.name,
        "field": one.field.label,
    }
    value = one.value
    if isinstance(value, np.ndarray):
        record |= {"dtype": value.dtype.str, "shape": list(value.shape), "nbytes": value.nbytes}
        record["sha256"] = hashlib.sha256(value.tobytes()).hexdigest()
        if value.size <= FIRST_ELEMENTS:
            record["first"] = [
                item.hex() if isinstance(item, float) else item for item in value.reshape(-1).tolist()
            ]
    elif isinstance(value, str):
        record |= {"dtype": "str", "shape": [], "value": value}
    elif one.field.enum_type is not None:
        names = {str(number): label for number, label in labels.get(one.field.enum_type, {}).items()}
        record |= {"dtype": "enum", "shape": [], "value": value, "names": names}
    else:
        record |= {"dtype": scalar_dtype(one.field), "shape": [], "value": value}
        if isinstance(value, float):
            record |= {"value": value if math.isfinite(value) else None, "hex": value.hex()}
    record["type"] = one.field.dtype.name
    return record


def scalar_dtype(field: Field) -> str:
    """Return numpy's name of a field's element type."""
    return DTYPES[field.dtype].str


def config_record(config: Config, index: int | None) -> dict[str, Any]:
    """Return what a Config declares; `index` is that of its dgram, None for another file's.

    As in psana, Names of one detector, segment and alg are one, a later field of the same name replacing the
    earlier, and type and id of a detector are those of its segment's first Names.
    """
    merged: dict[Key, list[Names]] = {}
    first: dict[tuple[str, int], Names] = {}
    for names in config.names.values():
        merged.setdefault((names.detname, names.segment, names.alg.name), []).append(names)
        first.setdefault((names.detname, names.segment), names)
    records = [names_record(merged[key], first[key[:2]]) for key in sorted(merged)]
    return {"dgram_index": index, "names": records}


def names_record(parts: list[Names], first: Names) -> dict[str, Any]:
    """Return one detector segment's alg, its fields sorted by the name a reader shows."""
    names = parts[-1]
    fields = {one.label: one for part in parts for one in part.fields}
    return {
        "det": names.detname,
        "seg": names.segment,
        "alg": names.alg.name,
        "dettype": first.dettype,
        "detid": first.detid,
        "software": names.alg.name,
        "version": list(names.alg.version),
        "names_ids": [part.names_id for part in parts],
        "fields": [declared_field(fields[label]) for label in sorted(fields)],
    }


def declared_field(field: Field) -> dict[str, Any]:
    """Return what a Names says of a field."""
    return {
        "field": field.label,
        "name": field.name,
        "type": field.dtype.name,
        "rank": field.rank,
        "alg": field.alg.name,
        "version": list(field.alg.version),
    }


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal text."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()

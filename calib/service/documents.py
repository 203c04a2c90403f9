"""A store as LCLS's calibration database shows itself: databases, collections, documents, ids.

There is a database for each experiment (`cdb_xpp12345`) and for each detector (`cdb_jungfrau_000001`), both with a collection for each
detector by its short name, and `cdb_detnames`, which says the long name of each. It knows no HTTP.
"""

from __future__ import annotations

import re
import time
from typing import Any

from calib.store import Record, Store, StoredDetector

PREFIX = "cdb_"
DETNAMES = "cdb_detnames"
FOREVER = "end"
# What an id stands for, in its ninth and tenth digit; before that are the seconds of creation, as MongoDB has them, and after it our id.
OF_EXPERIMENT, OF_DETECTOR, PAYLOAD, NAME = 1, 2, 3, 4
_ID = re.compile(r"([0-9a-f]{8})([0-9a-f]{2})([0-9a-f]{14})\Z")

Document = dict[str, Any]


def object_id(created: float, kind: int, number: int) -> str:
    """Return 24 hexadecimal digits that tell when, what, and which."""
    return f"{int(created):08x}{kind:02x}{number:014x}"


def number_in(text: str, kind: int) -> int | None:
    """Return our id from one of ours of this kind, None where it is none."""
    found = _ID.match(text.lower())
    return int(found[3], 16) if found and int(found[2], 16) == kind else None


def databases(store: Store) -> list[str]:
    """Return the names of all databases."""
    records = store.history()
    experiments = {record.experiment for record in records} - {""}
    detectors = {record.detector.short_name for record in records}
    return [DETNAMES, *(f"{PREFIX}{name}" for name in sorted(experiments) + sorted(detectors))]


def collections(store: Store, database: str) -> list[str]:
    """Return the names of the collections of a database; there are none in one that is not there."""
    if database == DETNAMES:
        return sorted({one.dettype for one in store.detectors()})
    return sorted({record.detector.short_name for record, _ in _records(store, database)})


def documents(store: Store, database: str, collection: str) -> list[Document]:
    """Return all documents of a collection.

    Where clients take "the latest" of several of the same second, they take the last of an experiment's and the first of a detector's;
    they are in an order in which that is the newest.
    """
    if database == DETNAMES:
        newest_first = sorted(store.detectors(), key=lambda one: -one.number)
        return [_name(one) for one in newest_first if one.dettype == collection]
    found = [at for at in _records(store, database) if at[0].detector.short_name == collection]
    if any(kind == OF_DETECTOR for _, kind in found):
        found.reverse()
    return [_document(record, kind) for record, kind in found]


def payload_record(store: Store, database: str, data_id: str) -> Record | None:
    """Return the record whose payload an id names in a database, None where there is none."""
    number = number_in(data_id, PAYLOAD)
    for record, _ in _records(store, database):
        if record.id == number and object_id(record.created, PAYLOAD, record.id) == data_id.lower():
            return record
    return None


def document_number(document_id: str) -> int | None:
    """Return our id of the constant that a document's id names, None where it names none."""
    found = number_in(document_id, OF_EXPERIMENT)
    return number_in(document_id, OF_DETECTOR) if found is None else found


def _records(store: Store, database: str) -> list[tuple[Record, int]]:
    """Return the records of a database, oldest first, with what kind of id they have there."""
    name = database.removeprefix(PREFIX)
    if not database.startswith(PREFIX) or not name:
        return []
    own = store.history(experiment=name)
    if own:
        return [(record, OF_EXPERIMENT) for record in own]
    dettype, _, number = name.rpartition("_")
    if not dettype or not number.isdecimal():
        return []
    return [
        (record, OF_DETECTOR) for record in store.history(name=dettype) if record.detector.short_name == name
    ]


def _document(record: Record, kind: int) -> Document:
    short = record.detector.short_name
    document: Document = {
        "_id": object_id(record.created, kind, record.id),
        "experiment": record.experiment,
        "run": record.run,
        "run_end": FOREVER if record.run_end is None else record.run_end,
        "detector": short,
        "ctype": record.ctype,
        "dtype": "ndarray" if record.dtype else "str",
        "time_sec": int(record.created),
        "time_stamp": _stamp(record.created),
        "version": record.version,
        "comment": record.comment,
        "uid": record.username,
        "host": record.host,
        "cwd": "",
        "id_data": object_id(record.created, PAYLOAD, record.id),
        "id_doc_exp": object_id(record.created, OF_EXPERIMENT, record.id) if kind == OF_DETECTOR else 0,
        "id_data_exp": object_id(record.created, PAYLOAD, record.id) if kind == OF_DETECTOR else 0,
        "detname": record.detname,
        "longname": record.detector.long_name,
        "shortname": short,
        "dettype": record.detector.dettype,
        "run_orig": record.run,
        "tstamp_orig": _stamp(record.created),
        "iofname": "",
        "extpars": "{}",
        "serials": list(record.panels),
        "digest": record.digest,
        "data_type": "ndarray" if record.dtype else "str",
        "data_size": str(record.size_bytes),
    }
    if record.dtype:
        count = 1
        for length in record.shape:
            count *= length
        document |= {
            "data_dtype": record.dtype,
            "data_size": str(count),
            "data_ndim": str(len(record.shape)),
            "data_shape": str(record.shape),
        }
    return document


def _name(detector: StoredDetector) -> Document:
    return {
        "_id": object_id(0, NAME, detector.id),
        "long": detector.long_name,
        "short": detector.short_name,
        "seqnumber": detector.number,
        "serials": list(detector.serials),
        "uid": "",
        "host": "",
        "cwd": "",
        "time_sec": 0,
        "time_stamp": _stamp(0),
    }


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(seconds))

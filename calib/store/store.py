"""Store: put, find, list and remove constants in a database. It is a Source of constants and knows nothing of HTTP.

A put never replaces: it adds, and what is valid for a run is chosen when asked. Each call is one transaction, so that readers see a set of
constants whole or not at all. A payload is checked against its digest whenever it is read.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from calib.errors import ConstantsMissing, StoreError
from calib.model import CTYPES, Constant, DetectorId, digest_of, utf8
from calib.panels import choose, for_panels
from calib.store import payloads
from calib.store.engine import (
    check_tables,
    is_there,
    open_engine,
    parse_url,
    reading,
    shown,
    speaking,
    writing,
)
from calib.store.records import Record, StoredDetector, detector_key
from calib.store.tables import DETECTORS, DOCUMENTS

MAX_NAME = 64
MAX_SERIAL = 255
MAX_PANELS = 1024
MAX_COMMENT = 4096
MAX_VERSION = 128
MAX_RUN = 2**31 - 1
MAX_SECONDS = 2**32


def open_store(
    url: str, *, create: bool = False, now: Callable[[], float] = time.time, user: str | None = None
) -> Store:
    """Open the store at a path or a database's URL, making it first if `create` says so. Raises StoreError."""
    return Store(url, create=create, now=now, user=user)


class Store:
    """Constants in a database. It may be used from several threads; do not carry it through a fork."""

    def __init__(
        self,
        url: str,
        *,
        create: bool = False,
        now: Callable[[], float] = time.time,
        user: str | None = None,
    ) -> None:
        parsed = parse_url(url)
        self._where = shown(parsed)
        self._engine = open_engine(parsed, create=create)
        self._now = now
        self._user = user

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self._where

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, detector: DetectorId, constants: Sequence[Constant]) -> list[Record]:
        """Add constants of one detector, all or none, and return their records.

        A constant whose `created` is 0 is put as of now. Raises StoreError where a detector has no serials, a constant is of other
        panels, or the store is damaged so that what was put could not be read.
        """
        return self.put_all((detector, constant) for constant in constants)

    def put_all(self, items: Iterable[tuple[DetectorId, Constant]], *, again: bool = True) -> list[Record]:
        """Add constants of any detectors, all or none; without `again`, leave out those that are there, put at the same moment."""
        with self._speaking(), writing(self._engine) as connection:
            records = []
            for detector, constant in items:
                check_put(detector, constant)
                owner = _detector_row(connection, detector)
                if again or not _is_there(connection, owner, constant):
                    record = self._put_one(connection, owner, detector.name, constant)
                    # Read back before it is said that it is kept: a database may be damaged where nothing was read so far.
                    self._constant(connection, self._record(connection, record.id))
                    records.append(record)
            check_tables(connection, self._where)
            return records

    def _put_one(
        self, connection: Connection, owner: StoredDetector, detname: str, constant: Constant
    ) -> Record:
        data = payloads.bytes_of(constant.value)
        digest = digest_of(constant.value)
        payloads.keep(connection, digest, data)
        is_text = isinstance(constant.value, str)
        record = Record(
            id=0,
            detector=owner,
            detname=detname,
            experiment=constant.experiment,
            ctype=constant.ctype,
            run=constant.run,
            run_end=constant.run_end,
            version=constant.version,
            comment=constant.comment,
            created=constant.created or self._now(),
            username=self._user or _user_name(),
            host=socket.gethostname()[:255],
            dtype="" if isinstance(constant.value, str) else constant.value.dtype.str,
            shape=() if is_text else np.shape(constant.value),
            digest=digest,
            size_bytes=len(data),
        )
        columns = {name: getattr(record, name) for name in _PLAIN}
        done = connection.execute(
            insert(DOCUMENTS).values(detector_id=owner.id, shape=json.dumps(record.shape), **columns)
        )
        key = done.inserted_primary_key
        if key is None:
            raise StoreError("the database gave no id", where=self._where)
        return replace(record, id=int(key[0]))

    def find(
        self,
        detector: DetectorId,
        experiment: str | None,
        run: int,
        *,
        ctypes: Collection[str] | None = None,
    ) -> dict[str, Constant]:
        """Return the latest valid constants of a detector, as `Source.find` says."""
        with self._speaking(), reading(self._engine) as connection:
            chosen = _choose(connection, detector, experiment, run, ctypes)
            found = {ctype: self._constant(connection, record) for ctype, record in chosen.items()}
        return {
            ctype: for_panels(constant, detector.serials, self._where) for ctype, constant in found.items()
        }

    def choose(
        self,
        detector: DetectorId,
        experiment: str | None,
        run: int,
        *,
        ctypes: Collection[str] | None = None,
    ) -> dict[str, Record]:
        """Return the records of what `find` would give, without reading a payload."""
        with self._speaking(), reading(self._engine) as connection:
            return _choose(connection, detector, experiment, run, ctypes)

    def get(self, record_id: int) -> Constant:
        """Return one constant, whole, by its id. Raises StoreError where there is none, or its payload is not what was put."""
        with self._speaking(), reading(self._engine) as connection:
            return self._constant(connection, self._record(connection, record_id))

    def history(
        self,
        *,
        name: str | None = None,
        ctype: str | None = None,
        experiment: str | None = None,
    ) -> list[Record]:
        """Return the records of all that was put and not removed, in that order; `name` is a detname, a type or a short name."""
        query = _documents()
        if ctype is not None:
            query = query.where(DOCUMENTS.c.ctype == ctype)
        if experiment is not None:
            query = query.where(DOCUMENTS.c.experiment == experiment)
        with self._speaking(), reading(self._engine) as connection:
            records = [_record(row) for row in connection.execute(query)]
        return [
            record
            for record in records
            if name is None or name in (record.detname, record.detector.dettype, record.detector.short_name)
        ]

    def detectors(self) -> list[StoredDetector]:
        """Return every detector that constants were ever put for, in the order of their ids."""
        with self._speaking(), reading(self._engine) as connection:
            rows = connection.execute(select(DETECTORS).order_by(DETECTORS.c.id))
            return [_detector(row) for row in rows]

    def record(self, record_id: int) -> Record:
        """Return one record by its id. Raises StoreError where there is none."""
        with self._speaking(), reading(self._engine) as connection:
            return self._record(connection, record_id)

    def payload(self, record_id: int) -> Iterator[bytes]:
        """Yield the bytes of a constant in parts, as they were put: array in C order, or text in UTF-8.

        Raises StoreError where there is none; at the end where what was read is not what was put.
        """
        record = self.record(record_id)
        yield from payloads.check_parts(record, self._parts(record), self._where)

    def _parts(self, record: Record) -> Iterator[bytes]:
        for part in range(payloads.part_count(record)):
            with self._speaking(), reading(self._engine) as connection:
                data = payloads.load_part(connection, record, part, self._where)
            yield data

    def remove(self, record_ids: Sequence[int]) -> list[Record]:
        """Remove constants by their ids, all or none, and return what they were; their payloads go with the last that names them."""
        with self._speaking(), writing(self._engine) as connection:
            records = [self._record(connection, one) for one in dict.fromkeys(record_ids)]
            for record in records:
                connection.execute(delete(DOCUMENTS).where(DOCUMENTS.c.id == record.id))
                payloads.drop_unused(connection, record.digest)
            return records

    def _record(self, connection: Connection, record_id: int) -> Record:
        row = connection.execute(_documents().where(DOCUMENTS.c.id == record_id)).first()
        if row is None:
            raise StoreError(
                f"there is no constant with id {record_id}",
                where=self._where,
                hint="calib history shows what there is.",
            )
        return _record(row)

    def _constant(self, connection: Connection, record: Record) -> Constant:
        value = payloads.load(connection, record, self._where)
        kind = CTYPES.get(record.ctype)
        serials = record.panels if kind is not None and kind.per_pixel else ()
        return Constant(
            record.ctype,
            value,
            serials,
            record.experiment,
            record.run,
            record.run_end,
            record.version,
            record.comment,
            record.created,
            record.digest,
            record.digest,
            str(record.id),
        )

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        with speaking(self._where):
            yield


# The columns of a document that are a field of Record under the same name and in the same form.
_PLAIN = (
    "detname",
    "experiment",
    "ctype",
    "run",
    "run_end",
    "version",
    "comment",
    "created",
    "username",
    "host",
    "dtype",
    "digest",
    "size_bytes",
)


def has_store(url: str) -> bool:
    """Say whether there is a store, or something else, where `open_store` with `create` would make one. Raises StoreError."""
    return is_there(parse_url(url))


def check_put(detector: DetectorId, constant: Constant) -> None:
    """Raise StoreError for what no store keeps: no serials, names and numbers beyond its limits, constants of other panels."""
    if not detector.serials:
        raise StoreError(
            f"{detector.name}: constants cannot be put for a detector without serial numbers",
            hint="Say which panels they are of: --serials A,B,... or --from-config FILE.",
        )
    if constant.serials and constant.serials != detector.serials:
        raise StoreError(f"{constant.ctype} is of panels {constant.serials}, not of those of {detector}")
    names = {"a detector's name": detector.name, "a detector's type": detector.dettype}
    if constant.experiment:
        names["an experiment's name"] = constant.experiment
    for what, name in names.items():
        if not (
            name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= MAX_NAME
        ):
            raise StoreError(
                f"{name[:80]!r} cannot be {what}", hint=f"Letters, digits, _ and - only, at most {MAX_NAME}."
            )
    if constant.experiment == "detnames" or re.fullmatch(r".*_\d{6}", constant.experiment):
        raise StoreError(
            f"{constant.experiment!r} cannot be the name of an experiment: a detector may have it"
        )
    if len(detector.serials) > MAX_PANELS or any(
        len(serial) > MAX_SERIAL or not serial.isprintable() for serial in detector.serials
    ):
        raise StoreError(
            f"the serial numbers of {detector.name} cannot be kept", hint="Printable, 255 characters."
        )
    if constant.run > MAX_RUN or (constant.run_end or 0) > MAX_RUN or not 0 <= constant.created < MAX_SECONDS:
        raise StoreError(f"{constant.ctype}: run or time of creation is beyond what a store keeps")
    if b"\0" in utf8(constant.comment + constant.version, "the comment"):
        raise StoreError("a comment cannot hold NUL")
    if len(constant.comment) > MAX_COMMENT or len(constant.version) > MAX_VERSION:
        raise StoreError(
            f"comment or version is too long (limits: {MAX_COMMENT} and {MAX_VERSION} characters)"
        )


def _detector_row(connection: Connection, detector: DetectorId) -> StoredDetector:
    key = detector_key(detector.dettype, detector.serials)
    row = connection.execute(select(DETECTORS).where(DETECTORS.c.key == key)).first()
    if row is None:
        highest = select(func.max(DETECTORS.c.number)).where(DETECTORS.c.dettype == detector.dettype)
        connection.execute(
            insert(DETECTORS).values(
                dettype=detector.dettype,
                number=(connection.execute(highest).scalar() or 0) + 1,
                serials=json.dumps(detector.serials),
                key=key,
            )
        )
        row = connection.execute(select(DETECTORS).where(DETECTORS.c.key == key)).one()
    return _detector(row)


def _is_there(connection: Connection, owner: StoredDetector, constant: Constant) -> bool:
    same = {
        name: getattr(constant, name)
        for name in ("ctype", "experiment", "run", "run_end", "created", "digest")
    }
    query = select(DOCUMENTS.c.id).where(DOCUMENTS.c.detector_id == owner.id)
    for name, value in same.items():
        query = query.where(DOCUMENTS.c[name] == value)
    return connection.execute(query.limit(1)).first() is not None


def _choose(
    connection: Connection,
    detector: DetectorId,
    experiment: str | None,
    run: int,
    ctypes: Collection[str] | None,
) -> dict[str, Record]:
    query = _documents()
    if detector.dettype:
        query = query.where(DETECTORS.c.dettype == detector.dettype)
    records = [_record(row) for row in connection.execute(query)]
    if not detector.serials:
        records = [one for one in records if detector.name in (one.detname, one.detector.short_name)]
        owners = {one.detector for one in records}
        if len(owners) > 1:
            names = ", ".join(sorted(f"{one.short_name} ({len(one.serials)} panels)" for one in owners))
            raise ConstantsMissing(
                f"{detector.name} is the name of several detectors",
                hint=f"Say which by its short name or its serials: {names}.",
            )
    return choose(records, detector, experiment, run, ctypes=ctypes)


def _documents() -> Select[Any]:
    return (
        select(DOCUMENTS, DETECTORS.c.dettype.label("dettype"), DETECTORS.c.number, DETECTORS.c.serials)
        .join(DETECTORS, DETECTORS.c.id == DOCUMENTS.c.detector_id)
        .order_by(DOCUMENTS.c.created, DOCUMENTS.c.id)
    )


def _detector(row: Row[Any]) -> StoredDetector:
    return StoredDetector(row.id, row.dettype, row.number, tuple(json.loads(row.serials)))


def _record(row: Row[Any]) -> Record:
    owner = StoredDetector(row.detector_id, row.dettype, row.number, tuple(json.loads(row.serials)))
    plain = {name: getattr(row, name) for name in _PLAIN}
    return Record(id=row.id, detector=owner, shape=tuple(json.loads(row.shape)), **plain)


def _user_name() -> str:
    try:
        return getpass.getuser()[:MAX_NAME]
    except (KeyError, OSError):
        return "unknown"

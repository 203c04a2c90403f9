"""The bytes of constants in a store: kept once under their digest, in parts, checked when they are read.

It works within the transaction of whoever calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from calib.errors import StoreError
from calib.model import MAX_VALUE_BYTES, Value, digest_of
from calib.store.records import Record
from calib.store.tables import DOCUMENTS, PART_BYTES, PARTS, PAYLOADS


def bytes_of(value: Value) -> memoryview:
    """Return the bytes to keep: of an array in C order, not copied, or of text in UTF-8."""
    if isinstance(value, str):
        return memoryview(value.encode())
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def keep(connection: Connection, digest: str, data: memoryview) -> None:
    """Write a payload, unless the store has it whole; what is there of a damaged one is replaced."""
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    if connection.execute(select(PAYLOADS.c.digest).where(PAYLOADS.c.digest == digest)).first():
        if _has(connection, digest, parts):
            return
        connection.execute(delete(PARTS).where(PARTS.c.digest == digest))
    else:
        connection.execute(insert(PAYLOADS).values(digest=digest, size_bytes=len(data)))
    for part, content in enumerate(parts):
        connection.execute(insert(PARTS).values(digest=digest, part=part, data=content))


def _has(connection: Connection, digest: str, parts: list[memoryview]) -> bool:
    query = select(PARTS.c.data).where(PARTS.c.digest == digest)
    return all(
        connection.execute(query.where(PARTS.c.part == part)).scalar() == content
        for part, content in enumerate(parts)
    )


def drop_unused(connection: Connection, digest: str) -> None:
    """Remove a payload that no document names."""
    used = select(DOCUMENTS.c.id).where(DOCUMENTS.c.digest == digest).limit(1)
    if connection.execute(used).first() is None:
        connection.execute(delete(PARTS).where(PARTS.c.digest == digest))
        connection.execute(delete(PAYLOADS).where(PAYLOADS.c.digest == digest))


def load(connection: Connection, record: Record, where: str) -> Value:
    """Return the value of a document, an array read-only; raise StoreError where it is not what was put."""
    if not 0 <= record.size_bytes <= MAX_VALUE_BYTES:
        raise damaged(record, f"its payload of {record.size_bytes} bytes is no constant's", where)
    buffer = np.empty(record.size_bytes, np.uint8)
    at = 0
    for part in range(part_count(record)):
        data = load_part(connection, record, part, where)
        if at + len(data) > len(buffer):
            raise damaged(record, "its payload is longer than it says", where)
        buffer[at : at + len(data)] = np.frombuffer(data, np.uint8)
        at += len(data)
    if at != len(buffer):
        raise damaged(record, f"{len(buffer) - at} bytes of its payload are missing", where)
    try:
        value = _shaped(buffer, record)
    except (TypeError, ValueError) as error:
        raise damaged(record, f"its payload is not {record.dtype or 'text'} {record.shape}", where) from error
    if digest_of(value) != record.digest:
        raise damaged(record, "its payload has changed since it was put", where)
    return value


def load_part(connection: Connection, record: Record, part: int, where: str) -> bytes:
    """Return one part of a payload; raise StoreError where it is gone."""
    if connection.dialect.name == "postgresql":
        data = _binary_part(connection, record, part, where)
    else:
        query = select(PARTS.c.data).where(PARTS.c.digest == record.digest, PARTS.c.part == part)
        data = connection.execute(query).scalar()
    if data is None:
        raise damaged(record, f"part {part} of its payload is gone", where)
    return data


def _binary_part(connection: Connection, record: Record, part: int, where: str) -> bytes | None:
    """Ask PostgreSQL's driver itself: SQLAlchemy would have the bytes sent as hexadecimal text."""
    driver: Any = connection.connection.driver_connection
    dialect: Any = connection.dialect
    query = f"SELECT data FROM {PARTS.name} WHERE digest = %s AND part = %s"  # noqa: S608 - the name is ours
    try:
        with driver.cursor(binary=True) as cursor:
            row = cursor.execute(query, (record.digest, part)).fetchone()
    except dialect.loaded_dbapi.Error as error:
        raise StoreError(f"{record}: its payload cannot be read: {error}", where=where) from error
    return None if row is None else row[0]


def check_parts(record: Record, parts: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Yield parts as they come, and raise StoreError at the end where together they are not what was put."""
    found = hashlib.sha256(f"{record.dtype}{list(record.shape)}\n".encode() if record.dtype else b"str\n")
    for data in parts:
        found.update(data)
        yield data
    if found.hexdigest() != record.digest:
        raise damaged(record, "its payload has changed since it was put", where)


def part_count(record: Record) -> int:
    """Return in how many parts a payload is kept."""
    return -(-record.size_bytes // PART_BYTES)


def damaged(record: Record, what: str, where: str) -> StoreError:
    """Return the error for a payload that cannot be used."""
    return StoreError(
        f"{record}: {what}",
        where=where,
        hint=f"Put it again, and take this one out with: calib rm {record.id} --yes",
    )


def _shaped(buffer: NDArray[np.uint8], record: Record) -> Value:
    if not record.dtype:
        return buffer.tobytes().decode()
    value = buffer.view(np.dtype(record.dtype)).reshape(record.shape)
    value.flags.writeable = False
    return value

"""The tables of a store, the same in SQLite and PostgreSQL: detectors, documents, payloads.

Documents say what constants there are; payloads hold their bytes, in parts, each kept once however many documents name it. A query reads
documents alone, which keeps it fast whatever the payloads weigh.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

FORMAT = 1
PART_BYTES = 16 << 20

METADATA = MetaData()

STORES = Table("calib_store", METADATA, Column("format", Integer, primary_key=True, autoincrement=False))

DETECTORS = Table(
    "calib_detectors",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("dettype", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("serials", Text, nullable=False),  # a JSON list of strings, in the order of the segment axis
    Column("key", String(64), nullable=False, unique=True),  # SHA-256 of dettype and serials
    UniqueConstraint("dettype", "number"),
)

PAYLOADS = Table(
    "calib_payloads",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("size_bytes", Integer, nullable=False),
)

PARTS = Table(
    "calib_payload_parts",
    METADATA,
    Column("digest", ForeignKey(PAYLOADS.c.digest), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

# PostgreSQL would try to compress what is noise.
_PLAIN_BYTES = DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE calib_payload_parts ALTER COLUMN data SET STORAGE EXTERNAL"
)
event.listen(PARTS, "after_create", _PLAIN_BYTES.execute_if(dialect="postgresql"))

DOCUMENTS = Table(
    "calib_documents",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("detector_id", ForeignKey(DETECTORS.c.id), nullable=False),
    Column("detname", String(64), nullable=False),
    Column("experiment", String(64), nullable=False),  # empty: of the detector, whatever the experiment
    Column("ctype", String(32), nullable=False),
    Column("run", Integer, nullable=False),
    Column("run_end", Integer),  # null: for ever
    Column("version", String(128), nullable=False),
    Column("comment", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("username", String(64), nullable=False),
    Column("host", String(255), nullable=False),
    Column("dtype", String(8), nullable=False),  # as numpy writes it, "<f4"; empty: text in UTF-8
    Column("shape", String(255), nullable=False),  # a JSON list of integers
    Column("digest", ForeignKey(PAYLOADS.c.digest), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Index("calib_documents_of", "detector_id", "experiment", "ctype"),
    sqlite_autoincrement=True,  # the id of what was removed is never given again
)

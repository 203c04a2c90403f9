"""Opening a database: a SQLite file of this user, or a PostgreSQL server. What is in the tables is not known here.

One writer at a time, in both: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by an advisory lock. Readers never wait. SQLite keeps a
write-ahead log beside the file, which must therefore lie on a local disk; a process that dies while it writes leaves nothing that is
read later. A file that this user cannot write, or in a folder that this user cannot, is read as it lies while there is no log
beside it, and what was read is given up if it has changed meanwhile.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from calib.errors import StoreError
from calib.store.tables import DETECTORS, DOCUMENTS, FORMAT, METADATA, PAYLOADS, STORES

LOG = logging.getLogger("calib.store")
BUSY_S = 30
POSTGRES = "postgresql+psycopg"
PAGE_BYTES = 16384
_WRITER_LOCK = 0x63616C6962  # any number that others do not lock: "calib"
_ADDRESSES = (
    "Give a file, sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE, or http://HOST:PORT of a service."
)
_LIKE_A_KIND = re.compile(r"(https?|sqlite|postgres(?:ql)?(?:\+\w+)?)(?::|//)")
_MAKE_ONE = "calib put makes a store where there is none."
_DAMAGED = "Take a copy of the store, or import an export of it into a new one."
_CHECKED = (STORES, DETECTORS, PAYLOADS, DOCUMENTS)

Lies = tuple[int, int, int]
"""What changes when a file is written: inode, bytes, time."""


def default_url() -> str:
    """Return where constants are kept unless told: $DRP_CALIB, else a file of this user."""
    given = os.environ.get("DRP_CALIB")
    if given:
        return given
    data = os.environ.get("XDG_DATA_HOME")
    return str((Path(data) if data else Path.home() / ".local" / "share") / "drp" / "calib.sqlite")


def parse_url(url: str) -> URL:
    """Return the address of a database; a plain path is that of a SQLite file. Raises StoreError, which shows no more of it than its kind."""
    if "://" not in url:
        misspelt = _LIKE_A_KIND.match(url)
        if misspelt and not Path(url).exists():
            raise StoreError(
                f"this is no address: {misspelt[1]} is followed by ://",
                hint=f"{_ADDRESSES} Write ./{misspelt[0]}... for a file of that name.",
            )
        return URL.create("sqlite", database=str(Path(url).expanduser().absolute()))
    kind = url.partition("://")[0]
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StoreError("this is no address of a store", where=f"{kind}://...", hint=_ADDRESSES) from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite" and parsed.database:
        return URL.create("sqlite", database=str(Path(parsed.database).absolute()))
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername=POSTGRES)
    what = (
        "an address of SQLite names a file" if kind == "sqlite" else f"constants cannot be kept in {kind!r}"
    )
    raise StoreError(what, hint=_ADDRESSES)


def open_engine(url: URL, *, create: bool) -> Engine:
    """Connect to a store, and make it first where `create` says so and there is none. Raises StoreError."""
    where = shown(url)
    if url.drivername == "sqlite":
        path = Path(url.database or "")
        with speaking(where):
            if not path.exists():
                if not create:
                    raise StoreError("there is no store of constants", where=where, hint=_MAKE_ONE)
                _make_file(path)
            _check_file(path, where)
        engine = _sqlite(path)
    else:
        engine = _postgres(url)
    try:
        with speaking(where):
            _check_format(engine, where, create=create and url.drivername != "sqlite")
    except BaseException:
        engine.dispose()
        raise
    return engine


def is_there(url: URL) -> bool:
    """Say whether there is something at an address; of a server it is taken for granted."""
    return url.drivername != "sqlite" or Path(url.database or "").exists()


def shown(url: URL) -> str:
    """Return an address as messages show it: a path, or a URL without its password."""
    return str(url.database) if url.drivername == "sqlite" else url.render_as_string(hide_password=True)


@contextmanager
def speaking(where: str) -> Iterator[None]:
    """Turn what a database or the system says into a StoreError that names the store and what to do."""
    try:
        yield
    except NoSuchModuleError as error:
        raise StoreError(f"no driver for it: {error}", where=where) from None
    except SQLAlchemyError as error:
        raise StoreError(_reason(error), where=where, hint=_hint(error)) from error
    except OSError as error:
        raise StoreError(error.strerror or str(error), where=where) from error


def _reason(error: SQLAlchemyError) -> str:
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _hint(error: SQLAlchemyError) -> str:
    said = _reason(error).lower()
    hints = {
        (
            "locked",
            "lock timeout",
        ): f"Another process was writing for over {BUSY_S} s; try again when it is done.",
        ("not a database", "malformed"): f"The file is damaged or something else. {_DAMAGED}",
        (
            "readonly",
            "read-only",
        ): "To write, and to read what another process left in the log beside it, file and folder must be "
        "writable: ask their owner, or for a calib serve of the store.",
        ("unable to open",): "Can this user read the file and what lies beside it?",
        ("disk is full", "no space"): "Make room, then do it again: nothing of it was kept.",
    }
    for words, hint in hints.items():
        if any(one in said for one in words):
            return hint
    if isinstance(error, OperationalError | InterfaceError) and "connect" in said:
        return "Is the server there, and does it let this user in?"
    return "" if isinstance(error, DatabaseError) else "See the cause above."


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One view of the store, as it was when the block began; what others write meanwhile is not seen, or raises StoreError."""
    with engine.connect() as connection, connection.begin():
        path, lies = connection.info.get("lies", (None, None))
        try:
            yield connection
        finally:
            if lies is not None and _lies(path) != lies:
                raise StoreError(
                    "it was written to while it was read as it lies", where=str(path), hint="Do it again."
                )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Be the only writer; all that the block does is kept if it ends well, and nothing otherwise."""
    with engine.connect().execution_options(calib_writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITER_LOCK})
        yield connection


def check_tables(connection: Connection, where: str) -> None:
    """Raise StoreError where SQLite finds damage in what says which constants there are; their payloads are not gone through."""
    if connection.dialect.name != "sqlite":
        return
    for table in _CHECKED:
        found = connection.exec_driver_sql(f"PRAGMA quick_check({table.name})").scalars().first()
        if found != "ok":
            what = str(found).strip().splitlines()[-1]
            raise StoreError(f"the store is damaged: {table.name}: {what}", where=where, hint=_DAMAGED)


def _check_file(path: Path, where: str) -> None:
    kept = path.stat()
    if not stat.S_ISREG(kept.st_mode):
        raise StoreError("this is no file", where=where)
    if kept.st_size == 0:
        raise StoreError(
            "this file is empty, so it is no store of constants",
            where=where,
            hint="Put a copy of the store there; or remove it, then calib put makes a new one.",
        )
    if not os.access(path, os.R_OK):
        raise StoreError(
            "this user may not read it",
            where=where,
            hint="Ask its owner to allow it (chmod a+r), or for a calib serve of the store.",
        )
    if _lies(path) is not None:
        LOG.info("%s: this user cannot write it, or its folder; it is read as it lies", where)


def _lies(path: Path) -> Lies | None:
    """Return what a file is that can only be read as it lies: this user cannot write, and nobody has a log beside it. None: by the log."""
    real = path.resolve()
    if os.access(real, os.W_OK) and os.access(real.parent, os.W_OK):
        return None
    if Path(f"{real}-wal").exists():
        return None
    kept = real.stat()
    return kept.st_ino, kept.st_size, kept.st_mtime_ns


def _sqlite(path: Path) -> Engine:
    # A connection for each transaction: none is inherited by a fork, and opening one takes well under a millisecond.
    engine = create_engine(
        URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": BUSY_S}
    )

    def connect(_dialect: Any, record: Any, words: list[Any], options: dict[str, Any]) -> None:
        lies = _lies(path)
        record.info["lies"] = path, lies
        if lies is not None:
            words[0] = f"file:{quote(str(path))}?immutable=1"
            options["uri"] = True

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is said below, and not when the module thinks so
    for pragma in ("foreign_keys=ON", "trusted_schema=OFF", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("calib_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_file(path: Path) -> None:
    """Make an empty store that appears under its name all at once, for this user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".calib-", dir=path.parent)  # mode 0600
    os.close(descriptor)
    draft = Path(name)
    try:
        engine = _sqlite(draft)
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            driver.execute(f"PRAGMA page_size={PAGE_BYTES}")  # type: ignore[union-attr]
            driver.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
        with writing(engine) as connection:
            _make_tables(connection)
        engine.dispose()
        with suppress(FileExistsError):  # another process was first, and its store is as good
            os.link(draft, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _make_tables(connection: Connection) -> None:
    METADATA.create_all(connection)
    connection.execute(insert(STORES).values(format=FORMAT))


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            pool_size=2,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 10,
                "options": f"-c lock_timeout={BUSY_S}s -c statement_timeout=300s",
            },
        )
    except ImportError:
        raise StoreError(
            "PostgreSQL needs psycopg, which is not installed",
            where=shown(url),
            hint="pip install 'drp[postgres]'",
        ) from None


def _check_format(engine: Engine, where: str, *, create: bool) -> None:
    if create:
        with writing(engine) as connection:
            if not inspect(connection).has_table(STORES.name):
                _make_tables(connection)
    with reading(engine) as connection:
        if not inspect(connection).has_table(STORES.name):
            other = "Name another file: calib put makes a store where there is no file."
            raise StoreError(
                "this is no store of constants",
                where=where,
                hint=other if engine.dialect.name == "sqlite" else _MAKE_ONE,
            )
        found = connection.execute(select(STORES.c.format)).scalar_one_or_none()
    if found != FORMAT:
        raise StoreError(
            f"the store has format {found}, this calib knows {FORMAT}",
            where=where,
            hint="Use the calib that wrote it to export, and import the export here.",
        )

"""The store of configurations: one SQLite file, hutch / alias / device, in which nothing is ever lost.

A put, a removal, a copy and a rollback each add a row; the newest row of a path is what is there. Each call is one transaction. The file is this
user's (mode 0600) and lies on a local disk. It knows nothing of what is in a configuration beyond that it is typed JSON.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    NullPool,
    Select,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from drp.configdb.errors import ConfigStoreError
from drp.configdb.typed import REFERENCE, check_typed, merge, normalise

FORMAT = 1
BUSY_S = 30
MAX_COMMENT = 1000
ALIASES = ("BEAM", "NOBEAM", "CALIB")
"""What LCLS has; others may be made."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

METADATA = MetaData()
FORMATS = Table("configdb_store", METADATA, Column("format", Integer, primary_key=True, autoincrement=False))
ROWS = Table(
    "configdb_rows",
    METADATA,
    Column("key", Integer, primary_key=True),
    Column("hutch", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("content", Text),  # typed JSON; null: removed
    Column("created", Double, nullable=False),
    Column("username", String(64), nullable=False),
    Column("comment", Text, nullable=False),
    Index("configdb_of", "hutch", "alias", "device", "key"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class ConfigPath:
    """Where a configuration is: hutch / alias / device. Shorter ones name everything below."""

    hutch: str = ""
    alias: str = ""
    device: str = ""

    @classmethod
    def parse(cls, text: str, *, whole: bool = False) -> Self:
        """Return the path in `hutch/alias/device`; ConfigStoreError for one that cannot be, or is not `whole`."""
        parts = [part for part in text.strip("/").split("/") if part]
        if len(parts) > 3 or not all(_NAME.fullmatch(part) for part in parts) or (whole and len(parts) < 3):
            raise ConfigStoreError(
                "is no path of a configuration",
                place=text,
                hint="Write HUTCH/ALIAS/DEVICE, such as tst/BEAM/epixhr_0.",
            )
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.hutch, self.alias, self.device) if part)


@dataclass(frozen=True, slots=True)
class Version:
    """One row: what a path had from `created` on (seconds since 1970). `content` is None where it was removed."""

    key: int
    path: ConfigPath
    content: dict[str, Any] | None
    created: float
    username: str
    comment: str


def default_path() -> Path:
    """Return where configurations are kept unless told: $DRP_CONFIGDB, else a file of this user."""
    given = os.environ.get("DRP_CONFIGDB")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "drp" / "configdb.sqlite"


class ConfigStore:
    """Configurations in a file. Do not carry it through a fork."""

    def __init__(self, path: Path, *, create: bool = False, now: Callable[[], float] = time.time) -> None:
        """Open the store, making it first if `create` says so and there is none. Raises ConfigStoreError."""
        self._path = path
        self._now = now
        with self._speaking():
            if not path.exists():
                if not create:
                    raise ConfigStoreError(
                        "there is no store of configurations", place=str(path), hint="configdb put makes one."
                    )
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            elif not stat.S_ISREG(path.stat().st_mode):
                raise ConfigStoreError("this is no file", place=str(path))
            self._engine = create_engine(
                URL.create("sqlite", database=str(path.absolute())),
                poolclass=NullPool,
                connect_args={"timeout": BUSY_S},
            )
            event.listen(self._engine, "connect", _prepare)
            event.listen(self._engine, "begin", _begin)
            with self._transaction(writes=create) as connection:
                self._check(connection, create=create)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def below(self, path: ConfigPath) -> list[Version]:
        """Return what there is at and below a path, each at its newest, in the order of their paths."""
        with self._speaking(), self._transaction() as connection:
            newest = select(func.max(ROWS.c.key)).group_by(ROWS.c.hutch, ROWS.c.alias, ROWS.c.device)
            query = _below(path).where(ROWS.c.key.in_(newest), ROWS.c.content.is_not(None))
            return [
                _version(row)
                for row in connection.execute(query.order_by(ROWS.c.hutch, ROWS.c.alias, ROWS.c.device))
            ]

    def get(self, path: ConfigPath, key: int | None = None) -> dict[str, Any]:
        """Return the typed JSON of a path as it was put, at its newest or at a key of its history. Raises ConfigStoreError where there is none."""
        with self._speaking(), self._transaction() as connection:
            found = self._find(connection, path, key)
        if found is None or found.content is None:
            raise self._missing(path, key)
        return found.content

    def resolved(self, path: ConfigPath) -> dict[str, Any]:
        """Return the typed JSON of a path with what it inherits: `_cfgTypeRef` names the alias of the same device where the rest comes from."""
        with self._speaking(), self._transaction() as connection:
            found = self._find(connection, path, None)
            if found is None or found.content is None:
                raise self._missing(path, None)
            alias = found.content.get(REFERENCE)
            if alias is None:
                return found.content
            other = ConfigPath(path.hutch, str(alias), path.device)
            reference = None if other == path else self._find(connection, other, None)
        if reference is None or reference.content is None or REFERENCE in reference.content:
            what = (
                "itself"
                if other == path
                else f"{other}, which " + ("is not there" if reference is None else "refers to another")
            )
            raise ConfigStoreError(f"{REFERENCE} refers to {what}", place=str(path))
        try:
            return merge(found.content, reference.content)
        except ConfigStoreError as error:
            raise ConfigStoreError(error.what, place=str(path)) from None

    def of_device(self, path: ConfigPath) -> dict[str, Any] | None:
        """Return what a device gets at Configure, resolved; None where it has no configuration in this alias."""
        return self.resolved(path) if any(one.path == path for one in self.below(path)) else None

    def of_alias(self, hutch: str, alias: str) -> dict[str, dict[str, Any]]:
        """Return what all devices of an alias have, resolved: what control gives out at Configure."""
        return {one.path.device: self.resolved(one.path) for one in self.below(ConfigPath(hutch, alias))}

    def put(self, path: ConfigPath, content: Mapping[str, Any], *, comment: str = "") -> int:
        """Add a configuration, and return its key. Raises ConfigStoreError where it is no typed JSON."""
        plain = normalise(content)
        check_typed(plain, str(path))
        with self._speaking(), self._transaction(writes=True) as connection:
            return self._add(connection, path, json.dumps(plain), comment)

    def remove(self, path: ConfigPath, *, comment: str = "") -> list[ConfigPath]:
        """Remove a configuration, or all below a path, and return what; history keeps them. Raises ConfigStoreError where there is none."""
        with self._speaking(), self._transaction(writes=True) as connection:
            found = self._newest_below(connection, path)
            for one in found:
                self._add(connection, one.path, None, comment or "removed")
        return [one.path for one in found]

    def copy(self, source: ConfigPath, target: ConfigPath, *, move: bool = False) -> list[ConfigPath]:
        """Copy a configuration, or all below a path, to a path of the same length, and return the new ones; with `move` they leave their old place.

        Raises ConfigStoreError where there is none, or where something is there already.
        """
        if (
            bool(source.alias) != bool(target.alias)
            or bool(source.device) != bool(target.device)
            or source == target
        ):
            raise ConfigStoreError(
                f"cannot become {target}", place=str(source), hint="Both are of the same length, and differ."
            )
        with self._speaking(), self._transaction(writes=True) as connection:
            made = []
            for one in self._newest_below(connection, source):
                new = ConfigPath(
                    target.hutch, target.alias or one.path.alias, target.device or one.path.device
                )
                there = self._find(connection, new, None)
                if there is not None and there.content is not None:
                    raise ConfigStoreError(
                        "is there already", place=str(new), hint="Remove it first: history keeps it."
                    )
                self._add(
                    connection,
                    new,
                    json.dumps(one.content),
                    f"{'was' if move else 'as'} {one.path}, key {one.key}",
                )
                if move:
                    self._add(connection, one.path, None, f"is {new} now")
                made.append(new)
            return made

    def history(self, path: ConfigPath) -> list[Version]:
        """Return all that a path ever had, newest first. Raises ConfigStoreError where it never had anything."""
        with self._speaking(), self._transaction() as connection:
            rows = [_version(row) for row in connection.execute(_at(path).order_by(ROWS.c.key.desc()))]
        if not rows:
            raise self._missing(path, None)
        return rows

    def rollback(self, path: ConfigPath, key: int) -> int:
        """Make what a path had at `key` its newest again, and return the new key. Raises ConfigStoreError where it had nothing then."""
        with self._speaking(), self._transaction(writes=True) as connection:
            found = self._find(connection, path, key)
            if found is None or found.content is None:
                raise self._missing(path, key)
            return self._add(connection, path, json.dumps(found.content), f"as of key {key}")

    def _newest_below(self, connection: Connection, path: ConfigPath) -> list[Version]:
        newest = select(func.max(ROWS.c.key)).group_by(ROWS.c.hutch, ROWS.c.alias, ROWS.c.device)
        query = _below(path).where(ROWS.c.key.in_(newest), ROWS.c.content.is_not(None)).order_by(ROWS.c.key)
        found = [_version(row) for row in connection.execute(query)]
        if not found:
            raise self._missing(path, None)
        return found

    def _find(self, connection: Connection, path: ConfigPath, key: int | None) -> Version | None:
        query = _at(path) if key is None else _at(path).where(ROWS.c.key == key)
        row = connection.execute(query.order_by(ROWS.c.key.desc()).limit(1)).first()
        return None if row is None else _version(row)

    def _add(self, connection: Connection, path: ConfigPath, text: str | None, comment: str) -> int:
        if not path.device:
            raise ConfigStoreError("is no path of a configuration", place=str(path))
        row = {
            "hutch": path.hutch,
            "alias": path.alias,
            "device": path.device,
            "content": text,
            "created": self._now(),
            "username": _user(),
            "comment": comment[:MAX_COMMENT],
        }
        made = connection.execute(insert(ROWS).values(row)).inserted_primary_key
        return int(made[0]) if made else 0

    def _missing(self, path: ConfigPath, key: int | None) -> ConfigStoreError:
        what = "there is no such configuration" if key is None else f"it had no configuration with key {key}"
        return ConfigStoreError(
            what, place=f"{self._path}: {path}", hint="configdb ls and configdb history show what there is."
        )

    def _check(self, connection: Connection, *, create: bool) -> None:
        if create:
            METADATA.create_all(connection)
            if connection.execute(select(FORMATS.c.format)).first() is None:
                connection.execute(insert(FORMATS).values(format=FORMAT))
        found = connection.execute(select(FORMATS.c.format)).scalar_one_or_none()
        if found != FORMAT:
            raise ConfigStoreError(
                f"the store has format {found}, this configdb knows {FORMAT}", place=str(self._path)
            )

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        with (
            self._engine.connect().execution_options(configdb_writes=writes) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise ConfigStoreError(
                said, place=str(self._path), hint="Is this a store of configdb, and may this user write it?"
            ) from error
        except OSError as error:
            raise ConfigStoreError(error.strerror or str(error), place=str(self._path)) from error


def _below(path: ConfigPath) -> Select[Any]:
    query = select(ROWS)
    for column, value in (
        (ROWS.c.hutch, path.hutch),
        (ROWS.c.alias, path.alias),
        (ROWS.c.device, path.device),
    ):
        if value:
            query = query.where(column == value)
    return query


def _at(path: ConfigPath) -> Select[Any]:
    return select(ROWS).where(
        ROWS.c.hutch == path.hutch, ROWS.c.alias == path.alias, ROWS.c.device == path.device
    )


def _version(row: Any) -> Version:
    content = None if row.content is None else json.loads(row.content)
    return Version(
        row.key, ConfigPath(row.hutch, row.alias, row.device), content, row.created, row.username, row.comment
    )


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is said below, and not when the module thinks so
    for pragma in ("trusted_schema=OFF", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("configdb_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "unknown"

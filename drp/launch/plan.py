"""What is to be started: the processes of a partition, as a .cnf or TOML file names them, checked as a whole.

It reads no file and starts nothing.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drp.core.errors import DrpError

MAX_ID = 30
MAX_PROCESSES = 256
MAX_WORD_BYTES = 64 * 1024
PLATFORMS = range(8)
LOCAL = "localhost"
FLAGS = "spuxXg"
KEYS = ("id", "cmd", "host", "flags", "env", "cores", "rtprio")
UNUSED_KEYS = {
    "port": "consoles have sockets in the run directory, not ports",
    "conda": "processes have the environment of procmgr",
    "conda_env": "processes have the environment of procmgr",
    "env_group": "processes have the environment of procmgr",
    "evr": "there is no event receiver card",
}
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class LaunchError(DrpError):
    """A file that names no processes, or processes that cannot be started or ended. `place` is the file, and the process in it."""

    def __init__(self, what: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.place = place

    @property
    def where(self) -> str:
        return self.place


@dataclass(frozen=True, slots=True)
class Process:
    """One process as the file has it. `unused` are the keys that mean nothing here, with their values."""

    id: str
    cmd: str
    host: str = LOCAL
    flags: str = ""
    env: tuple[tuple[str, str], ...] = ()
    cores: int | None = None
    rtprio: int | None = None
    unused: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes of one partition, in the order of the file. `notes` are lines to tell the user."""

    path: str
    platform: int
    station: int
    processes: tuple[Process, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the partition is called in the run directory: `p3`, or with a station `p3_s1`."""
        return f"p{self.platform}_s{self.station}" if self.station else f"p{self.platform}"

    def select(self, ids: Sequence[str]) -> tuple[Process, ...]:
        """Return the processes of these ids in the order of the file; all for none. Raises LaunchError for an id that is not there."""
        known = [one.id for one in self.processes]
        for one in ids:
            if one not in known:
                raise LaunchError(f"there is no process {one!r}", place=self.path, hint=near(one, known))
        return tuple(one for one in self.processes if not ids or one.id in ids)


def plan_of(content: Mapping[str, Any], path: str) -> Plan:
    """Return the plan in what was read: {"platform", "station", "processes": [{...}], "notes"}. Raises LaunchError that names file and process."""
    platform = _whole(content.get("platform"), "platform", path)
    if platform is None:
        raise LaunchError(
            "no platform is named", place=path, hint="Set platform to a digit, 0-7, or give -p."
        )
    if platform not in PLATFORMS:
        raise LaunchError(f"platform {platform} is none", place=path, hint="A platform is a digit, 0-7.")
    station = _whole(content.get("station"), "station", path) or 0
    rows = content.get("processes")
    if not isinstance(rows, list) or not rows:
        raise LaunchError(
            "no processes are named", place=path, hint="See docs/procmgr.md for what a file has."
        )
    if len(rows) > MAX_PROCESSES:
        raise LaunchError(f"names {len(rows)} processes, the limit is {MAX_PROCESSES}", place=path)
    processes = tuple(_process(row, number, path) for number, row in enumerate(rows, 1))
    seen: set[str] = set()
    for one in processes:
        if one.id in seen:
            raise LaunchError(f"two processes have the id {one.id}", place=path, hint="Rename one.")
        seen.add(one.id)
    return Plan(path, platform, station, processes, tuple(map(str, content.get("notes", ()))))


def near(word: str, known: Sequence[str]) -> str:
    """Return a hint that names what `word` may have been meant to be, or what there is."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(found)}?" if found else f"There is: {', '.join(known)}."


def parse_env(text: str, place: str) -> tuple[tuple[str, str], ...]:
    """Return the variables in 'NAME=value NAME=value', a value with blanks being quoted. Raises LaunchError."""
    pairs = []
    for word in words_of(text, place):
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise LaunchError(f"env has {word!r}, which is not NAME=value", place=place)
        pairs.append((name, value))
    return tuple(pairs)


def words_of(text: str, place: str) -> list[str]:
    """Split a command or an environment into words as a shell would, without expanding anything. Raises LaunchError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LaunchError(f"cannot be split into words: {error}", place=place) from None


def _process(row: object, number: int, path: str) -> Process:
    place = f"{path}, process {number}"
    if not isinstance(row, dict):
        raise LaunchError("is no table of keys", place=place)
    if isinstance(row.get("id"), str):
        place = f"{path}, process {row['id'][:MAX_ID]}"
    for key in row:
        if key not in KEYS and key not in UNUSED_KEYS:
            raise LaunchError(f"has no key {key!r}", place=place, hint=near(str(key), KEYS))
    text = {key: _text(row, key, place) for key in ("id", "cmd", "host", "flags")}
    if not _ID.fullmatch(text["id"]) or len(text["id"]) > MAX_ID:
        raise LaunchError(
            f"{text['id']!r} cannot be an id",
            place=place,
            hint=f"Letters, digits, _ - and . only, at most {MAX_ID}.",
        )
    if not words_of(text["cmd"], place):
        raise LaunchError("has no cmd", place=place)
    unknown = sorted(set(text["flags"]) - set(FLAGS))
    if unknown:
        raise LaunchError(
            f"has no flag {unknown[0]!r}", place=place, hint=f"The flags are {', '.join(FLAGS)}."
        )
    env = row.get("env") or ""
    if isinstance(env, dict):
        pairs = tuple((str(name), str(value)) for name, value in env.items())
    elif isinstance(env, str):
        pairs = parse_env(env, place)
    else:
        raise LaunchError("env is not text", place=place)
    if any(not _NAME.fullmatch(name) or "\0" in value for name, value in pairs):
        raise LaunchError("env has a name that cannot be a variable", place=place)
    return Process(
        text["id"],
        text["cmd"],
        text["host"] or LOCAL,
        text["flags"],
        pairs,
        _bounded(row, "cores", 1, 4096, place),
        _bounded(row, "rtprio", 1, 99, place),
        tuple((key, row[key]) for key in UNUSED_KEYS if isinstance(row.get(key), str | int)),
    )


def _text(row: Mapping[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if value is None:
        value = ""
    if not isinstance(value, str) or "\0" in value or len(value.encode(errors="replace")) > MAX_WORD_BYTES:
        raise LaunchError(f"{key} is no text, or none that can be used", place=place)
    return value


def _bounded(row: Mapping[str, Any], key: str, least: int, most: int, place: str) -> int | None:
    value = _whole(row.get(key), key, place)
    if value is not None and not least <= value <= most:
        raise LaunchError(
            f"{key} {value} is out of range", place=place, hint=f"It goes from {least} to {most}."
        )
    return value


def _whole(value: object, key: str, place: str) -> int | None:
    """Return a number that may be written as text, as LCLS's files have it; None for none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LaunchError(f"{key} {str(value)[:40]!r} is no whole number", place=place)
    return value

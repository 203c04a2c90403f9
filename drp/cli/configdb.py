"""The `configdb` command: list, show, copy, remove and bring back the configurations of detectors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drp.configdb.errors import ConfigStoreError
from drp.configdb.store import ConfigPath, ConfigStore, default_path
from drp.configdb.typed import MAX_BYTES
from drp.core.errors import DrpError

_DESCRIPTION = """Configurations of detectors, as typed JSON: HUTCH/ALIAS/DEVICE, such as tst/BEAM/epixhr_0. Nothing is ever lost: history
shows what a device had, and rollback brings it back."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the configdb command with `argv` (default: the process's own) and return its exit code."""
    given = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        with ConfigStore(given.db or default_path(), create=given.verb == "put") as store:
            print("\n".join(given.run(store, given)))
    except (DrpError, OSError) as error:
        print(f"configdb: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="configdb", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--db", type=Path, metavar="FILE", help=f"the store (default: $DRP_CONFIGDB, else {default_path()})"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|cat|put|cp|mv|rm|history|rollback")
    rows = (
        ("ls", run_ls, ("[path]",), "list what is below HUTCH, HUTCH/ALIAS, or everywhere"),
        ("cat", run_cat, ("path", "[key]"), "print one as typed JSON, now or at a key of its history"),
        (
            "put",
            run_put,
            ("path", "file"),
            "add one from a JSON file (-: stdin), such as LCLS's configdb cat prints; makes the store",
        ),
        ("cp", run_cp, ("source", "target"), "copy a device, an alias or a hutch"),
        ("mv", run_mv, ("source", "target"), "give a device, an alias or a hutch another name"),
        ("rm", run_rm, ("path",), "remove a device, an alias or a hutch; history keeps it"),
        ("history", run_history, ("path",), "list all that a device ever had, newest first"),
        ("rollback", run_rollback, ("path", "key"), "make what a device had at KEY its newest"),
    )
    for name, run, words, text in rows:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(run=run)
        for word in words:
            plain = word.strip("[]")
            verb.add_argument(
                plain,
                metavar=plain.upper(),
                nargs="?" if word.startswith("[") else None,
                type=int if plain == "key" else str,
            )
    cat = verbs.choices["cat"]
    cat.add_argument(
        "--resolved", action="store_true", help="with what it inherits by _cfgTypeRef, as Configure has it"
    )
    for name in ("put", "rm"):
        verbs.choices[name].add_argument(
            "-m", dest="comment", default="", metavar="TEXT", help="say why, for history"
        )
    return parser


def run_ls(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Return a line for each configuration."""
    below = ConfigPath.parse(given.path or "")
    return [
        f"{one.path}  key {one.key}  {_when(one.created)}  {one.username}" for one in store.below(below)
    ] or ["nothing"]


def run_cat(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Return one as indented JSON."""
    path = ConfigPath.parse(given.path, whole=True)
    if given.resolved and given.key is not None:
        raise ConfigStoreError("--resolved is of what is there now", hint="Leave the key out.")
    return [json.dumps(store.resolved(path) if given.resolved else store.get(path, given.key), indent=4)]


def run_put(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Add one."""
    path = ConfigPath.parse(given.path, whole=True)
    return [f"{path}  key {store.put(path, read_json(given.file), comment=given.comment)}"]


def run_cp(store: ConfigStore, given: argparse.Namespace, *, move: bool = False) -> list[str]:
    """Copy."""
    return [
        str(one)
        for one in store.copy(ConfigPath.parse(given.source), ConfigPath.parse(given.target), move=move)
    ]


def run_mv(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Move."""
    return run_cp(store, given, move=True)


def run_rm(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Remove."""
    path = ConfigPath.parse(given.path)
    if not path.hutch:
        raise ConfigStoreError("is everything", place=given.path or "/", hint="Name a hutch at least.")
    return [f"removed {one}" for one in store.remove(path, comment=given.comment)]


def run_history(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Return a line for each version."""
    path = ConfigPath.parse(given.path, whole=True)
    return [
        f"key {one.key}  {_when(one.created)}  {one.username}  {'removed' if one.content is None else _version(one.content)}  {one.comment}".rstrip()
        for one in store.history(path)
    ]


def run_rollback(store: ConfigStore, given: argparse.Namespace) -> list[str]:
    """Bring one back."""
    path = ConfigPath.parse(given.path, whole=True)
    return [f"{path}  key {store.rollback(path, given.key)}"]


def read_json(name: str) -> dict[str, Any]:
    """Return the typed JSON in a file, or on stdin for `-`; a document of LCLS's database has it under `config`. Raises ConfigStoreError."""
    if name == "-":
        text = sys.stdin.read(MAX_BYTES + 1)
    else:
        path = Path(name)
        if path.stat().st_size > MAX_BYTES:
            raise ConfigStoreError(f"is larger than {MAX_BYTES} bytes", place=name)
        text = path.read_text(encoding="utf-8", errors="strict")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigStoreError(f"is no JSON: {error}", place=name) from None
    if isinstance(content, dict) and ":types:" not in content and isinstance(content.get("config"), dict):
        content = content["config"]
    if not isinstance(content, dict):
        raise ConfigStoreError("is no JSON object", place=name)
    return content


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _version(content: dict[str, Any]) -> str:
    alg = content.get("alg:RO", {})
    return f"{alg.get('alg:RO', '?')} {'.'.join(str(part) for part in alg.get('version:RO', ()))}"

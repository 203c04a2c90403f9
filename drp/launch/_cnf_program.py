"""Run one .cnf file, which is Python, and print the processes that it names as JSON. It is run by its path in a process of its own.

It imports nothing of drp, so that what the file does to this process stays here. Both dialects of LCLS are known: procmgr's, where keys are bare
names (`{id: 'teb0', cmd: ...}`) and CONFIGDIR and CONDA_PREFIX are there, and daqmgr's, where the file defines the names itself and may
choose among its processes with `config = Config(procmgr_config)`. What the file prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

KEYS = (
    "host",
    "cores",
    "id",
    "flags",
    "env",
    "env_group",
    "cmd",
    "rtprio",
    "port",
    "conda",
    "conda_env",
    "evr",
)
MEMORY_BYTES = 2 << 30
CPU_S = 10
NOTES: list[str] = []


class Config:
    """A choice among processes, as files of daqmgr make it."""

    def __init__(self, main_config: list[dict[str, Any]]) -> None:
        """Take the processes to choose from."""
        self.main_config = {one["id"]: dict(one) for one in main_config}
        self.select_config: dict[str, dict[str, Any]] = {}

    def select(self, items: list[Any]) -> None:
        """Choose processes by their ids; a dictionary is a process itself."""
        for item in items:
            if isinstance(item, dict):
                self.add(item)
            elif item in self.main_config:
                self.add(self.main_config[item])
            else:
                NOTES.append(f"config.select: there is no process {item!r}")

    def add(self, config: dict[str, Any]) -> None:
        """Add one process; one of the same id is replaced."""
        self.select_config[config["id"]] = dict(config)

    def extend(self, configs: list[dict[str, Any]]) -> None:
        """Add processes."""
        for one in configs:
            self.add(one)

    def rename(self, *pairs: tuple[str, str]) -> None:
        """Give chosen processes other ids: pairs of the old one and the new one. One that is not chosen is chosen first."""
        for old, new in pairs:
            if old not in self.select_config:
                self.select([old])
            if old in self.select_config:
                self.select_config[new] = {**self.select_config.pop(old), "id": new}

    def show(self, full: bool = False) -> None:
        """Print what is chosen."""
        for name, one in self.select_config.items():
            print(name, one.get("host", "localhost"), one["cmd"] if full else one["cmd"][:80])


def main(path: str, platform: str) -> dict[str, Any]:
    """Run the file and return what it names, or {"error", "traceback", "unknown"}: what is wrong, where, and the name that is not there."""
    names: dict[str, Any] = {key: key for key in KEYS} | {
        "__name__": "__main__",
        "__file__": path,
        "Config": Config,
        "CONFIGDIR": str(Path(path).resolve().parent),
        "CONDA_PREFIX": os.environ.get("CONDA_PREFIX", ""),
        "TESTRELDIR": os.environ.get("TESTRELDIR", ""),
        "platform": platform,
        "procmgr_config": None,
        "procmgr_macro": {},
    }
    sys.path.insert(0, names["CONFIGDIR"])
    _offer_config()
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), names)  # noqa: S102 - what this process is for
    except BaseException as error:  # noqa: BLE001 - whatever the file raises is told, SystemExit too
        return {
            "error": f"{type(error).__name__}: {error}"[:2000],
            "traceback": _own_lines(error, path),
            "unknown": error.name if isinstance(error, NameError) else None,
        }
    config = names.get("config")
    chosen = list(config.select_config.values()) if isinstance(config, Config) else names["procmgr_config"]
    return {
        "platform": names["platform"],
        "station": names.get("station", 0),
        "processes": chosen,
        "notes": NOTES,
    }


def _offer_config() -> None:
    """Have `from psdaq.slurm.config import Config` find ours, where psdaq is not installed and where it is."""
    for name in ("psdaq", "psdaq.slurm", "psdaq.slurm.config"):
        module = ModuleType(name)
        module.__path__ = []
        sys.modules[name] = module
    sys.modules["psdaq.slurm.config"].Config = Config  # type: ignore[attr-defined]


def _own_lines(error: BaseException, path: str) -> str:
    own = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"line {error.lineno}"
    return f"line {own[-1].lineno}" if own else ""


if __name__ == "__main__":
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a lower limit stands already
            resource.setrlimit(kind, (limit, limit))
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    said = main(sys.argv[1], sys.argv[2])
    sys.stdout.flush()
    try:
        text = json.dumps(said)
    except (TypeError, ValueError, RecursionError) as problem:
        text = json.dumps({"error": f"what it names is no plain text and numbers: {problem}"})
    answer.write(text)
    answer.close()
    os._exit(0)  # a thread that the file began is not waited for

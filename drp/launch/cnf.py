"""Reading what is to be started, from a .cnf file in either dialect of LCLS or from TOML.

A .cnf is a program. It is run in a process of its own (`_cnf_program.py`), with little of our environment and within limits of time and memory,
and answers with JSON; that keeps our process clean, and is no protection from a file that means harm, hence the warning.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from drp.launch.pipes import read_within
from drp.launch.plan import KEYS, LaunchError, Plan, near, plan_of

LOG = logging.getLogger("drp.launch")
TIME_LIMIT_S = 10.0
MAX_ANSWER_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 20
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "HOSTNAME",
    "CONDA_PREFIX",
    "CONFIGDIR",
    "TESTRELDIR",
)
WARNING = "is a Python program, and is run to learn what it names: use only files that you trust; procmgr convert makes TOML of it"
_TOP_KEYS = ("platform", "station", "process")
_PROGRAM = Path(__file__).with_name("_cnf_program.py")


def read_plan(path: str | Path, *, platform: int | None = None, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """Return what a file names: TOML where its name ends in .toml, else a .cnf, which is run. `platform` is what the user asks for.

    Raises LaunchError where the file cannot be read, fails, takes too long, or names what cannot be started.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise LaunchError("is no file", place=str(path))
        if path.stat().st_size > MAX_FILE_BYTES:
            raise LaunchError(f"is larger than {MAX_FILE_BYTES} bytes", place=str(path))
        content = _read_toml(path) if path.suffix == ".toml" else _run_cnf(path, platform, time_limit_s)
    except OSError as error:
        raise LaunchError(f"cannot be read: {error.strerror}", place=str(path)) from error
    if platform is not None:
        if path.suffix != ".toml" and str(content.get("platform")) != str(platform):
            raise LaunchError(
                f"sets platform {content.get('platform')!r} whatever -p says, which was {platform}",
                place=str(path),
                hint="Write in it: if not platform: platform = '...'",
            )
        content = {**content, "platform": platform}
    return plan_of(content, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LaunchError(f"is no TOML: {error}", place=str(path)) from None
    for key in content:
        if key not in _TOP_KEYS:
            raise LaunchError(f"has no key {key!r}", place=str(path), hint=near(key, _TOP_KEYS))
    return {
        "platform": content.get("platform"),
        "station": content.get("station"),
        "processes": content.get("process"),
    }


def _run_cnf(path: Path, platform: int | None, time_limit_s: float) -> dict[str, Any]:
    LOG.warning("%s %s", path, WARNING)
    place = str(path)
    text = "" if platform is None else str(platform)
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", str(_PROGRAM), place, text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_little_of(os.environ),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        answer = read_within(process.stdout.fileno(), time_limit_s, MAX_ANSWER_BYTES)
    except (TimeoutError, ValueError) as error:
        raise LaunchError(f"does not say what it names: {error}", place=place) from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # it, and what the file may have started; it is not reaped yet
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        raise LaunchError(
            "ended without saying what it names", place=place, hint="See what it printed."
        ) from None
    if not isinstance(content, dict) or "error" in content:
        said = content.get("error") if isinstance(content, dict) else "nothing"
        line = content.get("traceback") if isinstance(content, dict) else ""
        unknown = content.get("unknown") if isinstance(content, dict) else None
        hint = f"If it is a key: {near(unknown, KEYS)}" if unknown else ""
        raise LaunchError(f"cannot be run: {said}", place=f"{place}, {line}" if line else place, hint=hint)
    return content


def _little_of(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in PASSED_ON if name in environment}

"""What the files, folders and sources of a command line must be: looked at before anything starts.

Each check raises a ConfigError that names the option. Nothing is left behind: whether a folder can be written is tried with a file that has
no name.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from drp.core.config import DrpConfig
from drp.core.errors import ConfigError
from drp.source import source_names

STDOUT = Path("-")
"""What `--report` is where it goes to stdout."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_paths(config: DrpConfig) -> None:
    """Check all that `config` names. Raises ConfigError."""
    if config.script or config.control is None:
        _check_script(Path(config.script), "-p")
    if config.trigger:
        _check_script(Path(config.trigger[0]), "--trigger")
    if config.out_dir is not None:
        _check_out_dir(config.out_dir, config.out_dir / config.instrument / (config.expt or ""))
    if config.report is not None and config.report != STDOUT:
        _check_report(config.report)
    if config.prometheus_dir is not None:
        _check_prometheus_dir(config.prometheus_dir)
    for source in config.sources:
        _check_source(source, offline=config.offline)


def _check_source(source: str, *, offline: bool) -> None:
    """Let pass what is a file, or names a kind of source before its first colon; what follows that is the source's business."""
    mode = _mode(source)
    if mode is not None and stat.S_ISREG(mode):
        return
    kind = source.partition(":")[0]
    if kind in source_names():
        if offline:
            raise ConfigError("reads recorded files", option="--offline", hint="Name them: --source FILE...")
        return
    if not source:
        raise ConfigError("is empty", option="--source", hint="Name sim, sim:TYPE or a file.")
    if mode is not None and stat.S_ISDIR(mode):
        raise ConfigError("is a folder", option="--source", value=source, hint="Name the files in it.")
    if mode is not None:
        raise ConfigError(
            "is not a regular file",
            option="--source",
            value=source,
            hint="Files are mapped, not read from a pipe or device: write it to a file first.",
        )
    if offline or source.endswith(".xtc2") or "/" in kind:
        raise ConfigError("there is no such file", option="--source", value=source, hint="Check the path.")


def _mode(source: str) -> int | None:
    """Return what lies at a path, None where nothing does."""
    try:
        return Path(source).stat().st_mode if source else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise ConfigError(
            f"it cannot be looked at: {error.strerror}",
            option="--source",
            value=source,
            hint="Check the path and its permissions.",
        ) from None


def _check_script(script: Path, option: str) -> None:
    if not script.is_file():
        what = "is a folder, not a script" if script.is_dir() else "there is no such script"
        raise ConfigError(what, option=option, value=script, hint="Check the path.")
    if not os.access(script, os.R_OK):
        raise ConfigError(
            "the script cannot be read", option=option, value=script, hint="Check its permissions."
        )


def _check_out_dir(given: Path, folder: Path) -> None:
    """Check that the folder of a run's files, which may still have to be made below the one given, can be written."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    there = given if there == given.absolute() else there
    if not there.is_dir():
        raise ConfigError(
            f"{there} is a file, not a folder", option="-o", value=given, hint="Name another folder."
        )
    try:
        tempfile.TemporaryFile(dir=there).close()  # os.access knows neither /proc nor read-only mounts
    except OSError as error:
        if error.errno in _FULL:
            return  # recording waits until there is room
        raise ConfigError(
            f"nothing can be written in {there}: {error.strerror}",
            option="-o",
            value=given,
            hint="Name another folder.",
        ) from None


def _check_prometheus_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(
            "there is no such folder",
            option="-M",
            value=folder,
            hint="Name that of Prometheus's file_sd_configs.",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            "nothing can be written there", option="-M", value=folder, hint="Name another folder."
        )


def _check_report(path: Path) -> None:
    if path.is_dir():
        raise ConfigError("is a folder", option="--report", value=path, hint="Name a file.")
    if not path.parent.is_dir():
        raise ConfigError(
            f"there is no folder {path.parent}", option="--report", value=path, hint="Make it first."
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError("it cannot be written", option="--report", value=path, hint="Name another file.")

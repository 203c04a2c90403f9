"""The steps of a dark run, from xtc2 files, as sums: added up here from raw frames, or as a script's workers have left them in the files.

Files are read as streams, a frame at a time. A file that holds sums (`fex_scripts/dark.py` makes them; alg `reduce`) is taken at its word, its
raw frames are not read again. It knows no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.dark.sums import DarkSums, Limits
from calib.detectors import DetectorSetup, config_values, setups_of
from calib.errors import CalibError
from xtc import Column, Config, Dgram, Names, TransitionId
from xtc.chunk import Stream

DATA_ALG = "raw"
REDUCE_ALG = "reduce"
PREFIX = "dark_"
"""What the names of a script's reduced arrays begin with."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the sums of its frames. `arrays` are those of DarkSums, and are reused for the next step; `setup` holds the
    configuration as it stood in the step, `note` what the scan says of it (`step_docstring`).
    """

    setup: DetectorSetup
    experiment: str
    run: int
    number: int
    note: str
    arrays: dict[str, NDArray[Any]]


def read_steps(path: str | Path, detector: str | None = None, limits: Limits | None = None) -> Iterator[Step]:
    """Yield the steps of one file and the chunks after it. `detector` None: the file's only one with frames of 16 bits.

    Raises CalibError where there is no such detector or its data are no frames, XtcError where the file cannot be read.
    """
    return _DarkFile(Path(path), detector, limits).steps()


class _DarkFile:
    """Reads one file and keeps what is in force: Configure, run, step."""

    def __init__(self, path: Path, detector: str | None, limits: Limits | None) -> None:
        self._path = path
        self._wanted = detector
        self._limits = limits
        self._setup: DetectorSetup | None = None
        self._columns: list[Column] = []
        self._sums: DarkSums | None = None
        self._has_sums = False
        self._experiment, self._run, self._note, self._number = "", 0, "", 0

    def steps(self) -> Iterator[Step]:
        for dgram in Stream(self._path):
            service = dgram.service
            if self._setup is None and service != TransitionId.Configure:
                break
            if service == TransitionId.L1Accept:
                if not self._has_sums:
                    self._add(dgram)
            elif service == TransitionId.Configure:
                self._configure(dgram)
            elif service in (TransitionId.BeginRun, TransitionId.BeginStep):
                self._begin(dgram)
            elif service == TransitionId.EndStep:
                if self._has_sums:
                    self._take_sums(dgram)
                yield from self._end_step()
        if self._setup is None:
            raise CalibError(
                "it does not begin with a whole Configure, as a recorded run does",
                where=str(self._path),
                hint="Name the xtc2 file of the dark run, its first chunk.",
            )
        yield from self._end_step()

    def _configure(self, dgram: Dgram) -> None:
        config = dgram.config or Config(dgram)
        names = self._find(config)
        self._setup = setups_of(config, dgram)[names.detname]
        field = _frames_field(names)
        self._columns = [
            config.column(names.detname, DATA_ALG, field, panel.segment) for panel in self._setup.panels
        ]
        self._sums = None
        self._has_sums = any(
            any(field.name.startswith(PREFIX) for field in one.fields)
            for one in config.names.values()
            if (one.detname, one.alg.name) == (names.detname, REDUCE_ALG)
        )
        self._number = 0

    def _find(self, config: Config) -> Names:
        found = {
            one.detname: one
            for one in config.names.values()
            if one.alg.name == DATA_ALG and _frames_field(one)
        }
        name = next(iter(found)) if self._wanted is None and len(found) == 1 else self._wanted
        if name in found:
            return found[name]
        if name is None and found:
            raise CalibError(
                f"several detectors have frames: {', '.join(sorted(found))}",
                where=str(self._path),
                hint="Name one with --detector.",
            )
        raise CalibError(
            f"there is no detector{f' {name!r}' if name else ''} with frames of 16 bits",
            where=str(self._path),
            hint=f"There are: {', '.join(sorted(found))}."
            if found
            else "Record the raw data of the dark run.",
        )

    def _begin(self, dgram: Dgram) -> None:
        """Take what a BeginRun or BeginStep says: configuration values, experiment and run, the scan's note."""
        if dgram.service == TransitionId.BeginStep:
            self._note = ""
        for value in dgram.fields():
            names, field = value.names, value.field
            if (names.detname, field.name) == ("runinfo", "expt"):
                self._experiment = str(value.value)
            elif (names.detname, field.name) == ("runinfo", "runnum"):
                self._run = int(value.value)
            elif field.name == "step_docstring":
                self._note = str(value.value)
        config = dgram.config
        if self._setup is None or config is None:
            return
        changed = {
            config.names[names_id].segment: values
            for names_id, values in config_values(config, dgram).items()
            if config.names[names_id].detname == self._setup.name
        }
        panels = (
            replace(panel, config={**panel.config, **changed.get(panel.segment, {})})
            for panel in self._setup.panels
        )
        self._setup = replace(self._setup, panels=tuple(panels))

    def _add(self, dgram: Dgram) -> None:
        frames = [column.read(dgram) for column in self._columns]
        if self._setup is None or any(one is None for one in frames):
            return
        if self._sums is None:
            shape = frames[0].shape
            known = all(self._setup.panel_shape)
            panel = None if known else (int(np.prod(shape[:-1])), int(shape[-1]))
            self._sums = DarkSums.of(self._setup, self._limits, panel)
        self._sums.add(frames)

    def _take_sums(self, dgram: Dgram) -> None:
        if self._setup is None:
            return
        found = {
            value.field.name.removeprefix(PREFIX): value.value
            for value in dgram.fields()
            if (value.names.detname, value.names.alg.name) == (self._setup.name, REDUCE_ALG)
            and value.field.name.startswith(PREFIX)
        }
        if not found:
            return
        count = found.get("count_0")
        if count is None or count.ndim != 3:
            raise CalibError(
                "the sums of a step lack 'count_0'",
                where=str(self._path),
                hint="Sum the dark run up with this version of fex_scripts/dark.py.",
            )
        if self._sums is None:
            self._sums = DarkSums.of(self._setup, self._limits, (count.shape[-2], count.shape[-1]))
        self._sums.merge(found)

    def _end_step(self) -> Iterator[Step]:
        sums = self._sums
        if self._setup is None or sums is None or not sums.arrays["frames"].any():
            return
        yield Step(self._setup, self._experiment, self._run, self._number, self._note, sums.arrays)
        self._number += 1
        sums.reset()


def _frames_field(names: Names) -> str:
    """Return the field that holds the frames: 16-bit unsigned, of rank 2 or more, called `raw`, else the only one."""
    fields = [one.name for one in names.fields if one.rank >= 2 and one.dtype.name == "UINT16"]
    if DATA_ALG in fields:
        return DATA_ALG
    return fields[0] if len(fields) == 1 else ""

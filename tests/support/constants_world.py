"""A world of constants for tests of drp: recorded files of a jungfrau whose panels are what a test says, and a store with their constants.

Panels are small in number and whole in size is not needed: the detector type is one that has no correction of its own, so any shape will do. The pedestal of a
panel is its serial's number, its gain is 1, so that a calibrated pixel is the raw one minus that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib import Constant, DetectorId
from calib.store import open_store
from tests.support.plain_xtc2 import BEGIN_RUN, PlainFile
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

DET, DETTYPE = "cam", "testcam"
SHAPE = (16, 12)
RAW_VALUE = 1000
RUNINFO = Names(
    1 << 8 | 255,
    "runinfo",
    "runinfo",
    "",
    0,
    Alg("runinfo", (0, 0, 1)),
    (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32)),
)


@dataclass(frozen=True)
class Panels:
    """Which panel, by its number, is in which segment."""

    by_segment: dict[int, int]
    shape: tuple[int, int] = SHAPE

    @property
    def serials(self) -> tuple[str, ...]:
        return tuple(serial(self.by_segment[segment]) for segment in sorted(self.by_segment))

    @property
    def names(self) -> list[Names]:
        return [
            Names(
                1 << 8 | 1 + place,
                DETTYPE,
                DET,
                serial(panel),
                segment,
                Alg("raw", (0, 1, 0)),
                (Field("raw", DataType.UINT16, 2),),
            )
            for place, (segment, panel) in enumerate(self.by_segment.items())
        ]


def serial(panel: int) -> str:
    """The serial number of a panel."""
    return f"panel-{panel:03d}"


def record(
    path: Path, panels: Panels, *, runs: Sequence[int] = (7,), events: int = 20, expt: str = "tst001"
) -> Path:
    """Write a file of whole runs, all under one Configure; every raw pixel is RAW_VALUE."""
    time = 1000 << 32
    names = panels.names
    out = []

    def put(service: TransitionId, parts: Sequence[bytes] = (), env: int = 0) -> None:
        nonlocal time
        time += 10
        out.append(encode_dgram(service, time, list(parts), env=env))

    put(TransitionId.Configure, [one.encode() for one in (*names, RUNINFO)])
    frame = np.full(panels.shape, RAW_VALUE, np.uint16)
    event = [encode_shapes_data(one, {"raw": frame}) for one in names]
    for run in runs:
        put(TransitionId.BeginRun, [encode_shapes_data(RUNINFO, {"expt": expt, "runnum": run})])
        put(TransitionId.BeginStep)
        put(TransitionId.Enable)
        for _ in range(events):
            put(TransitionId.L1Accept, event, env=1)
        put(TransitionId.Disable)
        put(TransitionId.EndStep)
        put(TransitionId.EndRun)
    path.write_bytes(b"".join(out))
    return path


def put_constants(
    url: str | Path,
    panels: Sequence[int],
    *,
    shape: tuple[int, int] = SHAPE,
    run: int = 0,
    add: float = 0.0,
    version: str = "v1",
    ctypes: Sequence[str] = ("pedestals", "pixel_gain", "pixel_status"),
    expt: str = "",
) -> None:
    """Put constants of panels, valid from `run`: the pedestal is the panel's number plus `add`."""
    serials = tuple(serial(panel) for panel in panels)
    ones = np.ones((len(panels), *shape), np.float32)
    made = {
        "pedestals": ones * np.array(panels, np.float32)[:, None, None] + np.float32(add),
        "pixel_gain": ones,
        "pixel_status": np.zeros(ones.shape, np.uint64),
        "pixel_rms": ones,
    }
    made_of = [
        Constant.make(one, made[one], serials, run=run, version=version, experiment=expt) for one in ctypes
    ]
    with open_store(str(url), create=True) as store:
        store.put(DetectorId(DET, DETTYPE, serials), made_of)


# A script that calibrates with what it was given, and records, for each event, worker, first calibrated pixel of each segment, and pid.
SCRIPT = """\
import os, signal, sys, time
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
{before}
ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id),
    AlgDef("fex", 0, 0, 1),
    {{"index": (np.uint64, 0), "worker": (np.uint32, 0), "pid": (np.uint64, 0), "run": (np.uint32, 0), "pixels": (np.float32, 1)}},
)
for run in ds.runs():
    det = run.Detector({det!r}, calib=True)
    {begun}
    for evt in run.events():
{event}
        calibrated = det.raw.calib(evt)
        fex.fex.index, fex.fex.worker, fex.fex.pid, fex.fex.run = evt.index, info.worker_num, os.getpid(), run.runnum
        fex.fex.pixels = np.ascontiguousarray(calibrated[:, 3, 5])
        ds.add_data(fex.fex)
        ds.remove_data({det!r}, "raw")
    {after}
"""


def write_calibrating_script(
    folder: Path, *, before: str = "", begun: str = "pass", event: str = "pass", after: str = "pass"
) -> Path:
    """Write SCRIPT, with statements of the test's at the top, in each run, in each event, and after each run."""
    path = folder / "calibrating.py"
    indented = "\n".join(f"        {line}" for line in event.splitlines())
    path.write_text(SCRIPT.format(before=before, begun=begun, event=indented, after=after, det=DET))
    return path


def pixels(file: PlainFile, alg: str = "fex") -> list[list[float]]:
    """What each event's script calibrated: the first pixel of each segment."""
    found = [event.find(alg) for event in file.events]
    return [list(one["pixels"]) if one is not None else [] for one in found]


def used(file: PlainFile) -> list[dict[str, Any]]:
    """What each BeginRun says of the constants."""
    found = [one.find("drpcalib") for one in file.dgrams if one.service == BEGIN_RUN]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def expected(*panels: int, add: float = 0.0) -> list[float]:
    return [RAW_VALUE - panel - add for panel in panels]

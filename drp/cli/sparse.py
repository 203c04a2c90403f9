"""The `drp-sparse` command: what fex_scripts/sparse_bragg.py recorded, as an HDF5 file that fabio opens and densify_Bragg makes full frames of."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp.core.errors import DrpError
from drp.fex.errors import FexError
from drp.fex.sparse_hdf5 import PEAKS, SparseWriter
from xtc import Dgram, Reader, TransitionId, XtcError

ALG = "bragg"
RADIUS, CUTOFF = "bragg_radius", "bragg_cutoff"
FRAME = ("index", "intensity", "background_avg", "background_std")
RANKS = dict.fromkeys((*FRAME, *PEAKS), 1) | {"is_hit": 0}
COMMON = {RADIUS: 3, CUTOFF: 1}
"""Dimensions of what is read: of an event, and of the end of a step."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drp-sparse command with `argv` (default: the process's own) and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="drp-sparse",
        description="Make an HDF5 file of sparse Bragg frames, for fabio and densify_Bragg, of what sparse_bragg.py recorded.",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="xtc2 files of one detector, in their order"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the HDF5 file")
    parser.add_argument("--detector", metavar="NAME", help="whose frames (default: of the only one)")
    parser.add_argument("--hits", action="store_true", help="leave out events that are no hit")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        if options.output.exists() and not options.overwrite:
            raise FexError(f"{options.output} is there already", "Give another name, or --overwrite")
        with SparseWriter(options.output) as writer:
            events = convert(options.files, writer, options.detector, hits=options.hits)
    except (DrpError, FexError, XtcError, OSError) as error:
        print(f"drp-sparse: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {writer.frames} frames of {events} events")
    return 0


def convert(files: Iterable[Path], writer: SparseWriter, detector: str | None, *, hits: bool) -> int:
    """Write the frames of recorded files, in their order; return how many events have one. Raises FexError, XtcError, OSError."""
    common: dict[str, Any] = {}
    events = 0
    for path in files:
        with Reader(path) as reader:
            for dgram in reader:
                if dgram.service == TransitionId.L1Accept:
                    frame = values(dgram, ALG, detector, path)
                    events += bool(frame)
                    if frame and (frame["is_hit"] or not hits):
                        writer.add(
                            *(frame[one] for one in FRAME),
                            peaks=frame,
                            is_hit=frame["is_hit"],
                            timestamp=dgram.timestamp,
                        )
                elif dgram.service in (TransitionId.EndStep, TransitionId.EndRun):
                    keep(common, values(dgram, "reduce", detector, path), path)
    if not common:
        raise FexError(
            f"the radii of the pixels are in none of {', '.join(map(str, files))}",
            "They are recorded at the end of a step: give whole runs that sparse_bragg.py recorded",
        )
    writer.finish(common[RADIUS], float(common[CUTOFF][0]))
    return events


def values(dgram: Dgram, alg: str, detector: str | None, path: Path) -> dict[str, Any]:
    """Return the fields that an alg of one detector has in a datagram, by name; FexError where several detectors have some."""
    found: dict[str, dict[str, Any]] = {}
    for one in dgram.fields():
        if one.names.alg.name == alg and detector in (None, one.names.detname):
            found.setdefault(one.names.detname, {})[one.field.name] = one.value
    if alg == "reduce":
        found = {name: fields for name, fields in found.items() if RADIUS in fields}
    if len(found) > 1:
        raise FexError(f"{path} has frames of {', '.join(found)}", "Say which with --detector")
    fields: dict[str, Any] = next(iter(found.values()), {})
    ranks = COMMON if alg == "reduce" else RANKS
    wrong = [name for name, rank in ranks.items() if fields and np.ndim(fields.get(name, [[[[]]]])) != rank]
    if wrong:
        raise FexError(
            f"{path}: {alg} of {next(iter(found))} has no {', '.join(wrong)}, or another kind of it",
            "Give what sparse_bragg.py recorded",
        )
    return fields


def keep(common: dict[str, Any], fields: dict[str, Any], path: Path) -> None:
    """Keep what all frames share; FexError where it is not what it was."""
    if not fields or not len(fields[RADIUS]):  # a step without events
        return
    for name in (RADIUS, CUTOFF):
        value = np.array(fields[name])
        if not np.array_equal(common.setdefault(name, value), value):
            raise FexError(
                f"{path} was recorded with other radii or another --min-snr than those before it",
                "Write a file of each",
            )

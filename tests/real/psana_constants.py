"""Say in JSON which constants real psana finds, and what it makes of the events with them; arrays are saved as .npy.

Run by a Python that has psana, with LCLS_CALIB_HTTP saying where to look: `psana_constants.py FILE DETECTOR FOLDER`, or
`psana_constants.py --document` for a document and payload as psana itself makes them for LCLS's service, or `psana_constants.py --choose
FILE` for which of many documents it takes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def read(path: str, name: str, folder: Path) -> dict[str, Any]:
    """Open a file with DataSource, and use the detector's constants as users do."""
    from psana import DataSource
    from psana.psexp import ds_base

    ds_base.DataSourceBase._get_file_info_from_db = lambda *_: {}  # there is no logbook to ask
    run = next(DataSource(files=[path]).runs())
    detector = run.Detector(name)
    raw = detector.raw
    arrays = {
        "pedestals": raw._pedestals(),
        "pixel_gain": raw._gain(),
        "pixel_rms": raw._rms(),
        "pixel_status": raw._status(),
    }
    for number, event in enumerate(run.events()):
        arrays[f"calib{number}"] = raw.calib(event).copy()
    for key, value in arrays.items():
        np.save(folder / f"{key}.npy", value)
    constants = run.dsparms.calibconst[name]
    return {
        "expt": run.expt,
        "runnum": run.runnum,
        "arrays": sorted(arrays),
        "ctypes": sorted(constants),
        "geometry": constants.get("geometry", (None,))[0],
        "documents": {ctype: document["_id"] for ctype, (_, document) in constants.items()},
    }


def document() -> dict[str, Any]:
    """Return what psana would send to LCLS's service for an array and for a text."""
    import psana.pscalib.calib.MDBUtils as mu

    value = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    about = {
        "experiment": "exp",
        "run": 3,
        "run_end": "end",
        "ctype": "pedestals",
        "detector": "jungfrau_000001",
    }
    text = "IP 0 \u00e9\n"
    return {
        "array": mu.docdic(value, "6450604a3a7ab9e8b9dc63b2", **about),
        "array_bytes": mu.encode_data(value).hex(),
        "text": mu.docdic(text, "6450604a3a7ab9e8b9dc63b3", **(about | {"ctype": "geometry"})),
        "text_bytes": mu.encode_data(text).hex(),
        "name": mu._doc_detector_name("jungfrau_a-1_b-2", "jungfrau", 1),
    }


def choose(cases: list[dict[str, Any]]) -> list[list[str | None]]:
    """Return for each case what psana takes of an experiment's documents for a run, and of a detector's: their ids."""
    import psana.pscalib.calib.MDBWebUtils as wu

    chosen = []
    for case in cases:
        own = wu.select_doc_in_run_range(case["experiment"], case["run"])
        any_ = wu.select_latest_doc(case["detector"], {})
        chosen.append([one and one["_id"] for one in (own, any_)])
    return chosen


def main(argv: list[str]) -> int:
    """Answer on the real standard output, whatever psana prints."""
    reply = os.dup(1)
    os.dup2(2, 1)
    answer: Any
    if argv == ["--document"]:
        answer = document()
    elif argv[0] == "--choose":
        answer = choose(json.loads(Path(argv[1]).read_text()))
    else:
        answer = read(argv[0], argv[1], Path(argv[2]))
    with os.fdopen(reply, "w") as stream:
        stream.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

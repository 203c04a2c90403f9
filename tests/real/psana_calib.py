"""Calibrate with real psana: constants, configuration and frames from files, results into files.

This script is run by a Python that has psana (`PSANA_PYTHON`), never by the one under test, and must not import anything of this repository: it
is the judge. `psana_calib.py CASES` reads a JSON list of cases and saves what psana answers for each as `<out>.npz`: one array for each
event (`calib0`, `calib1` ...) and `mask`.

A case names the constants to inject (`constants`, an npz by ctype), or none: psana then fetches them itself, from the service that
`LCLS_CALIB_HTTP` names. Its data are those of a recorded `file`, or the frames of `raw` (npz), which are given to the psana class `kind`, made without
any file (`unpack`: only unpacked), with the configuration values of `config` (npz, named "<segment>.<field>"). `detector` and `calib` are keyword arguments.

psana's traps here: detectors and constants are singletons by name, so each case has a name of its own; `calib` keeps the arguments of its
first call for ever; jungfrau's fast `calib` returns one buffer again and again; a mask's options belong to the detector, not to `calib`.
"""

import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

Json = dict[str, Any]


def as_options(given: Json) -> Json:
    """Return keyword arguments: lists as tuples, a `umask` read from the file it names."""
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    if "umask" in options:
        options["umask"] = np.load(options["umask"])
    return options


def injected(path: str) -> Json:
    """Return constants as psana has them: by ctype, with what its log lines ask for."""
    about = {
        "experiment": "none",
        "run": 0,
        "run_orig": 0,
        "run_beg": 0,
        "run_end": "end",
        "ctype": "",
        "detname": "",
    }
    with np.load(path) as file:
        return {name: (np.array(file[name]), about) for name in file.files}


def class_of(name: str) -> Any:
    """Return a psana detector class by its module and name; the module of the emulated epixHR needs a library that its raw data do not."""
    import importlib

    module, _, kind = name.partition(".")
    if module == "epixhremu":
        sys.modules.setdefault("libpressio", types.ModuleType("libpressio"))
    return getattr(importlib.import_module(f"psana.detector.{module}"), kind)


def made(case: Json, name: str) -> Any:
    """Return a detector's alg object of a psana class, that no file is behind."""
    segments = case["segments"]
    configs: dict[int, Any] = {
        segment: types.SimpleNamespace(config=types.SimpleNamespace()) for segment in segments
    }
    if "config" in case:
        with np.load(case["config"]) as file:
            for key in file.files:
                segment, _, field = key.partition(".")
                setattr(configs[int(segment)].config, field, np.array(file[key]))
    info = types.SimpleNamespace(
        configs=[types.SimpleNamespace(**{name: configs})],
        sorted_segment_ids=segments,
        uniqueid="_".join(["none", *(f"panel{one}" for one in segments)]),
        dettype="none",
    )
    return class_of(case["kind"])(
        name, "raw", info, injected(case["constants"]), **as_options(case["detector"])
    )


def calibrate(raw: Any, events: list[Any], options: Json) -> list[Any]:
    """Return copies of what psana makes of each event."""
    return [np.array(raw.calib(event, **options)) for event in events]


def answer(case: Json, name: str) -> Json:
    """Return psana's arrays of one case by name."""
    options = as_options(case["calib"])
    if "file" in case:
        arrays, raw = from_file(case, options)
    else:
        raw = made(case, name)
        with np.load(case["raw"]) as file:
            frames = [file[key] for key in file.files]
        arrays = []
        for frame in frames:
            if "unpack" in case:
                arrays.append(raw._descramble_3d_frames(frame))
                continue
            raw.raw = lambda *_, frame=frame, **__: frame.copy()
            arrays += calibrate(raw, [object()], options)
    found = {f"calib{number}": array for number, array in enumerate(arrays)}
    mask = raw._mask()
    return found if mask is None else found | {"mask": mask}


def from_file(case: Json, options: Json) -> tuple[list[Any], Any]:
    """Calibrate the events of a recorded file."""
    from psana import DataSource

    skip = {} if case.get("constants") is None else {"skip_calib_load": "all"}
    run = next(DataSource(files=[case["file"]], **skip).runs())
    detector = run.Detector(case["name"], **as_options(case["detector"]))
    if skip:
        detector.raw._calibconst = injected(case["constants"])
    arrays = [np.array(detector.raw.calib(event, **options)) for event in run.events()]
    return arrays, detector.raw


def timed(case: Json, name: str) -> Json:
    """Return the seconds of this thread for each of `repeat` calls of calib, after two that are not counted."""
    raw = made(case, name)
    with np.load(case["raw"]) as file:
        frames = [file[key] for key in file.files]
    raw.raw = lambda event, *_, **__: event
    options = as_options(case["calib"])
    seconds = []
    for turn in range(case["repeat"] + 2):
        began = time.thread_time()
        raw.calib(frames[turn % len(frames)], **options)
        seconds.append(time.thread_time() - began)
    return {"seconds": np.array(seconds[2:])}


def main(argv: list[str]) -> int:
    """Answer every case; what psana prints goes to standard error."""
    os.dup2(2, 1)
    for number, case in enumerate(json.loads(Path(argv[0]).read_text())):
        found = timed(case, f"timed{number}") if "repeat" in case else answer(case, f"case{number}")
        np.savez(case["out"], **found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

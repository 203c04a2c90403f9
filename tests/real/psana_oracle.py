"""Say in JSON what real psana reads in an xtc2 file or run.

This script is run by a Python that has psana (`PSANA_PYTHON`), never by the one under test, and must not
import anything of this repository: it is the judge. `psana_oracle.py --help` lists what it can be asked. The
JSON goes to standard output, alone: psana and the libraries under it print there too, so descriptor 1 is
pointed at standard error before they are loaded.

Two levels of psana are asked. `dgrams` decodes each dgram of one file with `psana.dgram.Dgram`, and answers
in the shape of the golden files. `files` and `run` open the data as a user does, with `DataSource`, and go
through runs, steps and events.

psana's traps, each met here once:

* `DataSource` fetches calibration constants at every run unless `skip_calib_load="all"`.
* `DataSource(exp=, run=, dir=)` first asks the experiment's logbook over the network which streams there are,
  and fails where there is no network; told that the logbook knows nothing it looks at the directory.
* At the end of a file `DataSource` sleeps a second before each of its last tries. `Dgram(view=...)` reads
  from memory and does not.
* A malformed dgram aborts the process: the caller must be ready for a return code of -6.
* Names that match in detector, segment and alg are merged in one container, so a ShapesData need not have all
  its fields.
"""

import argparse
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER_BYTES = 24
SERVICES = (
    "ClearReadout",
    "Reset",
    "Configure",
    "Unconfigure",
    "BeginRun",
    "EndRun",
    "BeginStep",
    "EndStep",
    "Enable",
    "Disable",
    "SlowUpdate",
    "L1Accept_EndOfBatch",
    "L1Accept",
)
DATA_TYPES = (
    ("UINT8", "|u1"),
    ("UINT16", "<u2"),
    ("UINT32", "<u4"),
    ("UINT64", "<u8"),
    ("INT8", "|i1"),
    ("INT16", "<i2"),
    ("INT32", "<i4"),
    ("INT64", "<i8"),
    ("FLOAT", "<f4"),
    ("DOUBLE", "<f8"),
    ("CHARSTR", "str"),
    ("ENUMVAL", "enum"),
    ("ENUMDICT", "enum"),
)
ENUMVAL, ENUMDICT = 11, 12
Json = dict[str, Any]
# Number of the data type of every field, by dotted name, for each detector, segment and alg.
Schema = dict[tuple[str, int, str], dict[str, int]]


def public(container: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of what a psana container holds, psana's own entries left out."""
    for name, value in vars(container).items():
        if not name.startswith("_"):
            yield name, value


def schema_of(config: Any) -> Schema:
    """Return the data type of every field that a Configure declares."""
    schema: Schema = {}
    for det, segments in vars(config.software).items():
        for seg, detector in segments.items():
            for alg, tree in vars(detector).items():
                if alg in ("dettype", "detid"):
                    continue
                types: dict[str, int] = {}
                collect_types(tree, "", types)
                schema[det, seg, alg] = types
    return schema


def collect_types(tree: Any, prefix: str, types: dict[str, int]) -> None:
    """Add the data types of the fields below `tree`, an enum under its name without the enum's type."""
    for name, node in vars(tree).items():
        if not hasattr(node, "__dict__"):
            continue
        number = vars(node).get("_type")
        if number is None:
            collect_types(node, f"{prefix}{name}.", types)
        elif number == ENUMVAL:
            types[prefix + name.split(":", 1)[0]] = number
        elif number != ENUMDICT:
            types[prefix + name] = number


def field_values(container: Any, prefix: str, types: dict[str, int]) -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of every field that one dgram has of one alg."""
    for name, value in public(container):
        if prefix + name in types:
            yield prefix + name, value
        elif hasattr(value, "__dict__"):
            yield from field_values(value, f"{prefix}{name}.", types)


def describe_value(number: int, value: Any, keep: Path | None = None) -> Json:
    """Return type, dtype, shape and the value, or an array's digest; `keep` is where to save the array."""
    name, dtype = DATA_TYPES[number]
    if number == ENUMVAL:
        names = {str(key): label for key, label in getattr(value, "names", {}).items()}
        return {"type": name, "dtype": dtype, "shape": [], "value": value.value, "names": names}
    if not hasattr(value, "shape"):
        return {"type": name, "dtype": dtype, "shape": [], "value": value}
    raw = value.tobytes()
    array = {
        "type": name,
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "nbytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    if keep is not None:
        keep.write_bytes(raw)
        array["file"] = str(keep)
    return array


def detectors_of(dgram: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield detector, segment and container of everything in a dgram."""
    for det, segments in public(dgram):
        if det != "software" and isinstance(segments, dict):
            for seg, detector in segments.items():
                yield det, seg, detector


def describe_dgram(dgram: Any, schema: Schema, keep: Path | None = None) -> Json:
    """Return one dgram in the shape of the golden files; arrays are saved where `keep` begins."""
    fields = []
    damage = []
    for det, seg, detector in detectors_of(dgram):
        for alg, container in public(detector):
            if (det, seg, alg) not in schema or not hasattr(container, "__dict__"):
                continue
            damage.append([det, seg, alg, container._xtc.damage])
            types = schema[det, seg, alg]
            for field, value in field_values(container, "", types):
                where = {"det": det, "seg": seg, "alg": alg, "field": field}
                file = keep and keep.with_name(f"{keep.name}-{det}-{seg}-{alg}-{field}")
                fields.append(where | describe_value(types[field], value, file))
    service = dgram.service()
    return {
        "timestamp": dgram.timestamp(),
        "service": service,
        "service_name": SERVICES[service],
        "env": dgram.env(),
        "damage": dgram._xtc.damage,
        "xtc_damage": damage,
        "fields": fields,
    }


def describe_names(config: Any) -> list[Json]:
    """Return what a Configure declares: a detector, segment and alg each."""
    return [
        {
            "det": det,
            "seg": seg,
            "alg": alg,
            "dettype": detector.dettype,
            "detid": detector.detid,
            "software": tree.software,
            "version": list(tree.version),
        }
        for det, segments in vars(config.software).items()
        for seg, detector in segments.items()
        for alg, tree in vars(detector).items()
        if alg not in ("dettype", "detid")
    ]


def split(buffer: Any) -> Iterator[tuple[int, int]]:
    """Yield offset and size of every whole dgram; what is left over is a truncated tail."""
    offset = 0
    while offset + HEADER_BYTES <= len(buffer):
        size = 12 + int.from_bytes(buffer[offset + 20 : offset + 24], "little")
        if size < HEADER_BYTES or offset + size > len(buffer):
            return
        yield offset, size
        offset += size


def read_dgrams(path: Path, config_path: Path | None, arrays: Path | None) -> Json:
    """Decode each dgram of one file; a later chunk has no Configure and needs that of the first."""
    from psana.dgram import Dgram

    config = None
    if config_path is not None:
        config = Dgram(view=config_path.read_bytes())
    with path.open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    dgrams, configs = [], []
    end = 0
    for index, (offset, size) in enumerate(split(buffer)):
        raw = buffer[offset : offset + size]
        dgram = Dgram(view=raw) if config is None else Dgram(view=raw, config=config)
        if dgram.service() == SERVICES.index("Configure"):
            dgram = config = Dgram(view=raw)
            configs.append({"dgram_index": index, "names": describe_names(config)})
        place = {"index": index, "offset": offset, "size": size, "sha256": hashlib.sha256(raw).hexdigest()}
        dgrams.append(place | describe_dgram(dgram, schema_of(config), arrays and arrays / str(index)))
        end = offset + size
    return {"filesize": len(buffer), "tail_bytes": len(buffer) - end, "configs": configs, "dgrams": dgrams}


def describe_event(event: Any, schemas: list[Schema], detectors: list[tuple[str, Any]]) -> Json:
    """Return one built event: each stream, None where it gave nothing, and each detector's whole raw."""
    streams = [
        None if dgram is None else describe_dgram(dgram, schema)
        for dgram, schema in zip(event._dgrams, schemas, strict=True)
    ]
    answer: Json = {"timestamp": event.timestamp, "streams": streams, "raw": {}}
    for name, detector in detectors:
        raw = detector.raw.raw(event)
        answer["raw"][name] = None if raw is None else describe_value(type_number(raw), raw)
    return answer


def type_number(array: Any) -> int:
    """Return the data type that an array's dtype stands for."""
    return next(number for number, (_, dtype) in enumerate(DATA_TYPES) if dtype == array.dtype.str)


def read_run(run: Any, names: list[str], by_steps: bool) -> Json:
    """Go through one run as a user does."""
    schemas = [schema_of(config) for config in run.configs]
    detectors = [(name, run.Detector(name)) for name in names]
    answer: Json = {
        "expt": run.expt,
        "runnum": run.runnum,
        "timestamp": run.timestamp,
        "detnames": sorted(run.detnames),
        "detinfo": sorted([list(key), sorted(value)] for key, value in run.detinfo.items()),
        "xtcinfo": sorted(list(entry) for entry in run.xtcinfo),
        "scaninfo": sorted(list(key) for key in run.scaninfo),
    }
    if by_steps:
        answer["steps"] = [
            {
                "timestamp": step.evt.timestamp,
                "events": [describe_event(event, schemas, detectors) for event in step.events()],
            }
            for step in run.steps()
        ]
    else:
        answer["events"] = [describe_event(event, schemas, detectors) for event in run.events()]
    return answer


def read_source(names: list[str], by_steps: bool, **where: Any) -> Json:
    """Open data with psana's DataSource and go through all its runs."""
    from psana import DataSource
    from psana.psexp import ds_base

    ds_base.DataSourceBase._get_file_info_from_db = lambda *_: {}  # there is no logbook to ask
    source = DataSource(skip_calib_load="all", **where)
    return {"runs": [read_run(run, names, by_steps) for run in source.runs()]}


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    dgrams = commands.add_parser("dgrams", help="every dgram of one file, transitions included")
    dgrams.add_argument("file", type=Path)
    dgrams.add_argument("--config", type=Path, help="file whose first dgram is the Configure that applies")
    dgrams.add_argument("--arrays", type=Path, help="folder to save the bytes of every array in")
    files = commands.add_parser("files", help="DataSource(files=[...])")
    files.add_argument("file", type=Path)
    run = commands.add_parser("run", help="DataSource(exp=, run=, dir=): through the smalldata files")
    run.add_argument("exp")
    run.add_argument("run", type=int)
    run.add_argument("dir", type=Path)
    for command in (files, run):
        command.add_argument(
            "--detector", action="append", default=[], help="give det.raw.raw(evt) of this one too"
        )
        command.add_argument("--steps", action="store_true", help="go through run.steps(), not run.events()")
    return parser.parse_args(argv)


def answer(options: argparse.Namespace) -> Json:
    """Do what the command line asks."""
    if options.command == "dgrams":
        return read_dgrams(options.file, options.config, options.arrays)
    if options.command == "files":
        return read_source(options.detector, options.steps, files=[str(options.file)])
    return read_source(
        options.detector, options.steps, exp=options.exp, run=options.run, dir=str(options.dir)
    )


def main(argv: list[str]) -> int:
    """Answer on the real standard output, whatever psana prints."""
    options = parse(argv)
    reply = os.dup(1)
    os.dup2(2, 1)
    text = json.dumps(answer(options))
    with os.fdopen(reply, "w") as stream:
        stream.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

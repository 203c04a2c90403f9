"""`calib get`, `calib ls` and `calib history`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from calib.cli import options
from calib.errors import ConstantsMissing
from calib.model import Constant, DetectorId, known_ctype
from calib.opening import open_source
from calib.store import Record


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    get = commands.add_parser(
        "get",
        help="find the constant that is valid for a run",
        description="Find the constant that is valid for a run, for the panels asked, and say or write what it is.",
    )
    options.add_detector(get)
    get.add_argument("ctype", metavar="CTYPE", help=options.ctype_help())
    get.add_argument(
        "--run", type=options.run_number, default=0, metavar="N", help="the run (default: 0, the latest)"
    )
    get.add_argument("--experiment", metavar="NAME", help="of this experiment, or of the detector")
    get.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it: .npy, or text")
    options.add_store(get)
    get.set_defaults(call=_get)
    listing = commands.add_parser("ls", help="list detectors and the types of constants they have")
    listing.add_argument("detector", nargs="?", metavar="DET", help="a name, a type or a short name")
    options.add_store(listing)
    listing.set_defaults(call=_list)
    history = commands.add_parser("history", help="list all that was put, oldest first")
    history.add_argument("detector", nargs="?", metavar="DET", help="a name, a type or a short name")
    history.add_argument("ctype", nargs="?", metavar="CTYPE", help="of this type only")
    history.add_argument("--experiment", metavar="NAME", help="of this experiment only")
    history.add_argument(
        "--id", type=options.record_id, metavar="ID", help="this one only, as drp records it"
    )
    history.add_argument(
        "--digest",
        type=options.digest_start,
        metavar="HEX",
        help="only those whose digest begins so, as drp records it (put_digest)",
    )
    options.add_store(history)
    history.set_defaults(call=_history)


def _get(arguments: argparse.Namespace) -> int:
    known_ctype(arguments.ctype)
    detector = options.the_detector(arguments)
    source = open_source(options.store_url(arguments))
    try:
        found = source.find(detector, arguments.experiment, arguments.run, ctypes=[arguments.ctype])
    finally:
        source.close()
    if arguments.ctype not in found:
        raise ConstantsMissing(
            f"there is no constant {arguments.ctype} of {detector} for {f'run {arguments.run}' if arguments.run else 'the latest run'}",
            where=source.url,
            hint="calib ls shows what there is.",
        )
    constant = found[arguments.ctype]
    if arguments.output is None:
        print("\n".join(_tell(detector, constant)))
    elif isinstance(constant.value, str):
        arguments.output.write_text(constant.value)
    else:
        with arguments.output.open("wb") as file:
            np.save(file, constant.value, allow_pickle=False)
    return 0


def _tell(detector: DetectorId, constant: Constant) -> list[str]:
    end = "" if constant.run_end is None else str(constant.run_end)
    lines = [
        f"{constant.ctype} of {detector}: {constant.experiment or 'any experiment'}, runs {constant.run}-{end}",
        f"  id {constant.id}, digest {constant.digest}",
    ]
    if constant.put_digest != constant.digest:
        lines.append(f"  these panels of what was put with digest {constant.put_digest}")
    lines += [f"  {name} {text}" for name in ("version", "comment") if (text := getattr(constant, name))]
    if isinstance(constant.value, str):
        return [*lines, constant.value]
    value = constant.value
    finite = value[np.isfinite(value)]
    span = (
        f"{finite.min():.6g} to {finite.max():.6g}, mean {finite.mean(dtype=np.float64):.6g}"
        if finite.size
        else "all NaN or infinite"
    )
    some = f", {value.size - finite.size} values NaN or infinite" if 0 < finite.size < value.size else ""
    return [
        *lines,
        f"  panels {', '.join(constant.serials) or '-'}",
        f"  {value.dtype.name} {value.shape}, {span}{some}",
    ]


def _list(arguments: argparse.Namespace) -> int:
    with options.open_own(arguments) as store:
        records = store.history(name=arguments.detector)
    by_detector: dict[str, list[Record]] = {}
    for record in records:
        by_detector.setdefault(record.detector.short_name, []).append(record)
    for short, mine in sorted(by_detector.items()):
        names = ", ".join(sorted({record.detname for record in mine}))
        panels = mine[0].panels
        print(f"{short}  {names}  {len(panels)} panel{'s'[: len(panels) != 1]}: {', '.join(panels)}")
        for ctype in sorted({record.ctype for record in mine}):
            of_type = [record for record in mine if record.ctype == ctype]
            experiments = sorted({record.experiment or "-" for record in of_type})
            newest = of_type[-1]
            print(
                f"  {ctype:<13} {len(of_type):4d} put, newest id {newest.id} {options.short_digest(newest)} "
                f"{options.describe_value(newest)}, of {', '.join(experiments)}"
            )
    if not records:
        print("nothing")
    return 0


def _history(arguments: argparse.Namespace) -> int:
    if arguments.ctype is not None:
        known_ctype(arguments.ctype)
    with options.open_own(arguments) as store:
        records = store.history(
            name=arguments.detector, ctype=arguments.ctype, experiment=arguments.experiment
        )
    records = [
        record
        for record in records
        if arguments.id in (None, record.id) and record.digest.startswith(arguments.digest or "")
    ]
    for record in records:
        print(options.describe(record))
    if not records:
        print("nothing")
        if arguments.digest:
            print(
                "calib: looked for was a put_digest; the digest of a run, or of some of the panels that were put, is in no store",
                file=sys.stderr,
            )
    return 0

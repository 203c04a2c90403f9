"""`calib dark`: pedestals, rms and status from a dark run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from calib.cli import options
from calib.errors import CalibError, StoreError
from calib.model import Constant, DetectorId
from calib.store import check_put, open_store, write_archive
from xtc import XtcError

if TYPE_CHECKING:
    from calib.dark import DarkConstants, Thresholds

_DESCRIPTION = """\
Make pedestals, rms and status of a dark run from xtc2 files: raw frames, or the sums that the script
fex_scripts/dark.py recorded. A gain range is measured by a step in which the pixels are held in it; steps
may come in any order, and files may hold the panels of several drp processes."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    dark = commands.add_parser(
        "dark",
        help="make pedestals, rms and status from a dark run",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dark.add_argument("files", type=Path, nargs="+", metavar="FILE", help="xtc2 file; later chunks are found")
    dark.add_argument("--detector", metavar="DET", help="its name (default: the only one with frames)")
    where = dark.add_argument_group("what becomes of them (at least one)")
    where.add_argument("-o", "--output", type=Path, metavar="FILE", help="write an archive for calib import")
    where.add_argument("--put", action="store_true", help="put them in the store")
    where.add_argument(
        "--force",
        action="store_true",
        help="put them even of few frames, of panels with most pixels bad, or not of all gain ranges",
    )
    options.add_store(where)
    about = dark.add_argument_group("what they are said to be")
    about.add_argument(
        "--run",
        type=options.run_range,
        metavar="N[-M]",
        help="runs that they are valid for (default: from the dark run on)",
    )
    about.add_argument(
        "--experiment", metavar="NAME", help='valid in this one (default: the file\'s; "": any)'
    )
    about.add_argument("--label", default="", metavar="TEXT", help="a version of yours")
    about.add_argument("--comment", metavar="TEXT", help="a comment (default: from which files)")
    _add_thresholds(dark)
    dark.set_defaults(call=_dark)


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    bad = parser.add_argument_group("what makes a pixel bad (defaults as in LCLS's dark processing)")
    for name, default, text in (
        ("lowest", 1, "data values below are not averaged, and count as low"),
        (
            "highest",
            None,
            "data values above are not averaged, and count as saturated (default: largest - 1)",
        ),
        ("average-sigmas", 6.0, "an average so many standard deviations from the panel's mean is bad"),
        ("rms-sigmas", 6.0, "the same for the rms"),
        ("rms-lowest", 0.001, "an rms below is bad in any case"),
        ("rms-highest", None, "an rms above is bad in any case (default: largest - 1)"),
        ("share", 0.1, "of the events that may be low, saturated, or in another gain range"),
    ):
        shown = text if default is None else f"{text} (default: {default:g})"
        kind = int if name in ("lowest", "highest") else float
        bad.add_argument(f"--{name}", type=kind, default=default, metavar="X", help=shown)


def _dark(arguments: argparse.Namespace) -> int:
    if arguments.output is None and not arguments.put:
        raise CalibError("what shall become of the constants?", hint="Say -o FILE, or --put.")
    url = options.store_url(arguments)
    if arguments.put and options.is_service(url):
        raise StoreError(
            "calib dark puts into the store itself, not through a service",
            where=url,
            hint="Say -o FILE, and send it with calib import --store URL --token-file FILE.",
        )
    from calib.dark import DarkBuilder, Limits, read_steps  # noqa: PLC0415 - numba is heavy for the other subcommands

    limits = Limits(arguments.lowest, arguments.highest)
    builder = DarkBuilder()
    try:
        for path in arguments.files:
            for step in read_steps(path, arguments.detector, limits):
                builder.add(step)
    except XtcError as error:
        raise CalibError(str(error), hint="xtc check FILE tells what is wrong with a file.") from error
    made = builder.build(_thresholds(arguments))
    for line in report(made):
        print(line)
    detector = DetectorId(made.detname, made.dettype, made.serials)
    constants = as_constants(arguments, made)
    if arguments.output is not None:
        with arguments.output.open("wb") as file:
            write_archive(file, [(detector, one) for one in constants])
        print(f"{len(constants)} constants in {arguments.output}")
    if arguments.put and not arguments.force:
        _refuse_doubtful(made)
    if arguments.put:
        for one in constants:
            check_put(detector, one)  # before a store is made for them
        with open_store(url, create=True) as store:
            for record in store.put(detector, constants):
                print(f"{record} in {store.url}")
    return 0


def _refuse_doubtful(made: DarkConstants) -> None:
    """Raise CalibError where what is put now would be taken instead of better constants."""
    doubts = [*made.doubts]
    if made.missing:
        doubts.append(f"{', '.join(made.missing)} not measured")
    if doubts:
        more = f"; and {len(doubts) - 4} more" if len(doubts) > 4 else ""
        raise CalibError(
            f"not put, because the newest constants are those that are used: {'; '.join(doubts[:4])}{more}",
            where=made.detname,
            hint="Say --force if they are to be used nevertheless.",
        )


def _thresholds(arguments: argparse.Namespace) -> Thresholds:
    from calib.dark import Thresholds  # noqa: PLC0415 - as above

    return Thresholds(
        lowest=arguments.lowest,
        highest=arguments.highest,
        average_sigmas=arguments.average_sigmas,
        rms_lowest=arguments.rms_lowest,
        rms_highest=arguments.rms_highest,
        rms_sigmas=arguments.rms_sigmas,
        share=arguments.share,
    )


def as_constants(arguments: argparse.Namespace, made: DarkConstants) -> list[Constant]:
    """Return what is put: for the runs and the experiment that the options name, or the dark run's own."""
    begin, end = arguments.run or (made.run, None)
    experiment = made.experiment if arguments.experiment is None else arguments.experiment
    comment = arguments.comment
    if comment is None:
        comment = "dark run " + ", ".join(path.name for path in arguments.files[:8])
    return [
        Constant.make(
            ctype,
            value,
            made.serials,
            experiment=experiment,
            run=begin,
            run_end=end,
            version=arguments.label,
            comment=comment,
            created=time.time(),
        )
        for ctype, value in made.values.items()
    ]


def report(made: DarkConstants) -> list[str]:
    """Return what was found, a line for each panel and gain range, and a warning where ranges were not measured."""
    from calib.dark import STATUS_BITS  # noqa: PLC0415 - as above

    lines = [
        f"{made.detname} ({made.dettype}), {len(made.serials)} panel{'s'[: len(made.serials) != 1]}, "
        f"{made.experiment or 'no experiment'} run {made.run}"
    ]
    places = {serial: at for at, serial in enumerate(made.serials)}
    for (serial, part, number), one in made.results.items():
        asic = f".{part}" if any(key[1] for key in made.results) else ""
        bad = ", ".join(f"{count} {STATUS_BITS[bit]}" for bit, count in one.bad.items() if count)
        lines.append(
            f"  panel {places[serial]}{asic} {made.ranges[number]:<6} {one.events:6d} frames  "
            f"pedestal {one.pedestal:9.2f}  rms {one.noise:7.3f} ADU  bad: {bad or 'none'}"
        )
    if made.missing:
        lines.append(f"not measured, left NaN: {', '.join(made.missing)}")
    lines += [f"doubtful: {one}" for one in made.doubts]
    return lines

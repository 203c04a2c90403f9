"""`calib show`: maps and histograms of constants, as PNG files. Matplotlib is imported only to draw."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from calib.cli import options
from calib.cli.options import DIGEST_CHARS
from calib.errors import CalibError, ConstantsMissing
from calib.model import Constant, DetectorId, known_ctype
from calib.opening import open_source
from calib.store import read_archive

_DESCRIPTION = """\
Draw a map and a histogram of each gain range of constants into PNG files, DETECTOR-CTYPE-rRUN.png: of an
archive that calib dark or calib export made, or of a detector in the store. Where an archive has several of
one name, their digests are in it too, as calib history shows them."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    show = commands.add_parser(
        "show",
        help="draw maps and histograms of constants",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_detector(show, "DET|FILE", "a detector's name, or an archive of constants")
    show.add_argument(
        "ctypes", nargs="*", metavar="CTYPE", help="which types (default: all that have pixels)"
    )
    show.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder (default: this one)"
    )
    show.add_argument(
        "--run",
        type=options.run_number,
        default=0,
        metavar="N",
        help="valid for this run (default: 0, the latest)",
    )
    show.add_argument("--experiment", metavar="NAME", help="of this experiment, or of the detector")
    options.add_store(show)
    show.set_defaults(call=_show)


def _show(arguments: argparse.Namespace) -> int:
    for ctype in arguments.ctypes:
        known_ctype(ctype)
    found = _archive(arguments) if Path(arguments.detector).is_file() else _stored(arguments)
    try:
        from calib.draw import draw_constant  # noqa: PLC0415 - matplotlib is heavy, and an extra
    except ImportError as error:
        raise CalibError(f"drawing needs matplotlib: {error}", hint="pip install 'drp[plot]'") from error
    arguments.output.mkdir(parents=True, exist_ok=True)
    geometries: dict[DetectorId, str] = {}
    pictures = []
    for detector, constant in found:
        if isinstance(constant.value, str):
            if constant.ctype == "geometry":
                geometries[detector] = constant.value
        elif constant.value.ndim >= 2 and (not arguments.ctypes or constant.ctype in arguments.ctypes):
            pictures.append((detector, constant))
    names = Counter(_name(detector, constant) for detector, constant in pictures)
    drawn: set[str] = set()
    for detector, constant in pictures:
        name = _name(detector, constant)
        if names[name] > 1:  # of several experiments, panels or puts: the digest tells which
            name = f"{name}-{constant.digest[:DIGEST_CHARS]}"
        if name in drawn:
            continue
        path = arguments.output / f"{name}.png"
        draw_constant(detector, constant, path, geometry=geometries.get(detector))
        print(path)
        drawn.add(name)
    if not drawn:
        raise ConstantsMissing(
            "there is nothing to draw", where=arguments.detector, hint="calib ls shows what there is."
        )
    return 0


def _name(detector: DetectorId, constant: Constant) -> str:
    return f"{detector.name}-{constant.ctype}-r{constant.run:04d}"


def _archive(arguments: argparse.Namespace) -> Iterator[tuple[DetectorId, Constant]]:
    with Path(arguments.detector).open("rb") as file:
        yield from read_archive(file, arguments.detector)


def _stored(arguments: argparse.Namespace) -> Iterable[tuple[DetectorId, Constant]]:
    detector = options.the_detector(arguments)
    source = open_source(options.store_url(arguments))
    try:
        found = source.find(detector, arguments.experiment, arguments.run)
    finally:
        source.close()
    return [(detector, one) for one in found.values()]

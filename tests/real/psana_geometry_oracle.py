"""Say what real psana makes of geometries: coordinates, indexes and images, as arrays in an .npz file.

This script is run by a Python that has psana (`PSANA_PYTHON`), never by the one under test, and must not
import anything of this repository: it is the judge. `psana_geometry_oracle.py --help` lists what it can be
asked.

psana's traps, each met here once:

* It keeps its map of pixels from the first image on, whatever options later ones are asked with: the map is
  thrown away before each. And the first image must not be asked with `mapmode` or `fillholes`, which end in a
  TypeError: an image without them is drawn before.
* It finds no bins that several pixels fall in, since it goes twice through one `zip`; so the largest and the
  mean of them come out as the last. `--mended` lets it go through a list.
* mapmode 4 ends in an AttributeError.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def read(text: Path) -> Arrays:
    """Return coordinates and indexes as they come, and indexes with every option set."""
    geometry = opened(text)
    size = geometry.get_pixel_scale_size()
    x, y, z = geometry.get_pixel_coords()
    at_x, at_y = geometry.get_pixel_xy_at_z(zplane=-90000.0)
    lab_x, lab_y, lab_z = geometry.get_pixel_coords(do_tilt=False, cframe=1)
    rows, cols = geometry.get_pixel_coord_indexes()
    other = {"pix_scale_size_um": size * 1.3, "xy0_off_pix": (7, 3), "do_tilt": False, "cframe": 1}
    other_rows, other_cols = geometry.get_pixel_coord_indexes(**other)
    place = geometry.point_coord_indexes(p_um=(0, 0), fract=True)
    return {
        "x": x,
        "y": y,
        "z": z,
        "at_x": at_x,
        "at_y": at_y,
        "lab_x": lab_x,
        "lab_y": lab_y,
        "lab_z": lab_z,
        "rows": rows,
        "cols": cols,
        "other_rows": other_rows,
        "other_cols": other_cols,
        "place": np.array(place),
        "size": np.array(size),
        "areas": geometry.get_pixel_areas(),
    }


def opened(text: Path) -> Any:
    """Return psana's geometry of a text."""
    from psana.pscalib.geometry.GeometryAccess import GeometryAccess

    geometry = GeometryAccess()
    geometry.load_pars_from_str(text.read_text())
    return geometry


def indexes(text: Path) -> Arrays:
    """Read rows and columns alone, of a detector of many pixels."""
    rows, cols = opened(text).get_pixel_coord_indexes()
    return {"rows": rows.astype(np.int32), "cols": cols.astype(np.int32)}


def mask(text: Path) -> Arrays:
    """Read the mask of edges and seams; psana's of the Jungfrau ends in a TypeError."""
    return {"mask": opened(text).get_pixel_mask(edge_rows=2, edge_cols=3, center_rows=1, center_cols=2)}


def default_text(name: str) -> str:
    """Return the text of one of psana's own default geometries."""
    import psana

    folder = Path(psana.__file__).parent / "pscalib" / "geometry" / "data"
    return (folder / f"geometry-def-{name}.data").read_text()


def mapping(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say where pixels go, without those that say how they are drawn."""
    return {name: value for name, value in options.items() if name not in ("mapmode", "fillholes", "vbase")}


def images_of_file(path: Path, name: str, segments: list[int], cases: dict[str, Any]) -> Arrays:
    """Draw the first event's raw data with `det.raw.image`, `segments` of it if any are named."""
    from psana import DataSource

    source = DataSource(files=[str(path)], skip_calib_load="all")
    run = next(source.runs())
    detector = run.Detector(name)
    event = next(run.events())
    raw = detector.raw.raw(event)
    data = raw.reshape(-1, *raw.shape[-2:]).astype(np.float32)
    total = len(data)
    if segments:
        detector.raw._segment_numbers = segments
        data = data[segments]
    pedestals = np.zeros((1, total, *data.shape[1:]), np.float32)
    detector.raw._calibconst = {"pedestals": (pedestals, {"experiment": "none", "run": 0})}
    answer = {"data": data}
    for case, options in cases.items():
        detector.raw._calibc_ = None
        detector.raw.image(event, nda=data, **mapping(options))
        answer[case] = detector.raw.image(event, nda=data, **options)
    detector.raw._calibc_ = None
    rows, cols = detector.raw._pixel_coord_indexes()
    x, y, z = detector.raw._pixel_coords()
    return answer | {"rows": rows, "cols": cols, "x": x, "y": y, "z": z}


def images_of_text(text: Path, data: Path, segments: list[int], cases: dict[str, Any]) -> Arrays:
    """Draw data with what `det.raw.image` draws by, for a geometry text."""
    from psana.detector.calibconstants import CalibConstants

    values = np.load(data)
    answer = {}
    for case, options in cases.items():
        constants = CalibConstants({"geometry": (text.read_text(), {})}, "detector")
        numbers = segments or list(range(len(values)))
        constants.image(values, segnums=numbers, **mapping(options))
        answer[case] = constants.image(values, segnums=numbers, **options)
    return answer


def mend() -> None:
    """Let psana find the bins that several pixels fall in."""
    from psana.detector import UtilsAreaDetector

    UtilsAreaDetector.zip = lambda *several: list(zip(*several, strict=False))


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mended", action="store_true", help="mend the search for shared bins first")
    parser.add_argument("--segments", type=json.loads, default=[], help="only these, as JSON")
    parser.add_argument("--cases", type=json.loads, default={}, help="options of each image, as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    default = commands.add_parser("default", help="the text of one of psana's default geometries, to a file")
    default.add_argument("name")
    texts = (
        ("read", "coordinates and indexes"),
        ("indexes", "indexes alone"),
        ("mask", "mask of edges and seams"),
    )
    for name, what in texts:
        commands.add_parser(name, help=f"{what} of a geometry text").add_argument("text", type=Path)
    of_file = commands.add_parser("file", help="det.raw.image of an xtc2 file's first event")
    of_file.add_argument("file", type=Path)
    of_file.add_argument("detector")
    of_text = commands.add_parser("image", help="images of an array by a geometry text")
    of_text.add_argument("text", type=Path)
    of_text.add_argument("data", type=Path)
    for command in commands.choices.values():
        command.add_argument("out", type=Path)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Do what the command line asks."""
    options = parse(argv)
    if options.mended:
        mend()
    if options.command == "default":
        options.out.write_text(default_text(options.name))
        return 0
    if options.command == "file":
        answer = images_of_file(options.file, options.detector, options.segments, options.cases)
    elif options.command == "image":
        answer = images_of_text(options.text, options.data, options.segments, options.cases)
    else:
        answer = {"read": read, "indexes": indexes, "mask": mask}[options.command](options.text)
    np.savez(options.out, **answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Coordinates, indexes and images beside real psana's: on its default geometries, on ours, and on real frames."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calib.geometry import Geometry
from drp.source import open_source
from drp.source.cameras import CAMERAS, EPIXHR
from tests.real.conftest import psana_environment, python_from
from tests.real.test_simulator import Taken
from xtc import Alg

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ORACLE = Path(__file__).with_name("psana_geometry_oracle.py")
ORACLE_TIMEOUT_S = 120.0
Arrays = dict[str, npt.NDArray[Any]]

# psana's name of each default geometry, and what we call the same.
DEFAULTS = {
    "jungfrau05M": ("jungfrau", 1),
    "jungfrau1M": ("jungfrau", 2),
    "jungfrau4M": ("jungfrau", 5),
    "epix10kaquad": ("epixquad", 4),
    "epixhr2x2": ("epixhr2x2", 1),
    "epixhr1x4-01": ("epixhr1x4", 1),
    "epixhr1x4-20": ("epixhremu", 20),
    "epixm320": ("epixm320", 4),
    "epixuhr": ("epixuhr", 4),
    "epixuhr3x2-02": ("epixuhr3x2", 1),
    "epix100a": ("epix100", 1),
}
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "last": {"mapmode": 1},
    "as it is": {"mapmode": 1, "fillholes": False, "vbase": -5.0},
    "coarse": {"mapmode": 1, "pix_scale_size_um": 130.0, "xy0_off_pix": [10, 20]},
    "untilted": {"mapmode": 1, "do_tilt": False},
    "laboratory": {"mapmode": 1, "cframe": 1},
}
MERGED: dict[str, dict[str, Any]] = {
    "entries": {"mapmode": 0},
    "largest": {"mapmode": 2},
    "mean": {"mapmode": 3, "vbase": 1.5},
    "largest, coarse": {"mapmode": 2, "pix_scale_size_um": 130.0},
    "mean, coarse": {"mapmode": 3, "pix_scale_size_um": 130.0},
}


@dataclass(frozen=True, slots=True)
class GeometryOracle:
    """What real psana makes of geometries."""

    python: Path
    folder: Path

    def ask(self, *question: object, **options: Any) -> Arrays:
        """Run the oracle; `options` are its own, before the command."""
        out = self.folder / "answer.npz"
        words = [
            f"--{key}" if value is True else f"--{key}={json.dumps(value)}" for key, value in options.items()
        ]
        done = subprocess.run(
            [self.python, ORACLE, *words, *map(str, question), out],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ORACLE_TIMEOUT_S,
            env=psana_environment(),
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"psana ended with {done.returncode} on {question}:\n{done.stderr[-4000:]}")
        if question[0] == "default":
            return {"text": np.array(out.read_text())}
        with np.load(out) as arrays:
            return dict(arrays)

    def read(self, text: str, command: str = "read") -> Arrays:
        """Return coordinates and indexes of a geometry text."""
        return self.ask(command, self.saved(text))

    def images(self, text: str, data: npt.NDArray[Any], cases: dict[str, Any], **options: Any) -> Arrays:
        """Return images of data by a geometry text."""
        np.save(self.folder / "data.npy", data)
        return self.ask("image", self.saved(text), self.folder / "data.npy", cases=cases, **options)

    def saved(self, text: str) -> Path:
        """Write a geometry text to a file."""
        path = self.folder / "geometry.data"
        path.write_text(text)
        return path


@pytest.fixture
def oracle(tmp_path: Path) -> GeometryOracle:
    """Real psana in its own process."""
    return GeometryOracle(python_from("PSANA_PYTHON", "psana"), tmp_path)


def described(geometry: Geometry) -> Arrays:
    """Return of a geometry what the oracle returns."""
    size = geometry.segment.scale_um
    x, y, z = geometry.pixel_coords()
    at_x, at_y = geometry.pixel_xy_at_z(-90000.0)
    lab_x, lab_y, lab_z = geometry.pixel_coords(do_tilt=False, cframe=1)
    rows, cols = geometry.pixel_indexes()
    other_rows, other_cols = geometry.pixel_indexes(
        pix_scale_size_um=size * 1.3, xy0_off_pix=(7, 3), do_tilt=False, cframe=1
    )
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
        "place": np.array(geometry.image_place(0, 0)),
        "size": np.array(size),
        "areas": geometry.pixel_areas(),
    }


def differing(ours: Arrays, theirs: Arrays) -> list[str]:
    """Return the names of arrays that are not equal to the last bit."""
    return [name for name, array in ours.items() if not np.array_equal(array, theirs[name])]


def frame(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return data with a different value in each pixel, some below 0."""
    rng = np.random.default_rng(3)
    return rng.normal(20, 30, shape).astype(np.float32)


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_geometries_are_psanas_to_the_last_bit(oracle: GeometryOracle, name: str) -> None:
    theirs = str(oracle.ask("default", name)["text"])
    ours = Geometry.default_for(*DEFAULTS[name])
    answer = oracle.read(theirs)
    if name.startswith("jungfrau"):
        del answer["areas"]  # psana gives each pixel the size of its number
        answer["areas"] = ours.pixel_areas()
    assert differing(described(Geometry.from_text(theirs)), answer) == []
    assert differing(described(ours), answer) == []


def test_indexes_of_the_largest_default_geometry_are_psanas(oracle: GeometryOracle) -> None:
    answer = oracle.read(str(oracle.ask("default", "jungfrau16M")["text"]), "indexes")
    rows, cols = Geometry.default_for("jungfrau", 20).pixel_indexes()
    assert differing({"rows": rows, "cols": cols}, answer) == []


@pytest.mark.parametrize("name", ["epixquad", "epix100", "epixuhr3x2", "epixm320"])
def test_masks_of_edges_and_seams_are_psanas(oracle: GeometryOracle, name: str) -> None:
    geometry = Geometry.default_for(name, 1)
    mask = geometry.pixel_mask(edge_rows=2, edge_cols=3, center_rows=1, center_cols=2)
    np.testing.assert_array_equal(mask, oracle.read(geometry.text(), "mask")["mask"])


TURNED = """
# a nested detector, turned and tilted in every way, with both kinds of matrices' panels
QUAD 0  MTRX:V2:37:53:54.5:54.25 0   1000   -20.5   3   33.3  0   0    0.5 -0.25 1.125
QUAD 0  MTRX:V2:37:53:54.5:54.25 1  -3000.25 40.25 -3   90  180  12    0 0 0
QUAD 1  MTRX:37:53:60:61.5       0   0        0     0  270    0   0    0 0 -3
QUAD 1  MTRX:37:53:60:61.5       1   2500     0     9    0    0 180    1 2  3
BOX  0  QUAD 0   5000 6000 7  45.5 1 2  0 0 0.1
BOX  0  QUAD 1  -5000 6000 7  180  0 0  0 0 0
RAIL 0  BOX  0   1 2 3  0 0 0  0.01 0.02 0.03
IP   0  RAIL 0   0 0 100000  90 0 0  0 0 0
"""


def test_geometry_turned_in_every_way_is_read_as_psana_reads_it(oracle: GeometryOracle) -> None:
    geometry = Geometry.from_text(TURNED)
    assert differing(described(geometry), oracle.read(TURNED)) == []
    assert differing(described(geometry), oracle.read(geometry.text())) == []


def test_detector_of_a_simulator_is_read_by_psana(oracle: GeometryOracle) -> None:
    panels = [(0, 0, 0), (1500, 0, 0, 90), (0, 2500.5, 0, 0, 0, 0, 0.125)]
    geometry = Geometry.from_panels("MTRX:12:16:100:100", panels, distance_um=50000, rot_z=90)
    assert differing(described(geometry), oracle.read(geometry.text())) == []


@pytest.mark.parametrize(
    ("file", "detector", "dettype"),
    [
        ("test_jungfrau05M_calib.xtc2", "jungfrau", "jungfrau"),
        ("test_epix_calib.xtc2", "epixquad", "epix10ka"),
    ],
)
def test_images_of_real_frames_are_psanas(
    oracle: GeometryOracle, xtc2_data: Path, file: str, detector: str, dettype: str
) -> None:
    answer = oracle.ask("file", xtc2_data / file, detector, cases=CASES)
    geometry = Geometry.default_for(dettype, len(answer["data"]))
    images = {case: geometry.image(answer["data"], **options) for case, options in CASES.items()}
    assert differing(images, answer) == []
    names = ("x", "y", "z", "rows", "cols")
    ours = dict(zip(names, (*geometry.pixel_coords(), *geometry.pixel_indexes()), strict=True))
    assert differing(ours, answer) == []
    mended = oracle.ask("file", xtc2_data / file, detector, cases=MERGED, mended=True)
    merged = {case: geometry.image(answer["data"], **options) for case, options in MERGED.items()}
    assert differing(merged, mended) == []


def test_images_of_a_simulated_epixhr_are_psanas(
    oracle: GeometryOracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the simulator's own 1x4: for that psana takes a class of its tests, which has no image.
    camera = replace(EPIXHR, dettype="epixhr2x2", rows=288, cols=384, raw_alg=Alg("raw", (2, 0, 1)))
    monkeypatch.setitem(CAMERAS, "epixhr", camera)
    source, taken = open_source("sim:epixhr,segments=1,frames=1"), Taken()
    while taken.events_free:
        source.fill(taken)
    (tmp_path / "sim.xtc2").write_bytes(b"".join(taken.dgrams))
    answer = oracle.ask("file", tmp_path / "sim.xtc2", "epixhr", cases=CASES)
    geometry = Geometry.default_for("epixhr2x2", 1)
    images = {case: geometry.image(answer["data"], **options) for case, options in CASES.items()}
    assert differing(images, answer) == []


def test_images_of_some_segments_are_psanas(oracle: GeometryOracle, xtc2_data: Path) -> None:
    cases = CASES | {"missing": {"mapmode": 1, "value_for_missing_segments": 7.0}}
    answer = oracle.ask("file", xtc2_data / "test_epix_calib.xtc2", "epixquad", cases=cases, segments=[1, 2])
    geometry = Geometry.default_for("epix10ka", 4)
    images = {
        case: geometry.image(answer["data"], segments=(1, 2), **options) for case, options in cases.items()
    }
    assert differing(images, answer) == []


@pytest.mark.parametrize("name", ["epixhremu", "epixuhr", "epix100"])
def test_images_by_default_geometries_are_psanas(oracle: GeometryOracle, name: str) -> None:
    geometry = Geometry.default_for(name, 1)
    data = frame(geometry.shape)
    theirs = oracle.images(geometry.text(), data, {"default": {}})
    assert differing({"default": geometry.image(data)}, theirs) == []
    cases = {case: MERGED[case] for case in ("largest", "mean")}
    mended = oracle.images(geometry.text(), data, cases, mended=True)
    assert differing({case: geometry.image(data, **how) for case, how in cases.items()}, mended) == []

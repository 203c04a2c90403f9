"""Calibrated data are psana's, pixel for pixel: recorded ones, and synthetic ones of every gain code, mode, mask and common mode."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calib_command import served

from calib import Constant, DetectorId, open_source
from calib.detectors import Correction, DetectorSetup, MaskOptions, correction_type, setups_of
from calib.detectors.epixuhr import EpixUhr
from calib.store import open_store
from tests.calib.detector_frames import Array, constants_of, frame_of, made, setup_of
from tests.calib.plain_corrections import EPS, inverse
from tests.conftest import find_test_data
from tests.real.conftest import Psana, psana_environment
from xtc import Reader, TransitionId

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ORACLE = Path(__file__).with_name("psana_calib.py")
FILES = {
    "jungfrau": ("test_jungfrau05M_calib.xtc2", "mfx101332224", 7),
    "epixquad": ("test_epix_calib.xtc2", "ueddaq02", 109),
}
EPIX_GAINS = [16.4, 5.5, 0.16, 16.4, 5.5, 0.16, 0.16]


class Judge:
    """Real psana's calib, asked one question a time."""

    def __init__(self, psana: Psana, folder: Path) -> None:
        self._psana = psana
        self.folder = folder
        self._asked = 0

    def ask(self, *, service: str | None = None, **case: Any) -> dict[str, Array]:
        """Return psana's arrays for one case; it fetches constants itself where `service` has them. Else constants, configuration and frames given as arrays go through files."""
        self._asked += 1
        question: dict[str, Any] = {
            "detector": {},
            "calib": {},
            "out": str(self.folder / f"answer{self._asked}.npz"),
        }
        for key, value in case.items():
            if isinstance(value, Mapping) and any(isinstance(one, np.ndarray) for one in value.values()):
                question[key] = str(self.folder / f"{key}{self._asked}.npz")
                np.savez(question[key], **value)
            else:
                question[key] = value
        cases = self.folder / "cases.json"
        cases.write_text(json.dumps([question]))
        done = subprocess.run(
            [self._psana.python, ORACLE, cases],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            env=psana_environment() | ({"LCLS_CALIB_HTTP": service} if service else {}),
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(question["out"]) as file:
            return {name: file[name] for name in file.files}


@pytest.fixture
def judge(psana: Psana, tmp_path: Path) -> Judge:
    return Judge(psana, tmp_path)


def given_constants() -> dict[str, dict[str, Array]]:
    """The seeded constants that the expected results were made with."""
    data = find_test_data()
    if data is None:
        pytest.skip("no real data: set DRP_TEST_DATA, or put it in shared/data beside the checkout")
    spec = importlib.util.spec_from_file_location("make_constants", data / "make_constants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    constants: dict[str, dict[str, Array]] = module.CONSTANTS
    return constants


def recorded(path: Path, detname: str) -> tuple[DetectorSetup, list[list[Array]]]:
    """A detector's setup and the raw segments of each event of a file."""
    with Reader(path) as reader:
        events = []
        for dgram in reader:
            if dgram.service == TransitionId.Configure:
                setup = setups_of(reader.config, dgram)[detname]
            if dgram.service == TransitionId.L1Accept:
                parts = [
                    one
                    for one in dgram.shapes_data()
                    if (one.names.detname, one.names.alg.name) == (detname, "raw")
                ]
                parts.sort(key=lambda one: one.names.segment)
                column = [[field.name for field in one.names.fields].index("raw") for one in parts]
                events.append([np.array(one.values()[at]) for one, at in zip(parts, column, strict=True)])
        return setup, events


def close(found: Array, expected: Array, constants: Mapping[str, Array]) -> None:
    """Every pixel: |d| <= 1e-5 |x| + 4 eps32 |pedestal / gain|, with the least that this is in any of its gain ranges."""
    gain = constants.get("pixel_gain")
    ratio = np.abs(constants["pedestals"] * (inverse(gain.astype(float)) if gain is not None else 1.0))
    if ratio.ndim == expected.ndim + 1:
        ratio = ratio.min(axis=0)
    over = (
        np.abs(found.astype(float) - expected)
        - 1e-5 * np.abs(expected)
        - 4 * EPS * ratio.reshape(expected.shape)
    )
    at = np.unravel_index(int(over.argmax()), over.shape)
    assert over.max() <= 0, f"{(over > 0).sum()} pixels, worst {at}: {found[at]} for psana's {expected[at]}"


@pytest.mark.parametrize("detname", FILES)
def test_recorded_events_are_as_psana_has_them(judge: Judge, xtc2_data: Path, detname: str) -> None:
    constants = given_constants()[detname]
    path = xtc2_data / FILES[detname][0]
    theirs = judge.ask(file=str(path), name=detname, constants=constants)
    check_recorded(*recorded(path, detname), constants, theirs)
    expected = json.loads((xtc2_data.parent / "calib_expected.json").read_text())[detname]
    for number, one in enumerate(expected):
        assert hashlib.sha256(theirs[f"calib{number}"].tobytes()).hexdigest() == one["calib"]["sha256"]


@pytest.mark.parametrize("detname", FILES)
def test_psana_and_we_calibrate_alike_from_one_service(
    judge: Judge, xtc2_data: Path, tmp_path: Path, detname: str
) -> None:
    name, experiment, run = FILES[detname]
    setup, events = recorded(xtc2_data / name, detname)
    serials = tuple(panel.serial for panel in setup.panels)
    detector = DetectorId(detname, setup.dettype, serials)
    with open_store(str(tmp_path / "calib.sqlite"), create=True) as store:
        made_here = given_constants()[detname].items()
        store.put(
            detector,
            [
                Constant.make(ctype, value, serials, experiment=experiment, run=1)
                for ctype, value in made_here
            ],
        )
    with served(tmp_path, tmp_path / "calib.sqlite") as service:
        theirs = judge.ask(file=str(xtc2_data / name), name=detname, service=service.url)
        source = open_source(service.url)
        found = source.find(detector, experiment, run)
        source.close()
    check_recorded(setup, events, {ctype: one.value for ctype, one in found.items()}, theirs)


def check_recorded(
    setup: DetectorSetup, events: list[list[Array]], constants: dict[str, Any], theirs: dict[str, Array]
) -> None:
    """Calibrate the events of a file and compare with psana's, and the mask."""
    kind = correction_type(setup)
    correction = kind(setup, constants, kind.derive(setup, constants))
    assert np.array_equal(correction.mask(), theirs["mask"].reshape(correction.shape))
    assert len(events) == 2
    for number, segments in enumerate(events):
        close(correction.calib(segments), theirs[f"calib{number}"].reshape(correction.shape), constants)


def jungfrau(segments: int = 2) -> tuple[dict[str, Array], dict[str, Array]]:
    shape = (segments, 512, 1024)
    raw = frame_of(shape, [1, 2, 3], 14, 0x3FFF)
    raw[0, 100:110] += np.arange(10, dtype=np.uint16)[:, None] * 4
    return constants_of((3, *shape), [41.5, -1.39, -0.11]), {"event0": raw, "event1": raw[::-1].copy()}


def compare(
    judge: Judge, correction: Correction, constants: dict[str, Array], frames: dict[str, Array], **case: Any
) -> None:
    """Ask psana and compare every frame and the mask."""
    theirs = judge.ask(
        segments=list(range(len(correction.setup.panels))), constants=constants, raw=frames, **case
    )
    if "mask" in theirs:
        assert np.array_equal(correction.mask(), theirs["mask"].reshape(correction.shape))
    ours = {"cmpars": case["calib"]["cmpars"]} if "cmpars" in case.get("calib", {}) else {}
    for number, frame in enumerate(frames.values()):
        close(correction.calib(frame, **ours), theirs[f"calib{number}"].reshape(correction.shape), constants)


@pytest.mark.parametrize("options", [{}, {"cversion": 0}, {"cversion": 1}])
def test_jungfrau_in_every_gain_code(judge: Judge, options: dict[str, Any]) -> None:
    constants, frames = jungfrau()
    correction = made(setup_of("jungfrau", 2), constants)
    compare(judge, correction, constants, frames, kind="jungfrau.jungfrau_raw_0_2_0", calib=options)


@pytest.mark.parametrize("mode", [1, 2, 4, 7])
def test_jungfrau_common_mode(judge: Judge, mode: int) -> None:
    constants, frames = jungfrau(1)
    correction = made(setup_of("jungfrau", 1), constants)
    options = {"cversion": 0, "cmpars": [7, mode, 200, 10]}
    compare(judge, correction, constants, frames, kind="jungfrau.jungfrau_raw_0_2_0", calib=options)


MASKS: list[dict[str, Any]] = [
    {"status": False, "edges": True},
    {"edges": True, "edge_rows": 3, "edge_cols": 7, "center": True, "center_rows": 2, "center_cols": 5},
    {"status_bits": 0b101, "neighbors": True, "rad": 3, "ptrn": "r"},
    {"neighbors": True, "rad": 4, "ptrn": "c", "gain_range_inds": [1]},
    {"neighbors": True, "rad": 2, "ptrn": "s", "width": 2, "edges": True, "center": True},
    {"calib": True, "gain_range_inds": [0, 2]},
]


MASKED = ("jungfrau", "epix10ka", "epixhr2x2", "epixhremu", "epix100")


# psana's center mask of jungfrau ends with a TypeError.
@pytest.mark.parametrize(
    ("dettype", "options"),
    [
        (dettype, options)
        for dettype in MASKED
        for options in MASKS
        if dettype != "jungfrau" or "center" not in options
    ],
)
def test_masks_are_psanas(judge: Judge, dettype: str, options: dict[str, Any]) -> None:
    setup = setup_of(dettype, 2 if dettype != "epix100" else 1, config=[epix_config(dettype, 0)] * 2)
    kind = correction_type(setup)
    shape = (len(setup.panels), *kind.panel_shape)
    ranges = {"jungfrau": 3, "epix100": 1}.get(dettype, 7)
    constants = constants_of((ranges, *shape) if ranges > 1 else shape, [2.0])
    constants["status_extra"] = np.where(
        np.random.default_rng(5).random(constants["pixel_status"].shape) < 0.001, 2, 0
    ).astype(np.uint64)
    constants["pixel_mask"] = (np.random.default_rng(6).random(shape) < 0.99).astype(np.uint8)
    umask = (np.random.default_rng(7).random(shape) < 0.99).astype(np.uint8)
    np.save(judge.folder / "umask.npy", umask)
    theirs = judge.ask(
        kind=CLASSES[dettype],
        segments=list(range(shape[0])),
        constants=constants,
        raw={"event0": np.zeros(shape, np.uint16)},
        config=written_config(setup),
        detector=options | {"umask": str(judge.folder / "umask.npy")},
    )
    ours = kind(setup, constants, kind.derive(setup, constants), MaskOptions.of(options | {"umask": umask}))
    assert np.array_equal(ours.mask(), theirs["mask"].reshape(shape))
    assert np.array_equal(ours.mask(**options, umask=umask), ours.mask())


CLASSES = {
    "jungfrau": "jungfrau.jungfrau_raw_0_2_0",
    "epix10ka": "epix10ka.epix10ka_raw_2_0_1",
    "epix10ka-3": "epix10ka.epix10ka_raw_3_0_1",
    "epixhr2x2": "epixhr2x2.epixhr2x2_raw_2_0_1",
    "epixhremu": "epixhremu.epixhremu_raw_0_0_1",
    "epix100": "epix100.epix100_raw_2_0_1",
    "epixm320": "epixm320.epixm320_raw_0_1_0",
    "epixuhr3x2": "epixuhr3x2.epixuhr3x2_raw_0_1_0",
    "epixuhr": "epixuhr.epixuhr_raw_3_2_1",
}


def epix_config(dettype: str, seed: int, pixel_bits: tuple[int, ...] = (0, 8, 12)) -> dict[str, object]:
    """A panel's configuration in which every mode occurs; with trbit and data bit those are all seven."""
    rng = np.random.default_rng(seed)
    trbit = np.array([1, 0, 1, 0] if seed % 2 else [0, 1, 1, 0], np.uint8)
    if dettype == "epix10ka-3":
        bits = (
            rng.choice(pixel_bits, (352, 384))
            | 16 * rng.integers(0, 2, (352, 384))
            | rng.integers(0, 4, (352, 384))
        )
        return {
            "cbitsConfig": bits.astype(np.uint8),
            "asicPixelConfig": np.zeros((352, 384), np.uint8),
            "trbit": trbit,
        }
    shape = {"epix10ka": (4, 176, 192), "epixhr2x2": (288 * 384,)}.get(dettype, (144 * 768,))
    pixels = rng.choice(pixel_bits, shape) | rng.integers(0, 4, shape)
    return {"asicPixelConfig": pixels.astype(np.uint8), "trbit": trbit}


def written_config(setup: DetectorSetup) -> dict[str, Array]:
    return {
        f"{panel.segment}.{field}": np.asarray(value)
        for panel in setup.panels
        for field, value in panel.config.items()
    }


def epix(name: str, segments: int = 2) -> tuple[DetectorSetup, dict[str, Array], dict[str, Array]]:
    """A detector of the epix10ka family with all modes, its constants and frames with both gain bits."""
    dettype = name.partition("-")[0]
    setup = setup_of(dettype, segments, config=[epix_config(name, seed) for seed in range(segments)])
    shape = (segments, *setup.panel_shape)
    shift = 14 if dettype == "epix10ka" else 15
    raw = frame_of(shape, [1], shift, 0x3FFF)
    raw[:, 50:70] |= np.uint16(1 << shift)
    return setup, constants_of((7, *shape), EPIX_GAINS), {"event0": raw, "event1": raw[:, ::-1].copy()}


@pytest.mark.parametrize("name", ["epix10ka", "epix10ka-3", "epixhr2x2", "epixhremu"])
def test_epix_in_every_gain_mode(judge: Judge, name: str) -> None:
    setup, constants, frames = epix(name)
    compare(
        judge, made(setup, constants), constants, frames, kind=CLASSES[name], config=written_config(setup)
    )


def test_undefined_gain_bits_of_epix_are_zero_where_psana_has_raw(judge: Judge) -> None:
    setup = setup_of("epix10ka", 1, config=[epix_config("epix10ka", 0, pixel_bits=(4,))])
    constants = constants_of((7, 1, 352, 384), EPIX_GAINS)
    raw = frame_of((1, 352, 384), [1], 14, 0x3FFF)
    correction = made(setup, constants)
    theirs = judge.ask(
        kind=CLASSES["epix10ka"],
        segments=[0],
        constants=constants,
        raw={"event0": raw},
        config=written_config(setup),
    )
    assert np.array_equal(theirs["calib0"], (raw & 0x3FFF) * correction.mask())
    assert not correction.calib(raw).any()


@pytest.mark.parametrize("name", ["epix10ka", "epixhr2x2", "epixhremu"])
@pytest.mark.parametrize("mode", [1, 2, 4, 7])
def test_epix_common_mode(judge: Judge, name: str, mode: int) -> None:
    setup, constants, frames = epix(name, 1)
    compare(
        judge,
        made(setup, constants),
        constants,
        frames,
        kind=CLASSES[name],
        config=written_config(setup),
        calib={"cmpars": [7, mode, 100, 10]},
    )


def test_epix_common_mode_of_all_gains(judge: Judge) -> None:
    setup, constants, frames = epix("epix10ka", 1)
    case = {"kind": CLASSES["epix10ka"], "config": written_config(setup)}
    compare(judge, made(setup, constants), constants, frames, calib={"cmpars": [6, 7, 100, 10]}, **case)


@pytest.mark.parametrize("cmpars", [None, [0, 1, 100, 10], [0, 7, 100, 10]])
def test_epix100(judge: Judge, cmpars: list[int] | None) -> None:
    shape = (1, 704, 768)
    constants = constants_of(shape, [16.0])
    frames = {"event0": frame_of(shape, [], 0, 0xFFFF)}
    correction = made(setup_of("epix100", 1), constants)
    options = {"cmpars": cmpars} if cmpars else {}
    compare(judge, correction, constants, frames, kind=CLASSES["epix100"], calib=options)


def test_epixm320(judge: Judge) -> None:
    shape = (4, 192, 384)
    constants = constants_of((3, *shape), [1.0])
    del constants["pixel_gain"]
    frames = {"event0": frame_of(shape, [1], 15, 0x7FFF)}
    correction = made(setup_of("epixm320", 1), constants)
    compare(judge, correction, constants, frames, kind=CLASSES["epixm320"])


@pytest.mark.parametrize("gains", [True, False])
def test_epixuhr3x2_where_psana_can_tell_its_modes(judge: Judge, gains: bool) -> None:
    rng = np.random.default_rng(4)
    bits = rng.choice((32, 1, 33, 16, 48, 24, 56), (6, 32256)) | 4 * rng.integers(0, 2, (6, 32256))
    config = {"gainAsic": np.array([0, 0, 56, 0, 32, 0]), "gainCSVAsic": bits.astype(np.uint8)}
    setup = setup_of("epixuhr3x2", 1, config=[config])
    constants = constants_of((8, 1, 336, 576), [1.51, 0.54, 0.0172, 0.0086, 1.51, 1.51, 0.54, 0.54])
    if not gains:
        del constants["pixel_gain"]
    segment = rng.integers(0, 2048, (6, 32256)).astype(np.uint16) << 1
    correction = made(setup, constants)
    theirs = judge.ask(
        kind="epixuhr3x2.epixuhr3x2_raw_0_1_0",
        segments=[0],
        constants=constants,
        raw={"event0": correction.raw([segment])},
        config=written_config(setup),
    )
    used = constants if gains else constants | {"pixel_gain": np.full((1, 1, 336, 576), 0.0086)}
    close(correction.calib([segment]), theirs["calib0"], used)


def test_packed_epixuhr_is_unpacked_as_by_psana(judge: Judge) -> None:
    config = {"gainAsic": np.full(4, 16), "gainCSVAsic": np.zeros((4, 32256), np.uint8)}
    constants = constants_of((8, 4, 168, 192), [1.0])
    correction = made(setup_of("epixuhr", 1, config=[config]), constants)
    packed = np.random.default_rng(0).integers(0, 256, (4, 48384)).astype(np.uint8)
    theirs = judge.ask(
        kind=CLASSES["epixuhr"], segments=[0], constants=constants, raw={"event0": packed}, unpack=True
    )
    assert isinstance(correction, EpixUhr)
    assert np.array_equal(correction.raw([packed]), theirs["calib0"])

"""Where a step of a scan changes the gain configuration, its events are calibrated with the constants of their own gain mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib import Constant, DetectorId
from calib.detectors.epix10ka import MODES
from calib.store import open_store
from drp import DataSource
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

SHAPE = (352, 384)
RAW = Names(
    1 << 8, "epix10ka", "quad", "panel-1", 0, Alg("raw", (2, 0, 1)), (Field("raw", DataType.UINT16, 2),)
)
CONFIG = Names(
    1 << 8 | 1,
    "epix10ka",
    "quad",
    "panel-1",
    0,
    Alg("config", (2, 0, 1)),
    (Field("asicPixelConfig", DataType.UINT8, 3), Field("trbit", DataType.UINT8, 1)),
)
MODE_BITS = {"FH": (12, 1), "FM": (12, 0), "FL": (8, 0), "AHL_H": (0, 1), "AML_M": (0, 0)}


def config(mode: str) -> bytes:
    bits, trbit = MODE_BITS[mode]
    return encode_shapes_data(CONFIG, (np.full((4, 178, 192), bits, np.uint8), np.full(4, trbit, np.uint8)))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A run of three steps: the first as configured (AML), then FH and FL; one event in each, of 1000 + gain bit."""
    dgrams = [
        encode_dgram(TransitionId.Configure, 1, [RAW.encode(), CONFIG.encode(), config("AML_M")]),
        encode_dgram(TransitionId.BeginRun, 2),
    ]
    frame = np.full(SHAPE, 1000, np.uint16)
    frame[0, 0] |= 1 << 14
    stamp = 3
    for mode in ("", "FH", "FL"):
        services = (
            (TransitionId.BeginStep, [config(mode)] if mode else []),
            (TransitionId.Enable, []),
            (TransitionId.L1Accept, [encode_shapes_data(RAW, (frame,))]),
            (TransitionId.Disable, []),
            (TransitionId.EndStep, []),
        )
        for service, parts in services:
            dgrams.append(encode_dgram(service, stamp, parts))
            stamp += 1
    path = tmp_path / "scan.xtc2"
    path.write_bytes(b"".join([*dgrams, encode_dgram(TransitionId.EndRun, stamp)]))
    return path


def test_a_second_run_begins_with_the_configuration_of_the_configure(scan: Path, tmp_path: Path) -> None:
    """What steps of an earlier run have set is over; tables are derived anew only where a step has changed them."""
    once = scan.read_bytes()
    configure = 12 + int.from_bytes(once[20:24], "little")
    again = bytearray(once[configure:])
    at = 0
    while at < len(again):
        size = 12 + int.from_bytes(again[at + 20 : at + 24], "little")
        again[at + 4 : at + 8] = (7).to_bytes(4, "little")
        at += size
    path = tmp_path / "twice.xtc2"
    path.write_bytes(once + again)
    url = store_of(tmp_path)
    found = []
    for run in DataSource(files=path, calib=url).runs():
        det = run.Detector("quad", calib=True)
        tables = det.raw._calibration().correction
        for evt in run.events():
            found.append(float(det.raw.calib(evt)[0, 100, 100]))
            if len(found) in (1, 4):
                assert det.raw._calibration().correction is tables
    expected = [1000 - 100 * MODES.index(mode) for mode in ("AML_M", "FH", "FL")]
    assert found == expected * 2


def store_of(folder: Path, instead: dict[str, float] | None = None) -> str:
    """Return a store in which mode k has pedestals of 100 k, but for some modes, and gains of 1."""
    url = str(folder / "calib.db")
    detector = DetectorId("quad", "epix10ka", ("panel-1",))
    pedestals = np.arange(len(MODES), dtype=np.float32)[:, None, None, None] * 100
    for mode, value in (instead or {}).items():
        pedestals[MODES.index(mode)] = value
    values = {
        "pedestals": np.broadcast_to(pedestals, (len(MODES), 1, *SHAPE)).copy(),
        "pixel_gain": np.ones((len(MODES), 1, *SHAPE), np.float32),
    }
    with open_store(url, create=True) as store:
        store.put(detector, [Constant.make(name, value, detector.serials) for name, value in values.items()])
    return url


def test_a_step_in_a_range_without_numbers_is_told_once(
    scan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = store_of(tmp_path, {"FH": np.nan})
    for run in DataSource(files=scan, calib=url).runs():
        det = run.Detector("quad")
        for evt in run.events():
            det.raw.calib(evt)
            det.raw.calib(evt)
    (_, told) = [
        one.message for one in caplog.records if "NaN" in one.message or "no bad pixel" in one.message
    ]
    assert told.startswith("quad, configured as in this step: there is no pixel_status")
    assert "pedestals FH is NaN in 135,168 of 135,168 pixels (calib gives NaN)" in told
    caplog.clear()


def test_each_step_is_calibrated_in_its_own_gain_mode(scan: Path, tmp_path: Path) -> None:
    url = store_of(tmp_path)
    found = []
    for run in DataSource(files=scan, calib=url).runs():
        det = run.Detector("quad", calib=True)
        for evt in run.events():
            energies = det.raw.calib(evt)
            found.append((float(energies[0, 100, 100]), float(energies[0, 0, 0])))
    plain, switched = zip(*found, strict=True)
    expected = [1000 - 100 * MODES.index(mode) for mode in ("AML_M", "FH", "FL")]
    assert list(plain) == expected
    assert switched[0] == 1000 - 100 * MODES.index("AML_L")

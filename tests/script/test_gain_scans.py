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


def test_each_step_is_calibrated_in_its_own_gain_mode(scan: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "calib.db")
    detector = DetectorId("quad", "epix10ka", ("panel-1",))
    pedestals = np.arange(len(MODES), dtype=np.float32)[:, None, None, None] * 100
    values = {
        "pedestals": np.broadcast_to(pedestals, (len(MODES), 1, *SHAPE)).copy(),
        "pixel_gain": np.ones((len(MODES), 1, *SHAPE), np.float32),
    }
    with open_store(url, create=True) as store:
        store.put(detector, [Constant.make(name, value, detector.serials) for name, value in values.items()])
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

"""A configuration of the store in a Configure, as real psana shows it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.configdb import config_xtcs
from drp.configdb.store import ConfigPath, ConfigStore
from tests.configdb.configurations import camera
from tests.real.conftest import psana_environment
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

READER = Path(__file__).with_name("psana_config.py")


def test_psana_reads_it_as_the_config_of_each_segment(psana: Any, tmp_path: Path) -> None:
    path = ConfigPath("tst", "BEAM", "epixhr_0")
    with ConfigStore(tmp_path / "c.sqlite", create=True) as store:
        store.put(path, camera().typed_json())
        content = store.resolved(path)
    configure, raws = [], []
    for segment in (0, 1):
        raw = Names(
            0x100 + 2 * segment,
            "jungfrau",
            "epixhr",
            "serial",
            segment,
            Alg("raw", (0, 1, 0)),
            (Field("raw", DataType.UINT16, 2),),
        )
        raws.append(raw)
        names, shapes = config_xtcs(
            content,
            names_id=0x101 + 2 * segment,
            detname="epixhr",
            segment=segment,
            dettype="jungfrau",
            detid="serial",
        )
        configure += [raw.encode(), names, shapes]
    runinfo = Names(
        0x1FF,
        "runinfo",
        "runinfo",
        "",
        0,
        Alg("runinfo", (0, 0, 1)),
        (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32)),
    )
    configure.append(runinfo.encode())
    image = np.zeros((4, 6), np.uint16)
    dgrams = [
        encode_dgram(TransitionId.Configure, 1 << 32, configure),
        encode_dgram(TransitionId.BeginRun, 2 << 32, [encode_shapes_data(runinfo, ["tst", 1])]),
        encode_dgram(TransitionId.BeginStep, 3 << 32, []),
        encode_dgram(TransitionId.Enable, 4 << 32, []),
        encode_dgram(TransitionId.L1Accept, 5 << 32, [encode_shapes_data(raw, [image]) for raw in raws]),
    ]
    file = tmp_path / "config.xtc2"
    file.write_bytes(b"".join(dgrams))
    done = subprocess.run(
        [psana.python, READER, file, "epixhr"],
        capture_output=True,
        timeout=60,
        check=False,
        env=psana_environment(),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout)
    assert set(said) == {"0", "1"}
    assert said["1"] == {
        "gain": [3, {"0": "high", "3": "low"}],
        "delay_ns": 97,
        "rate": 1.0,
        "help": "how to use it",
        "map": [[0, 1, 2], [3, 4, 5]],
        "vref": [1.5, 2.5],
    }

"""A trigger script written for psdaq in a whole partition, with its thresholds from configdb and a meb to route to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.configdb import TypedConfig
from drp.configdb.store import ConfigPath, ConfigStore
from tests.support.partition import World, partition
from tests.support.psdaq_script import SCRIPT

KEEP, SHOW = 0xDEADBEEF, 0x12345678
WORDS = """
import sys
import numpy as np
from drp import DataSource
every = int(sys.argv[1])
ds = DataSource()
ds.add_trigger({"write": np.uint32, "monitor": np.uint32})
for run in ds.runs():
    for evt in run.events():
        pulse = evt.timestamp // 977
        ds.set_trigger(write=0xDEADBEEF if pulse % every == 0 else 0, monitor=0x12345678 if pulse % 50 == 0 else 0)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        yield made


def test_a_script_for_psdaq_decides_for_all_drps_by_values_from_configdb(world: World) -> None:
    top = TypedConfig()
    top.setInfo("trigger", "trigger", 0, "", "what the trigger compares with")
    top.setAlg("config", [1, 0, 0])
    top.set("persistValue", KEEP, "UINT32")
    top.set("monitorValue", SHOW, "UINT32")
    database = world.folder / "configdb.sqlite"
    with ConfigStore(database, create=True) as store:
        store.put(ConfigPath.parse("tst/BEAM/trigger_0"), top.typed_json())
    world.member("teb0", "teb", "-p", world.script(SCRIPT, "trigger.py"))
    world.member("ami-meb0", "meb")
    world.timing("--rate", 500, "-n", 600)
    words = world.script(WORDS)
    world.drp("epixhr_0", f"{words} 3")
    world.drp("epixhr_1", f"{words} 4")
    world.lead("-d", database, "-t", "trigger")
    world.run(1, 600)
    kept = [one for one in world.triggered(1) if one // 977 % 3 == 0 or one // 977 % 4 == 0]
    assert world.recorded(1, 0) == world.recorded(1, 1) == kept
    assert 0 < len(kept) < 600
    assert world.ledger(1)["closes"], world.ledger(1)
    assert "Traceback" not in world.log("teb0"), world.log("teb0")

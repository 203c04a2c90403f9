"""The real programs of a partition as procmgr starts them: they say when they stand, tell Prometheus where they are, and end when asked."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drp.core.metric_names import METRICS
from drp.launch import Plan, Process, commands_of
from tests.conftest import ROOT
from tests.support.kept import World

pytestmark = pytest.mark.slow

PROGRAMS = [
    "control -P tst -C BEAM -M {folder} --store {folder}-store",
    "timing -P tst -C localhost -M {folder}",
    "meb -P tst -C localhost -M {folder}",
    "teb -P tst -C localhost -M {folder} -p {root}/fex_scripts/hit_trigger.py",
    "drp -P tst -C localhost -M {folder} --source sim:digitizer -p {root}/fex_scripts/hsd_peaks.py",
]


@pytest.mark.parametrize("cmd", PROGRAMS, ids=lambda cmd: cmd.split()[0])
def test_a_program_stands_tells_prometheus_and_ends(
    cmd: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = world.folder / "prometheus"
    folder.mkdir()
    process = Process("one_0", cmd.format(folder=folder, root=ROOT), flags="spu")
    (command,) = commands_of(Plan("t.cnf", 5, 0, (process,)))
    assert command.says_ready
    line = world.start(command)["one_0"]
    assert line.state == "running", Path(line.log).read_text() if line.log else line
    targets = [json.loads(path.read_text())[0]["targets"][0] for path in folder.iterdir()]
    for target in targets:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
            names = {family.name for family in text_string_to_metric_families(answer.read().decode())}
        assert names <= set(METRICS)
    assert len(targets) == ("-M" in cmd)
    stopped = world.stop()["one_0"]
    assert (stopped.state, stopped.text) == ("stopped", ""), Path(line.log).read_text()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("cmd", "state", "text"),
    [
        ("drp -q 3 -zz", "failed", "drp: "),
        (
            "drp -n 100000 -W 1 --source sim:digitizer --rate 10 -p {root}/fex_scripts/hsd_peaks.py",
            "running",
            "",
        ),
    ],
)
def test_a_drp_without_a_partition_stands_once_it_runs(
    cmd: str, state: str, text: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    process = Process("drp_0", cmd.format(root=ROOT))
    line = world.start(*commands_of(Plan("t.cnf", 5, 0, (process,))))["drp_0"]
    assert line.state == state, Path(line.log).read_text()
    assert text in line.text

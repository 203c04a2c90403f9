"""Constants by address: the simulator's own beside stores and services, and when a run takes them by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sim_files import drp

from calib import ConstantsMissing, StoreError
from calib.store import open_store
from drp.core.errors import SourceError
from drp.engine.script_text import calibrates
from drp.script.constants_source import check_constants, constants_of_simulator, open_constants
from drp.source.simconstants import detector_of, put_truth
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.conftest import ROOT

KIND = "epixhr,segments=3,seed=5"


def test_the_simulators_constants_are_those_that_it_puts_in_a_store(tmp_path: Path) -> None:
    truth = SimTruth(parse(KIND))
    detector = detector_of(truth)
    url = str(tmp_path / "calib.db")
    put_truth(truth, url, "expt")
    simulated = open_constants(f"sim:{KIND}")
    two = replace(detector, serials=detector.serials[2:0:-1])
    with open_store(url) as store:
        for one in (detector, two):
            stored, found = store.find(one, "expt", 1), simulated.find(one, None, 7)
            assert stored.keys() == found.keys()
            for ctype in stored:
                assert np.array_equal(stored[ctype].value, found[ctype].value, equal_nan=ctype != "geometry")
    assert list(simulated.find(detector, None, 7, ctypes=["pedestals"])) == ["pedestals"]
    assert simulated.find(replace(detector, dettype="jungfrau"), None, 7) == {}
    with pytest.raises(ConstantsMissing, match="another"):
        simulated.find(replace(detector, serials=("another",)), None, 7)
    assert open_constants("sim:digitizer").find(detector, None, 7) == {}


def test_what_is_no_address_is_told() -> None:
    check_constants("sim")
    check_constants(f"sim:{KIND}")
    with pytest.raises(SourceError, match="no detector 'epix9'"):
        check_constants("sim:epix9")
    with pytest.raises(StoreError):
        check_constants("nosuch://x")


@pytest.mark.parametrize(
    ("sources", "address"),
    [
        (["sim"], "sim"),
        ([f"sim:{KIND}"], f"sim:{KIND}"),
        (["sim:digitizer"], None),
        (["sim:nothing"], None),
        (["simulated.xtc2"], None),
        (["sim", "sim"], None),
        ([], None),
    ],
)
def test_only_a_simulated_camera_has_constants_of_its_own(sources: list[str], address: str | None) -> None:
    assert constants_of_simulator(sources) == address


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("det.raw.calib(evt)", True),
        ("run.Detector('x', calib=True)", True),
        ("f = det.raw.image", True),
        ("for one in det.raw.calib_segments(evt): pass", True),
        ("det.raw.raw(evt)", False),
        ("calib = 1", False),
        ("def f(:", False),
    ],
)
def test_a_script_that_calibrates_is_known_by_its_text(tmp_path: Path, text: str, does: bool) -> None:
    path = tmp_path / "script.py"
    path.write_text(text)
    assert calibrates(path) == does
    assert not calibrates(tmp_path / "nowhere.py")


def test_a_run_on_a_simulated_camera_needs_no_store() -> None:
    script = f"{ROOT / 'fex_scripts' / 'photons.py'}"
    done = drp("-p", script, "--source", f"sim:{KIND},frames=2", "-n", 4, "-W", 1, "--check-jit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the ledger closes" in done.stdout
    assert f"constants of run 1 from sim:{KIND},frames=2" in done.stderr

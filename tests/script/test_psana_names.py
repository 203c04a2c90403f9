"""psana's import names in a worker, with a psana installed and without one. Each case is its own interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest
from dgrams import Builder

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
from pathlib import Path
from drp.script.offline import run_offline
report = run_offline(sys.argv[1:2], sys.argv[2:3])
print("events", report.events, "failed", report.failed)
for failure in report.failures:
    print(failure.message, failure.traceback)
"""
SCRIPT = """
from psana import DataSource
from psana.dgramedit import AlgDef, DetectorDef, DgramEdit
from psana.psexp import TransitionId
from psana.psexp.transitionid import TransitionId as Same
import numpy as np
import psana
ds = DataSource(drp=drp_info, monitor=True)
assert Same is TransitionId and TransitionId.isEvent(TransitionId.L1Accept) and TransitionId.name(4) == "BeginRun"
fex = ds.add_detector(DetectorDef(drp_info.det_name, drp_info.det_type, drp_info.det_id), AlgDef("fex", 0, 0, 1),
                      {"n": (np.uint16, 0)}, None, None, drp_info.det_segment)
for run in ds.runs():
    det = run.Detector(drp_info.det_name)
    for n, evt in enumerate(run.events()):
        assert det.raw.raw(evt).flags.writeable and not det.raw.raw(evt, copy=False).flags.writeable
        fex.fex.n = n
        ds.add_data(fex.fex)
        if n % 2:
            ds.remove_data(drp_info.det_name, "raw")
"""
INSTALLED = """
import psana, psana.utils, psana.psexp.deep, sys
assert psana.utils.value == 5 and psana.psexp.deep.value == 6
assert "psana.real" not in sys.modules
assert psana.version == 4 and psana.psexp.marker == "installed"
assert sys.modules["psana.real"].uses is psana.DataSource
from psana import anything_else
from psana.dgramedit import PyDgram, DgramEdit
assert PyDgram.__module__ == "psana.dgramedit" and DgramEdit.__module__ != "psana.dgramedit"
"""
ABSENT = """
import psana
try:
    import psana.utils
except ImportError:
    pass
else:
    raise RuntimeError("there is no psana")
assert not hasattr(psana, "version")
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package that looks like psana: its __init__ imports, and makes, its own DataSource."""
    folder = tmp_path / "site" / "psana"
    (folder / "psexp").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from .real import DataSource\nfrom . import utils\nversion = 4\nanything_else = 1\n"
    )
    (folder / "real.py").write_text("from psana import DataSource as uses\nclass DataSource:\n    pass\n")
    (folder / "utils.py").write_text("value = 5\n")
    (folder / "dgramedit.py").write_text("class DgramEdit:\n    pass\nclass PyDgram:\n    pass\n")
    (folder / "psexp" / "__init__.py").write_text(
        "marker = 'installed'\nfrom .transitionid import TransitionId\n"
    )
    (folder / "psexp" / "deep.py").write_text("from . import TransitionId\nvalue = 6\n")
    return folder.parent


def run(tmp_path: Path, text: str, *paths: Path) -> str:
    builder = Builder(2)
    (tmp_path / "in.xtc2").write_bytes(b"".join([builder.configure(), *builder.run(4)]))
    (tmp_path / "script.py").write_text(text)
    (tmp_path / "driver.py").write_text(DRIVER)
    search = ":".join(str(one) for one in (ROOT, *paths))
    done = subprocess.run(
        [sys.executable, "driver.py", "script.py", "in.xtc2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": search, "PATH": ""},
    )
    return done.stdout + done.stderr


def test_the_script_runs_without_psana(tmp_path: Path) -> None:
    assert run(tmp_path, SCRIPT + ABSENT) == "events 4 failed 0\n"


def test_the_same_script_runs_beside_an_installed_psana(tmp_path: Path, installed: Path) -> None:
    assert run(tmp_path, SCRIPT, installed) == "events 4 failed 0\n"


def test_all_else_of_psana_is_the_installed_one(tmp_path: Path, installed: Path) -> None:
    assert run(tmp_path, INSTALLED + SCRIPT, installed) == "events 4 failed 0\n"

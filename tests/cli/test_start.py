"""A command is interrupted in good order however early, and whatever its files are."""

import json
import signal
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import drp_start

ROOT = Path(__file__).resolve().parents[2]
START = "import sys, drp_start; sys.exit(drp_start.start('drp', 'its_module', drp_start.SIGNALS))"
WAIT = "import signal\nprint('ready', flush=True)\nsignal.pause()\n"
MAIN = "def main():\n" + "".join(f"    {line}\n" for line in WAIT.splitlines())


@pytest.mark.parametrize("source", [WAIT, MAIN], ids=["importing", "in main"])
@pytest.mark.parametrize("number", drp_start.SIGNALS)
def test_an_early_signal_ends_a_command_in_one_line(
    tmp_path: Path, number: signal.Signals, source: str
) -> None:
    (tmp_path / "its_module.py").write_text(source)
    child = subprocess.Popen(
        [sys.executable, "-c", START],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (drp_start.EXIT_INTERRUPTED, "drp: interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "its_module.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\ndef main():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n    return 7\n"
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the child inherits it, as under nohup
    try:
        done = subprocess.run(
            [sys.executable, "-c", START], env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, timeout=30, check=False
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.returncode == 7


def test_a_run_without_stderr_and_stdout_writes_its_report(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events(): pass\n"
    )
    report = tmp_path / "report.json"
    command = "import sys; from drp_start import drp; sys.exit(drp())"
    words = [sys.executable, "-c", command, "-p", str(script), "-n", "3", "-W", "1", "--report", str(report)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words],
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(report.read_text())["ledger"]["total"] == 3


def test_every_command_begins_here() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {
        "drp",
        "control",
        "meb",
        "daqstate",
        "drp-ipc",
        "drp-sparse",
        "configdb",
        "procmgr",
        "procstat",
        "timing",
        "teb",
        "xtc",
        "calib",
    }
    for name, entry in scripts.items():
        module, _, function = entry.partition(":")
        assert module == "drp_start"
        assert callable(getattr(import_module(module), function)), name

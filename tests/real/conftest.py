"""Real psana, and the drp command, as fixtures.

`PSANA_PYTHON` names a Python interpreter with psana installed, `PSANA_DRP_PYTHON` one with psana and this
package; `.ci/run` makes both.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

# psana starts MPI as it is imported; Open MPI then leaves a file in /dev/shm, unless the one process talks to itself only.
ALONE = {"OMPI_MCA_btl": "self"}

ORACLE = Path(__file__).with_name("psana_oracle.py")
ORACLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Psana:
    """What real psana reads; every answer is the JSON of `psana_oracle.py`."""

    python: Path

    def dgrams(self, path: Path, *, config: Path | None = None, arrays: Path | None = None) -> dict[str, Any]:
        """Decode each dgram of one file; `config` has the Configure that applies, if `path` has none."""
        options = ["--config", config] if config else []
        if arrays:
            arrays.mkdir(parents=True, exist_ok=True)
            options += ["--arrays", arrays]
        return self.ask("dgrams", path, *options)

    def files(self, path: Path, *detectors: str, steps: bool = False) -> list[dict[str, Any]]:
        """Open one file with `DataSource(files=...)` and return its runs."""
        return self.runs("files", path, detectors=detectors, steps=steps)

    def run(
        self, exp: str, run: int, folder: Path, *detectors: str, steps: bool = False
    ) -> list[dict[str, Any]]:
        """Open a folder with `DataSource(exp=, run=, dir=)`, by its smalldata files; return its runs."""
        return self.runs("run", exp, run, folder, detectors=detectors, steps=steps)

    def runs(self, *question: object, detectors: tuple[str, ...], steps: bool) -> list[dict[str, Any]]:
        """Ask with the options of both ways to open data."""
        options = [word for name in detectors for word in ("--detector", name)]
        if steps:
            options.append("--steps")
        answer: list[dict[str, Any]] = self.ask(*question, *options)["runs"]
        return answer

    def ask(self, *question: object) -> dict[str, Any]:
        """Run the oracle; a psana that aborts fails the test with what it printed."""
        done = subprocess.run(
            [self.python, ORACLE, *map(str, question)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ORACLE_TIMEOUT_S,
            env=psana_environment(),
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"psana ended with {done.returncode} on {question}:\n{done.stderr[-4000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def psana_environment() -> dict[str, str]:
    """Return an environment in which psana sees neither our package nor another venv."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    return environment | ALONE | {"TMPDIR": mpi_folder().name}


@functools.cache
def mpi_folder() -> tempfile.TemporaryDirectory[str]:
    """Return the folder for the session directories that Open MPI leaves in TMPDIR; it goes when the tests end."""
    return tempfile.TemporaryDirectory(prefix="psana-")


def python_from(variable: str, what: str) -> Path:
    """Return the interpreter that an environment variable names, or skip the test."""
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"{variable} does not name a Python with {what}; .ci/run makes one")
    return Path(named)


@pytest.fixture(scope="session")
def psana() -> Psana:
    """Real psana in its own process."""
    return Psana(python_from("PSANA_PYTHON", "psana"))


@dataclass(frozen=True, slots=True)
class Drp:
    """The drp command: that of the checkout, or the one installed beside `python`."""

    python: Path
    installed: bool = False

    def __call__(
        self, *arguments: object, cwd: Path = ROOT, timeout_s: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `drp` in `cwd`, and return what it printed and its exit code."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ALONE
        command: list[object] = [self.python.with_name("drp")]
        if not self.installed:
            environment["PYTHONPATH"] = str(ROOT)
            command = [self.python, "-c", "import sys; from drp.cli.drp import main; sys.exit(main())"]
        return subprocess.run(
            [str(word) for word in (*command, *arguments)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )


@pytest.fixture(scope="session")
def drp() -> Drp:
    """The drp command of the checkout, run by the interpreter under test."""
    return Drp(Path(sys.executable))


@pytest.fixture(scope="session")
def drp_beside_psana() -> Drp:
    """The drp command of an interpreter that has psana installed too."""
    return Drp(python_from("PSANA_DRP_PYTHON", "psana and this package"), installed=True)

"""Real psana as a fixture, and where the real data lies.

`PSANA_PYTHON` names a Python interpreter with psana installed, `PSANA_DRP_PYTHON` one with psana and this
package; `.ci/run` makes both. The folder `shared` with the real data is looked for beside the checkout, or
where `DRP_SHARED` says.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
    return {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


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


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real xtc2 files."""
    folder = Path(os.environ.get("DRP_SHARED", ROOT.parent / "shared")) / "data" / "xtc2"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; DRP_SHARED names the folder that has data/xtc2")
    return folder


@dataclass(frozen=True, slots=True)
class Drp:
    """The drp command of one interpreter."""

    python: Path

    def __call__(
        self, *arguments: object, cwd: Path = ROOT, timeout_s: float = 90.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `drp` in `cwd`, and return what it printed and its exit code."""
        installed = self.python.with_name("drp")
        command: list[object] = [installed]
        if not installed.exists():
            environment["PYTHONPATH"] = str(ROOT)
            command = [self.python, "-c", "import sys; from drp.cli.drp import main; sys.exit(main())"]
        return subprocess.run(
            [*map(str, command), *map(str, arguments)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | environment,
            check=False,
        )


@pytest.fixture(scope="session")
def drp() -> Drp:
    """The drp command of the interpreter under test."""
    return Drp(Path(sys.executable))


@pytest.fixture(scope="session")
def drp_beside_psana() -> Drp:
    """The drp command of an interpreter that has psana installed too."""
    return Drp(python_from("PSANA_DRP_PYTHON", "psana and this package"))

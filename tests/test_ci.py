"""What CI holds against a run: anything left behind, and tests that are skipped. Each is made here on purpose."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.intruder import IPC_RMID, LIBC, must

ROOT = Path(__file__).resolve().parents[1]
IPC_CREAT = 0o1000
Left = AbstractContextManager[str]


class Look:
    """CI's script, for a run of its own that has just begun."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "DRP_CI_RUN": secrets.token_hex(8)}
        self._before = folder / "before"
        self._before.write_text(self._ask("look").stdout)

    def since(self) -> tuple[int, str]:
        done = self._ask("since", str(self._before), "0")
        return done.returncode, done.stderr

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / ".ci" / "leftovers.py", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


@contextmanager
def sysv(kind: str, name: str, *arguments: int) -> Iterator[str]:
    one = must(getattr(LIBC, f"{name}get")(0, *arguments, IPC_CREAT | 0o600))
    try:
        yield f"{kind} {one}"
    finally:
        # semctl has an argument more, which nobody reads here.
        arguments_of_end = (0, IPC_RMID) if name == "sem" else (IPC_RMID, 0)
        must(getattr(LIBC, f"{name}ctl")(one, *arguments_of_end))


@contextmanager
def file_at(path: Path) -> Iterator[str]:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        yield f"file {path}"
    finally:
        path.unlink()


@contextmanager
def orphan(environment: dict[str, str]) -> Iterator[str]:
    """A process in another session, whose parent has ended."""
    made = subprocess.run(
        ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    pid = int(made.stdout)
    command = Path(f"/proc/{pid}/cmdline")
    while not command.read_bytes().startswith(b"sleep"):
        os.sched_yield()
    try:
        yield f"process {pid}: sleep 1000"
    finally:
        os.kill(pid, 9)


LEFTOVERS: dict[str, Callable[[Look], Left]] = {
    "a segment": lambda look: sysv("shared memory segment", "shm", 4096),
    "a set of semaphores": lambda look: sysv("semaphore set", "sem", 1),
    "a message queue": lambda look: sysv("message queue", "msg"),
    "a file in shared memory": lambda look: file_at(Path("/dev/shm/sem.mp-" + secrets.token_hex(4))),
    "a process": lambda look: orphan(look.environment),
    "a temporary file": lambda look: file_at(look.temporary / "left"),
    "a record in the run directory": lambda look: file_at(look.temporary / f"drp-{os.geteuid()}" / "1.json"),
}


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_is_left_behind_is_named_until_it_is_gone(look: Look, kind: str) -> None:
    with LEFTOVERS[kind](look) as name:
        code, said = look.since()
        assert code == 1
        assert f"left behind: {name}\n" in said
    assert name not in look.since()[1]


def test_processes_of_others_are_not_ours(look: Look) -> None:
    with orphan({**look.environment, "DRP_CI_RUN": "another"}) as name:
        assert name not in look.since()[1]


SKIPS = {
    "in a test": "def test(): pytest.skip('no moon')",
    "by a mark": "@pytest.mark.skipif(True, reason='no moon')\ndef test(): pass",
    "of a whole module": "pytest.skip('no moon', allow_module_level=True)",
    "for want of parameters": "@pytest.mark.parametrize('no_moon', [])\ndef test(no_moon): pass",
}


def pytest_of_ci(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file with one test, as CI does."""
    (folder / "test_it.py").write_text(f"import pytest\n{test}\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no_skips",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            folder,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ci"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("how", SKIPS)
def test_a_skip_fails_and_says_what_was_missing(tmp_path: Path, how: str) -> None:
    done = pytest_of_ci(tmp_path, SKIPS[how])
    assert done.returncode != 0, done.stdout
    assert "in CI nothing may be missing" in done.stdout
    assert "no moon" in done.stdout or "no_moon" in done.stdout


def test_a_known_hole_does_not_fail(tmp_path: Path) -> None:
    done = pytest_of_ci(tmp_path, "@pytest.mark.xfail(strict=True)\ndef test(): raise ValueError")
    assert done.returncode == 0, done.stdout

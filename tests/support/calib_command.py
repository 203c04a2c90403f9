"""The `calib` command in its own process: once to its end, or as a service that runs."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

COMMAND = (sys.executable, "-c", "import sys; from calib.cli import main; sys.exit(main())")
START_S = 30.0


def environment(folder: Path, **more: str) -> Mapping[str, str]:
    """Return an environment in which nothing of the user's own store and cache is seen."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("DRP_CALIB", "XDG_", "CALIB_"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder)} | more


def calib(folder: Path, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `calib` in a folder that is also its home, and return what it said."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(folder, **more),
        check=False,
    )


@dataclass
class Served:
    """A `calib serve` that runs."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        """End it, and return what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=20)
        return said


@contextmanager
def served(folder: Path, store: Path | str, *words: object) -> Iterator[Served]:
    """Run `calib serve` over a store; when the block ends it must still be there, and end well when asked to."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--store", str(store), *map(str, words)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
    )
    try:
        assert process.stdout is not None
        until = time.monotonic() + START_S
        while not select.select([process.stdout], [], [], 0.1)[0]:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, "calib serve does not begin"
        said = process.stdout.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + process.communicate(timeout=20)[1]
        one = Served(process, found[0])
        yield one
        if process.poll() is None:
            one.log()
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

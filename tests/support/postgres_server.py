"""A PostgreSQL server of its own for tests: made in a temporary folder, run by a user that is not root, reached by a socket file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
START_S = 60.0


def programs() -> Path | None:
    """Return the folder of the server's programs, None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server from the programs in `folder`; give the URL of its empty database `calib`."""
    owner = NOBODY if os.getuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if owner is not None:
            os.chown(home, owner, owner)
        account = "calib"
        initdb = [
            folder / "initdb",
            "-D",
            home / "data",
            "-U",
            account,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        ask(initdb, home, owner)
        log = home / "log"
        command = [
            *(folder / "pg_ctl", "-D", home / "data", "-l", log, "-w", "-t", str(int(START_S)), "start"),
            *("-o", f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off"),
        ]
        ask(command, home, owner)
        try:
            ask([folder / "createdb", "-h", home, "-U", account, "calib"], home, owner)
            yield f"postgresql+psycopg://{account}@/calib?host={home}"
        finally:
            ask([folder / "pg_ctl", "-D", home / "data", "-m", "immediate", "-w", "stop"], home, owner)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def ask(command: list[str | Path], home: Path, owner: int | None) -> None:
    """Run one of the programs; what it said is in the error where it fails."""
    with (home / "said").open("w+b") as said:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=home,
            user=owner,
            group=owner,
            extra_groups=[] if owner is not None else None,
            timeout=2 * START_S,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
        if done.returncode != 0:
            said.seek(0)
            log = home / "log"
            server = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{command[0]}: {said.read().decode()[-2000:]}\n{server}")

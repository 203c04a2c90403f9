"""What a run of CI may leave on a machine and must not: shared memory, queues, semaphores, processes, temporary files.

`leftovers.py look` prints what is there, one thing a line; `leftovers.py since FILE [SECONDS]` prints what is there now and is not in
FILE, and exits 1 where that is anything; what is just ending has some seconds for it. A process is one of ours if it carries DRP_CI_RUN
of this environment, which whatever CI starts inherits; processes above this one are not looked at. Temporary files are those below
TMPDIR, if that is set: an empty run directory may stay.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

COOKIE = "DRP_CI_RUN"
SYSV = {"shm": "shared memory segment", "sem": "semaphore set", "msg": "message queue"}
SHM = Path("/dev/shm")  # noqa: S108 - nothing is made there
LIMIT_S = 5.0


def things() -> Iterator[str]:
    """Yield everything that could have been left, in words."""
    for table, kind in SYSV.items():
        for line in Path("/proc/sysvipc", table).read_text().splitlines()[1:]:
            yield f"{kind} {line.split()[1]}"
    for path in sorted(SHM.iterdir()):
        yield f"file {path}"
    yield from processes(os.environ.get(COOKIE, ""))
    if "TMPDIR" in os.environ:
        yield from temporary_files(Path(os.environ["TMPDIR"]))


def processes(cookie: str) -> Iterator[str]:
    """Yield the processes that carry the cookie, but for this one and those it comes from."""
    above = set(ancestors(os.getpid()))
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) in above:
            continue
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if cookie and f"{COOKIE}={cookie}".encode() in environment:
            yield f"process {place.name}: {command.strip()}"


def ancestors(pid: int) -> Iterator[int]:
    """Yield a process, its parent, and so on to the first."""
    while pid:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def temporary_files(folder: Path) -> Iterator[str]:
    """Yield what lies in the folder; of a run directory only what lies in it."""
    for path in sorted(folder.iterdir()):
        inside = path.is_dir() and path.name == f"drp-{os.geteuid()}"
        yield from (f"file {one}" for one in (sorted(path.iterdir()) if inside else [path]))


def main(argv: list[str]) -> int:
    """Do what the words of the command ask."""
    limit_s = LIMIT_S
    match argv:
        case ["look"]:
            print(*things(), sep="\n")
            return 0
        case ["since", before, *seconds] if len(seconds) < 2:
            known = set(Path(before).read_text().splitlines())
            limit_s = float(seconds[0]) if seconds else limit_s
        case _:
            print("leftovers.py look | since FILE [SECONDS]", file=sys.stderr)
            return 2
    deadline = time.monotonic() + limit_s
    while (left := [one for one in things() if one not in known]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for one in left:
        print(f"left behind: {one}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

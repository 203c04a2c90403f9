"""Stands in for drp: starts a nursery and workers that leave strays, says all pids, waits to be killed."""

import json
import os
import select
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from drp.engine.spawn import Nursery


@dataclass(frozen=True, slots=True)
class Spec:
    worker: int
    how: str

    def to_json(self) -> str:
        return json.dumps({"do": "leave_stray", "args": {"how": self.how, "then": "hang"}})


def main() -> None:
    nursery = Nursery("nursery_entry:main", preload=(), path=[*sys.path, str(Path(__file__).parent)])
    nursery.start()
    pids = [nursery.pid]
    for number, how in enumerate(("same-group", "own-session", "no-environment", "daemon")):
        worker = nursery.fork(Spec(number, how))
        poll = select.poll()
        poll.register(worker.stdout_fd, select.POLLIN)
        poll.poll(10_000)
        pids += [worker.pid, int(os.read(worker.stdout_fd, 100).split()[0])]
    print(*pids, flush=True)
    while True:
        signal.pause()


main()

"""The crew at the end of a run, with a nursery that never says that a process is gone."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from flow_bench import Bench

from drp.core.config import DrpConfig
from drp.engine.crew import Berth, Crew
from drp.engine.spawn import Event, ForkedWorker, NurseryLost, WorkerForked
from drp.script.nursery_wire import Ready

pytestmark = pytest.mark.timeout(30)


class Mute:
    """A nursery that forks, and does not answer when it is asked to reap: what it is to bury is stuck in the kernel."""

    lost = None

    def __init__(self) -> None:
        self.read_fd, write_fd = os.pipe()
        self.fds = [self.read_fd, write_fd]
        self.events: list[Event] = [Ready(1)]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.reaping: list[int] = []

    def fileno(self) -> int:
        return self.read_fd

    def fork_begin(self, _spec: object) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout and process.stderr
        worker = ForkedWorker(
            process.pid,
            os.pidfd_open(process.pid),
            os.dup(process.stdout.fileno()),
            os.dup(process.stderr.fileno()),
        )
        self.processes.append(process)
        self.events.append(WorkerForked(len(self.processes), worker))
        return len(self.processes)

    def receive(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def reap_begin(self, worker: ForkedWorker) -> None:
        self.reaping.append(worker.pid)

    def kill(self, worker: ForkedWorker) -> bool:
        return worker.pid not in self.reaping

    def deadline(self) -> float | None:
        return None

    def postpone(self, by_s: float) -> None:
        return

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        while self.fds:
            os.close(self.fds.pop())


@pytest.fixture
def nursery() -> Iterator[Mute]:
    mute = Mute()
    try:
        yield mute
    finally:
        mute.close()


def test_a_dead_worker_that_cannot_be_reaped_holds_the_end_for_its_limit_only(
    nursery: Mute, tmp_path: Path
) -> None:
    bench = Bench()
    config = DrpConfig(script=str(tmp_path / "script.py"), workers=1, spares=0)
    berth = Berth(("script.py",), {}, 4096, 8, check_views=False)
    with selectors.DefaultSelector() as selector:
        crew = Crew(config, bench.flow, berth, nursery, selector, lambda _held: None, lambda: None)  # type: ignore[arg-type]
        crew._on_nursery(nursery.fileno())
        crew._on_nursery(nursery.fileno())
        assert crew.settle(100.0)
        (process,) = nursery.processes
        process.kill()
        while not nursery.reaping:
            for key, _ in selector.select(5):
                key.data(key.fd)
        burial_s = crew.supervisor.policy.burial_s
        assert not crew.settle(100.0)
        assert not crew.settle(99.9 + burial_s)
        assert crew.settle(100.1 + burial_s)
        assert crew.supervisor.unburied == 1
        assert crew.settle(101.0 + burial_s) and crew.ended(101.0 + burial_s)
        assert len(nursery.processes) == 1, "it was replaced"
    bench.close()


def test_a_nursery_that_goes_when_all_were_told_to_leave_is_not_replaced(
    nursery: Mute, tmp_path: Path
) -> None:
    def none_more() -> NoReturn:
        raise AssertionError("another nursery")

    bench = Bench()
    config = DrpConfig(script=str(tmp_path / "script.py"), workers=1, spares=0)
    berth = Berth(("script.py",), {}, 4096, 8, check_views=False)
    with selectors.DefaultSelector() as selector:
        crew = Crew(
            config,
            bench.flow,
            berth,
            nursery,  # type: ignore[arg-type]
            selector,
            lambda _held: None,
            lambda: None,
            make_nursery=none_more,
        )
        crew._on_nursery(nursery.fileno())
        crew._on_nursery(nursery.fileno())
        crew.end()
        assert not crew.ended(100.0)
        (process,) = nursery.processes
        process.kill()
        process.wait(10)
        nursery.events.append(NurseryLost("killed", (), ()))
        crew._on_nursery(nursery.fileno())
        assert crew.ended(100.0)
    bench.close()

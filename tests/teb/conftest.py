"""Tebs within the test's process, each turned by a thread of its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from teb_stand_in import StandIn

from drp.core.batch import Contributor
from drp.core.conditions import Conditions
from drp.link.sockets import Endpoint, listen
from drp.teb.deciding import AtOnce
from drp.teb.process import Teb, TebConfig
from drp.teb.server import Limits
from drp.teb.words import WordsPublisher

CONTRIBUTORS = [Contributor(0, "epix_0", 0), Contributor(7, "hsd_0", 0), Contributor(3, "slow_0", 1)]


class Served:
    """A teb that is served. `do` has its own thread do something."""

    def __init__(self, teb: Teb, endpoint: Endpoint) -> None:
        self.teb, self.endpoint = teb, endpoint
        self._todo: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def _main(self) -> None:
        try:
            while not self._stop.is_set():
                self.teb.turn(0.02)
                while self._todo:
                    self._todo.pop(0)()
        except BaseException as error:
            self.failure = error
            raise

    def do(self, call: Callable[[], None]) -> None:
        done = threading.Event()
        self._todo += [call, done.set]
        assert done.wait(10)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.failure is None


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serve a teb; by default three contributors, epoch 1, all persists."""
    made: list[tuple[Served, zmq.Socket[bytes]]] = []

    def run(
        contributors: list[Contributor] | None = None,
        *,
        keep_if: str = "",
        prescale: int = 0,
        timeout_s: float = 60.0,
        window: int = 64,
        alone: tuple[Contributor, ...] = (),
        words: WordsPublisher | None = None,
    ) -> Served:
        router, endpoint = listen(zmq.ROUTER, f"teb-{secrets.token_hex(4)}")
        config = TebConfig((), prescale, Limits(timeout_s, timeout_s, window))
        decider = AtOnce(Conditions.parse(keep_if) if keep_if else None)
        served = Served(Teb(config, router, decider, alone=alone, words=words), endpoint)
        if not alone:
            served.teb.begin(1, CONTRIBUTORS if contributors is None else contributors, {})
        made.append((served, router))
        served.start()
        return served

    yield run
    for served, router in made:
        served.stop()
        served.teb.close()
        router.close()


@pytest.fixture
def join() -> Iterator[Callable[..., StandIn]]:
    """Contributors, closed at the end."""
    made: list[StandIn] = []

    def connect(served: Served, number: int = 0, alias: str = "epix_0", **more: int) -> StandIn:
        made.append(StandIn(served.endpoint, number, alias, **more))
        return made[-1]

    yield connect
    for one in made:
        one.socket.close(0)

"""Workers killed by SIGKILL: at work nobody's fault, before they came to work counted whoever did it."""

from __future__ import annotations

import signal

import pytest

from drp.core import instructions as do
from drp.core.instructions import Instruction
from drp.core.supervision import Supervisor
from drp.core.worker_states import Entry
from tests.support.supervised import L1, Engine, only
from xtc import TransitionId as T


@pytest.mark.parametrize("entry", [None, Entry(1, T.Configure), Entry(2, T.BeginRun)])
def test_kills_before_a_run_ever_began_end_it(entry: Entry | None) -> None:
    engine = Engine(workers=2)
    engine.auto_ready = False
    engine.supervisor = Supervisor(engine.policy)
    engine.alive.clear()
    engine.counts.clear()
    engine.take(engine.supervisor.start(engine.now))
    told: list[Instruction] = []
    for _ in range(engine.policy.streak):
        assert not only(do.FailTransition, told)
        told = engine.exit(engine.at(1), signal.SIGKILL, entry)
    (failed,) = only(do.FailTransition, told)
    assert failed.error.worker == 1
    assert failed.service is (entry.service if entry else T.Configure)
    assert "SIGKILL" in str(failed.error)
    assert "memory" in failed.error.hint
    assert not only(do.Fork, told)
    assert not only(do.Fork, engine.run(1.0))


@pytest.mark.parametrize("worker", [0, None])
@pytest.mark.parametrize(
    "entry", [None, Entry(1, T.Configure, replay=True), Entry(2, T.BeginRun, replay=True)]
)
def test_kills_of_what_starts_later_are_waited_after(worker: int | None, entry: Entry | None) -> None:
    engine = Engine(workers=2, spares=1)
    engine.auto_ready = False
    engine.exit(engine.at(None), signal.SIGKILL)
    if worker == 0:
        engine.exit(engine.at(0), signal.SIGKILL, Entry(3, L1))
        engine.exit(engine.at(None), signal.SIGKILL)
    forks = 0
    for _ in range(100):
        if worker in engine.alive.values():
            forks += bool(only(do.Fork, engine.exit(engine.at(worker), signal.SIGKILL, entry)))
        engine.run(0.1, step=0.1)
    assert forks <= engine.policy.streak + 4
    assert not only(do.FailTransition, engine.said)


def test_kills_while_a_step_is_replayed_are_waited_after() -> None:
    engine = Engine(workers=2)
    for _ in range(engine.policy.streak):
        told = engine.exit(engine.at(0), signal.SIGKILL, Entry(3, T.BeginStep, replay=True))
    assert only(do.LeaveOut, told) == [do.LeaveOut(0, 1.0)]


def test_a_few_kills_at_the_start_cost_nothing() -> None:
    engine = Engine(workers=1)
    engine.auto_ready = False
    engine.exit(1, signal.SIGKILL, Entry(3, L1))
    for incarnation in range(2, 2 + engine.policy.streak - 1):
        assert only(do.Fork, engine.exit(incarnation, signal.SIGKILL, Entry(1, T.Configure, replay=True)))
    engine.ready(engine.at(0))
    engine.queue(engine.at(0))
    engine.answer(engine.at(0))
    engine.run(0.1)
    assert engine.supervisor.roster.posts[0].streak == 0

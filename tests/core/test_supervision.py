"""Scenarios of failing workers, with a clock that the test turns."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.core import instructions as do
from drp.core.config import DrpConfig
from drp.core.failures import Failure, ScriptReport, Tally
from drp.core.instructions import Instruction
from drp.core.ledger import Cause
from drp.core.policy import Policy
from drp.core.supervision import Supervisor
from drp.core.worker_states import TABLE, Entry, News, Process, State, Watch, mermaid
from tests.support.supervised import L1, RAISED, Engine, logs, only
from xtc import TransitionId as T

DOCS = Path(__file__).parents[2] / "docs" / "worker_states.md"


def test_nothing_is_forked_before_the_first_nursery_answers() -> None:
    supervisor = Supervisor(Policy(workers=2))
    assert [supervisor.tick([], at / 50) for at in range(1000)] == [[]] * 1000
    forked = [one for one in supervisor.start(20.0) if isinstance(one, do.Fork)]
    assert len(forked) == 3


def test_a_configure_or_a_lost_nursery_before_the_first_answers_forks_nothing_either() -> None:
    supervisor = Supervisor(Policy(workers=2))
    told = supervisor.on_configure(0.1) + supervisor.on_nursery_lost(0.2) + supervisor.on_configure(0.3)
    assert not only(do.Fork, told + supervisor.tick([], 0.4))
    assert len(only(do.Fork, supervisor.start(0.5))) == 3


def test_start_forks_every_worker_and_the_spares() -> None:
    engine = Engine(workers=3, spares=2)
    assert only(do.Fork, engine.said) == [
        do.Fork(1, 0),
        do.Fork(2, 1),
        do.Fork(3, 2),
        do.Fork(4, None),
        do.Fork(5, None),
    ]
    assert not engine.run(1.0)


def test_a_raise_blames_the_event_and_a_spare_takes_the_post_at_once() -> None:
    engine = Engine(workers=2, spares=1)
    told = engine.raise_at(1)
    assert only(do.Release, told) == [do.Release(1, 0, Cause.raised, Failure.RAISED)]
    assert only(do.UseSpare, told) == [do.UseSpare(0, 3)]
    assert only(do.Fork, told) == [do.Fork(4, None)]
    assert engine.supervisor.roster.restarts == 1


def test_without_a_ready_spare_a_new_process_takes_the_post() -> None:
    engine = Engine(workers=1, spares=1)
    engine.auto_ready = False
    engine.raise_at(1)
    told = engine.raise_at(2)
    assert only(do.Fork, told) == [do.Fork(4, 0)]


def test_a_spare_that_is_ready_before_its_fork_is_reported_takes_the_post() -> None:
    supervisor = Supervisor(Policy(workers=1, spares=1, script="myroi.py"))
    supervisor.start(0.0)
    supervisor.on_ready(2, 0.0)
    supervisor.on_forked(2, 0.1)
    told = supervisor.on_exit(1, 9, None, 0, 0.2)
    assert only(do.UseSpare, told) == [do.UseSpare(0, 2)]


def test_traceback_is_told_once_per_kind_and_counted_after() -> None:
    engine = Engine(streak=100)
    assert ["File" in text for text in logs(engine.raise_at(1))] == [True]
    for incarnation in range(2, 20):
        assert logs(engine.raise_at(incarnation)) == []
    assert engine.supervisor.tally.as_dict() == {"raised ValueError at /x/myroi.py:7": 19}


def test_hanging_event_is_asked_for_its_traceback_and_killed_after_its_time() -> None:
    engine = Engine()
    engine.queue(1)
    engine.answer(1)
    engine.queue(1)
    assert not engine.run(1.9)
    told = engine.run(0.16)
    assert only(do.AskTraceback, told) == [do.AskTraceback(1)]
    assert only(do.Kill, told) == []
    assert only(do.Kill, engine.run(0.06)) == [do.Kill(1)]
    told = engine.exit(1, signal.SIGKILL, Entry(2, L1))
    assert only(do.Release, told) == [do.Release(1, 0, Cause.timed_out, Failure.TIMED_OUT)]
    assert only(do.Fork, told) == [do.Fork(2, 0)]


def test_event_taken_after_the_time_out_and_before_the_kill_is_done_again() -> None:
    engine = Engine()
    engine.queue(1)
    engine.answer(1)
    engine.queue(1)
    engine.run(2.2)
    told = engine.exit(1, signal.SIGKILL, Entry(3, L1))
    assert only(do.Release, told) == [do.Release(1, 0, Cause.none, Failure.TIMED_OUT)]


def test_first_event_of_a_process_has_longer() -> None:
    engine = Engine()
    engine.queue(1)
    assert not engine.run(59.0, step=0.1)
    assert only(do.AskTraceback, engine.run(1.5))


@pytest.mark.parametrize(
    ("service", "limit_s"), [(T.Configure, 60), (T.BeginRun, 30), (T.EndRun, 30), (T.SlowUpdate, 30)]
)
def test_transitions_have_their_own_time(service: T, limit_s: int) -> None:
    engine = Engine()
    engine.queue(1)
    assert not engine.run(limit_s - 1, service, step=0.1)
    assert only(do.AskTraceback, engine.run(1.5, service))


def test_clock_stops_while_the_worker_waits_for_drp() -> None:
    engine = Engine(first_event_timeout_s=2.0)
    engine.queue(1)
    engine.run(1.5)
    assert not engine.run(30.0, waiting=True)
    assert not engine.run(0.4)
    assert only(do.AskTraceback, engine.run(0.3))


def test_clock_starts_anew_with_every_event_and_not_without_work() -> None:
    engine = Engine(first_event_timeout_s=2.0)
    assert not engine.run(10.0)
    for _ in range(20):
        engine.queue(1)
        assert not engine.run(1.5)
        engine.answer(1)
    assert not engine.run(10.0)


def test_stopped_worker_that_takes_nothing_is_replaced_and_nothing_is_blamed() -> None:
    engine = Engine(first_event_timeout_s=2.0)
    engine.queue(1, take=False)
    assert only(do.Kill, engine.run(2.2)) == [do.Kill(1)]
    assert "not even taken" in logs(engine.said)[0]
    told = engine.exit(1, signal.SIGKILL, None)
    assert only(do.Release, told)[0].failure is Failure.TIMED_OUT
    assert engine.supervisor.failed_transitions == 0


def test_standstill_of_drp_itself_moves_the_deadlines() -> None:
    engine = Engine(first_event_timeout_s=2.0)
    engine.queue(1)
    engine.run(1.0)
    engine.now += 500.0
    told = engine.take(engine.supervisor.tick(engine.look(), engine.now))
    assert "stood still for 500.0 s" in logs(told, "warning")[0]
    assert not only(do.AskTraceback, told)
    assert not engine.run(0.8)
    assert only(do.AskTraceback, engine.run(0.3))


@pytest.mark.parametrize(
    ("status", "failure", "word"),
    [
        (signal.SIGSEGV, Failure.DIED, "SIGSEGV"),
        (signal.SIGSEGV | 0x80, Failure.DIED, "SIGSEGV"),
        (signal.SIGKILL, Failure.KILLED, "out of memory"),
        (signal.SIGTERM, Failure.KILLED, "SIGTERM"),
        (3 << 8, Failure.DIED, "exited with code 3"),
        (0, Failure.DIED, "exited with code 0"),
        (None, Failure.DIED, "nobody knows"),
        (63, Failure.DIED, "signal 63"),
    ],
)
def test_death_blames_the_event_in_hand_and_says_of_what(
    status: int | None, failure: Failure, word: str
) -> None:
    engine = Engine()
    told = engine.exit(1, status, Entry(1, L1))
    assert only(do.Release, told) == [do.Release(1, 0, Cause.died, failure)]
    assert word in logs(told)[0]
    assert only(do.Fork, told) == [do.Fork(2, 0)]


def test_nonsense_is_killed_at_once() -> None:
    engine = Engine()
    report = ScriptReport("WorkerError", "sequence 9 for 8")
    told = engine.take(engine.supervisor.on_failed(1, Failure.NONSENSE, report, Entry(4, L1), engine.now))
    assert only(do.Kill, told) == [do.Kill(1)]
    told = engine.exit(1, signal.SIGKILL, Entry(4, L1))
    assert only(do.Release, told) == [do.Release(1, 0, Cause.nonsense, Failure.NONSENSE)]


def test_process_that_failed_and_does_not_exit_is_killed_after_a_second() -> None:
    engine = Engine()
    engine.take(
        engine.supervisor.on_failed(1, Failure.LEFT, ScriptReport("left", "x"), Entry(1, L1), engine.now)
    )
    assert not only(do.Kill, engine.run(0.9))
    assert only(do.Kill, engine.run(0.2)) == [do.Kill(1)]
    assert only(do.Release, engine.exit(1, signal.SIGKILL))[0].cause is Cause.left


def test_process_that_survives_its_kill_is_told_and_killed_again() -> None:
    engine = Engine()
    engine.take(engine.supervisor.on_failed(1, Failure.NONSENSE, RAISED, Entry(1, L1), engine.now))
    told = engine.run(10.1)
    assert only(do.Kill, told) == [do.Kill(1)]
    assert "stuck in the kernel" in logs(told)[0]


def fail_until_left_out(engine: Engine, worker: int = 0) -> list[Instruction]:
    told: list[Instruction] = []
    for _ in range(engine.policy.streak):
        told += engine.raise_at(engine.at(worker))
    return told


def test_five_failures_in_a_row_leave_a_worker_out_for_times_that_double() -> None:
    engine = Engine(workers=2)
    assert only(do.LeaveOut, fail_until_left_out(engine)) == [do.LeaveOut(0, 1.0)]
    waits = []
    for _ in range(8):
        forked = []
        before = engine.now
        while not forked:
            forked = only(do.Fork, engine.run(0.1, step=0.1))
        waits.append(round(engine.now - before))
        engine.raise_at(engine.at(0))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not only(do.PassRaw, engine.said)


def test_a_good_event_between_ends_the_streak() -> None:
    engine = Engine()
    for incarnation in range(1, 30):
        engine.queue(incarnation)
        if incarnation % 4 == 0:
            engine.answer(incarnation)
        engine.raise_at(incarnation)
    assert not only(do.LeaveOut, engine.said)


def test_kills_from_outside_never_leave_a_worker_out() -> None:
    engine = Engine()
    for incarnation in range(1, 300):
        engine.exit(incarnation, signal.SIGKILL, Entry(1, L1))
    assert not only(do.LeaveOut, engine.said)
    assert engine.supervisor.roster.restarts == 299
    assert engine.supervisor.roster.posts[0].failures == {"killed": 299}


def test_with_all_left_out_raw_passes_and_it_is_said_every_ten_seconds() -> None:
    engine = Engine(workers=2, retry_s=35.0)
    fail_until_left_out(engine, 0)
    assert not only(do.PassRaw, engine.said)
    assert only(do.PassRaw, fail_until_left_out(engine, 1)) == [do.PassRaw(on=True)]
    assert len([text for text in logs(engine.run(34.0)) if "every worker is left out" in text]) == 4
    engine.run(2.0)
    assert only(do.PassRaw, engine.said)[1:] == [do.PassRaw(on=False)]
    assert not logs(engine.run(20.0))


def test_configure_gives_those_left_out_another_chance_at_once() -> None:
    engine = Engine(workers=2)
    fail_until_left_out(engine)
    assert len(only(do.Fork, engine.take(engine.supervisor.on_configure(engine.now)))) == 1
    assert engine.supervisor.roster.posts[0].streak == 0


def test_spares_that_cannot_start_are_left_out_too_and_the_workers_go_on() -> None:
    engine = Engine(workers=1, spares=1)
    engine.auto_ready = False
    for _ in range(5):
        engine.raise_at(engine.at(None), T.Configure, replay=True)
    assert None not in engine.alive.values()
    assert not only(do.PassRaw, engine.said)
    assert only(do.Fork, engine.run(1.1)) == [do.Fork(7, None)]


@pytest.mark.parametrize("service", [T.Configure, T.BeginRun])
def test_raise_at_configure_or_beginrun_fails_the_transition_with_worker_and_traceback(service: T) -> None:
    engine = Engine(workers=2)
    told = engine.raise_at(2, service)
    [failed] = only(do.FailTransition, told)
    assert (failed.service, failed.error.worker, failed.error.kind) == (service, 1, "ValueError")
    assert "myroi.py" in str(failed.error)
    assert not only(do.Fork, told)


def test_hang_at_configure_fails_the_transition() -> None:
    engine = Engine()
    engine.auto_ready = False
    engine.queue(1)
    engine.run(60.2, T.Configure)
    [failed] = only(do.FailTransition, engine.exit(1, signal.SIGKILL, Entry(1, T.Configure)))
    assert "within 60 s" in str(failed.error)


def test_raise_between_the_time_out_and_the_kill_still_fails_the_transition() -> None:
    engine = Engine()
    engine.auto_ready = False
    engine.queue(1)
    told = engine.run(60.06, T.Configure)
    assert only(do.AskTraceback, told)
    assert not only(do.Kill, told)
    assert len(only(do.FailTransition, engine.raise_at(1, T.Configure))) == 1


def test_kill_from_outside_at_beginrun_replaces_the_worker_and_the_run_goes_on() -> None:
    engine = Engine()
    told = engine.exit(1, signal.SIGKILL, Entry(2, T.BeginRun))
    assert not only(do.FailTransition, told)
    assert only(do.Fork, told) == [do.Fork(2, 0)]


def test_failure_at_a_replay_counts_against_the_post_only() -> None:
    engine = Engine(workers=2)
    told = engine.raise_at(1, T.BeginRun, replay=True)
    assert not only(do.FailTransition, told)
    assert engine.supervisor.roster.posts[0].streak == 1
    assert engine.supervisor.failed_transitions == 0


def test_failure_at_another_transition_is_counted_and_replaced() -> None:
    engine = Engine(workers=2)
    told = engine.raise_at(1, T.EndStep)
    assert only(do.Fork, told) == [do.Fork(3, 0)]
    assert engine.supervisor.failed_transitions == 1


def test_worker_that_grows_too_large_is_retired_between_events_and_nothing_is_blamed() -> None:
    engine = Engine(workers=1, spares=1, worker_memory_bytes=1 << 20)
    told = engine.take(engine.supervisor.tick(engine.look(size=2 << 20), engine.now))
    assert only(do.Retire, told) == [do.Retire(1), do.Retire(2)]
    told = engine.take(engine.supervisor.tick(engine.look(size=2 << 20), engine.now))
    assert not only(do.Retire, told)
    told = engine.exit(1, 0, None)
    assert only(do.Release, told) == [do.Release(1, 0, Cause.none, Failure.MEMORY)]
    assert [one.level for one in only(do.Log, told)] == ["warning"]  # it was asked for
    assert engine.supervisor.roster.posts[0].failures == {"memory": 1}
    assert only(do.Fork, told) == [do.Fork(3, 0)]


def test_worker_that_dies_while_it_retires_has_died() -> None:
    engine = Engine(worker_memory_bytes=1 << 20)
    engine.take(engine.supervisor.tick(engine.look(size=2 << 20), engine.now))
    told = engine.exit(1, signal.SIGSEGV, Entry(5, L1))
    assert only(do.Release, told) == [do.Release(1, 0, Cause.died, Failure.DIED)]


def test_loss_of_the_nursery_is_nobodys_fault_and_forks_wait_for_a_new_one() -> None:
    engine = Engine(workers=2, spares=1)
    engine.take(engine.supervisor.on_nursery_lost(engine.now))
    told = [one for i in (1, 2, 3) for one in engine.exit(i, None, Entry(1, L1))]
    assert [one.cause for one in only(do.Release, told)] == [Cause.died] * 3
    assert not only(do.Fork, told + engine.run(1.0))
    told = engine.take(engine.supervisor.on_nursery_ready(engine.now))
    assert [one.worker for one in only(do.Fork, told)] == [0, 1, None]
    assert all(post.streak == 0 for post in engine.supervisor.roster.posts)


def test_fork_that_the_nursery_never_answers_restarts_the_nursery() -> None:
    supervisor = Supervisor(Policy(workers=1, spares=0))
    supervisor.start(0.0)
    told = [one for tick in range(600) for one in supervisor.tick([], tick * 0.02)]
    assert len(only(do.RestartNursery, told)) == 1
    supervisor.on_nursery_lost(12.0)
    assert only(do.Fork, supervisor.on_nursery_ready(12.1)) == [do.Fork(2, 0)]


def test_policies_stop_the_run_once() -> None:
    engine = Engine(workers=2, stop_on_failure=True)
    [stop] = only(do.StopRun, engine.raise_at(1) + engine.raise_at(2))
    assert "--on-script-failure stop: worker 0" in str(stop.error)
    engine = Engine(workers=2, stop_on_failure=True)
    assert not only(do.StopRun, engine.exit(1, signal.SIGKILL, Entry(1, L1)))
    engine = Engine(stop_on_overflow=True)
    told = [one for _ in range(3) for one in engine.supervisor.on_overflow(1, engine.now)]
    assert len(only(do.StopRun, told)) == 1
    assert engine.supervisor.overflows == 3


def test_overflow_alone_only_counts() -> None:
    engine = Engine()
    told = [one for _ in range(3) for one in engine.supervisor.on_overflow(1, engine.now)]
    assert len(logs(told)) == 1
    assert not only(do.StopRun, told)


def test_after_the_stop_exits_are_expected_and_who_stays_is_killed() -> None:
    engine = Engine(workers=2, spares=1)
    engine.take(engine.supervisor.on_stop(engine.now))
    told = engine.exit(1, 0)
    assert told == [do.Release(1, 0, Cause.none, None)]
    assert sorted(one.incarnation for one in only(do.Kill, engine.run(1.1))) == [2, 3]
    assert not logs(engine.exit(2, signal.SIGKILL))
    assert engine.supervisor.roster.restarts == 0


def test_late_news_of_a_gone_process_changes_nothing() -> None:
    engine = Engine()
    engine.raise_at(1)
    supervisor = engine.supervisor
    assert supervisor.on_ready(1, engine.now) == []
    assert supervisor.on_forked(1, engine.now) == []
    assert supervisor.on_exit(1, 0, None, 0, engine.now) == []
    assert supervisor.on_failed(1, Failure.RAISED, RAISED, Entry(1, L1), engine.now) == []
    assert supervisor.tick([Watch(1, 5, 1, 0, L1)], engine.now) == []


def test_policy_follows_the_options() -> None:
    config = DrpConfig(
        "a.py", workers=3, spares=2, event_timeout_s=1.0, on_overflow="stop", worker_memory_bytes=1 << 30
    )
    policy = Policy.from_config(config, compiles=False)
    assert (policy.workers, policy.spares, policy.event_timeout_s, policy.worker_memory_bytes) == (
        3,
        2,
        1.0,
        1 << 30,
    )
    assert (policy.stop_on_overflow, policy.stop_on_failure) == (True, False)


def test_kinds_of_failures_do_not_grow_without_end() -> None:
    tally = Tally()
    for number in range(1000):
        tally.note(f"kind {number}")
    assert len(tally.as_dict()) == 201
    assert sum(tally.as_dict().values()) == 1000


def test_every_state_but_gone_can_end_and_gone_is_final() -> None:
    assert {state for state, news in TABLE if news is News.EXITED} == set(State) - {State.GONE}
    process = Process(1, 0, 0.0, State.GONE)
    assert not any(process.step(news, 0.0) for news in News)


def test_diagram_in_the_docs_is_that_of_the_table() -> None:
    assert f"```mermaid\n{mermaid()}```" in DOCS.read_text()


MOVES = ["raise", "segv", "kill", "good", "tick", "nonsense", "configure", "nursery", "replay", "wait"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 5)), max_size=60), st.integers(0, 2))
def test_whatever_happens_every_post_has_one_process_or_is_left_out(
    moves: list[tuple[str, int]], spares: int
) -> None:
    engine = Engine(workers=3, spares=spares)
    supervisor = engine.supervisor
    for move, which in moves:
        incarnation = sorted(engine.alive)[which % len(engine.alive)] if engine.alive else 0
        if move in ("tick", "wait") or not incarnation:
            engine.run(0.1 if move == "tick" else 3.0, step=0.1)
        elif move == "raise":
            engine.raise_at(incarnation)
        elif move == "replay":
            engine.raise_at(incarnation, T.Configure, replay=True)
        elif move in ("segv", "kill"):
            number = signal.SIGSEGV if move == "segv" else signal.SIGKILL
            engine.exit(incarnation, number, Entry(1, L1) if which % 2 else None)
        elif move == "nonsense":
            engine.take(supervisor.on_failed(incarnation, Failure.NONSENSE, RAISED, Entry(1, L1), engine.now))
            engine.exit(incarnation, signal.SIGKILL, Entry(1, L1))
        elif move == "good":
            engine.queue(incarnation)
            engine.answer(incarnation)
        elif move == "configure":
            engine.take(supervisor.on_configure(engine.now))
        else:
            engine.take(supervisor.on_nursery_lost(engine.now))
            for one in list(engine.alive):
                engine.exit(one, None, Entry(1, L1))
            engine.take(supervisor.on_nursery_ready(engine.now))
        held = Counter(engine.alive.values())
        roster = supervisor.roster
        assert {i: p.worker for i, p in roster.processes.items()} == engine.alive
        for post in roster.posts:
            assert held[post.worker] == 1 or (
                held[post.worker] == 0 and post.out and not post.due(engine.now)
            )
        assert held[None] <= spares
        assert roster.passing == all(post.out for post in roster.posts)
    released = Counter(one.incarnation for one in only(do.Release, engine.said))
    assert all(count == 1 for count in released.values())
    assert set(released) == set(engine.counts) - set(engine.alive)


def test_who_is_not_gone_at_the_end_is_counted_once_and_not_replaced() -> None:
    engine = Engine(workers=2)
    told = engine.take(
        engine.supervisor.on_failed(1, Failure.RAISED, RAISED, Entry(1, T.EndRun), engine.now)
        + engine.supervisor.write_off([1], engine.now)
    )
    assert engine.supervisor.unburied == 1
    assert engine.supervisor.roster.posts[0].failures == {"raised": 1}
    assert "left behind" in logs(told)[-1]
    assert not only(do.Fork, engine.run(1.0))
    assert not only(do.Release, engine.exit(1, signal.SIGKILL))
    assert engine.supervisor.roster.restarts == 1


def test_who_does_not_leave_when_told_is_no_failure() -> None:
    engine = Engine(workers=1)
    engine.take(engine.supervisor.on_stop(engine.now))
    engine.take(engine.supervisor.write_off([1], engine.now))
    assert engine.supervisor.unburied == 1
    assert engine.supervisor.roster.posts[0].failures == {}

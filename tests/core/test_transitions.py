"""Any odd stream becomes a legal run; what cannot is refused with an error that says why."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.core.errors import OrderError
from drp.core.transitions import NS_PER_S, TABLE, RunState, Sequencer, add_ns, mermaid, path
from xtc import TransitionId as T

DOCS = Path(__file__).parents[2] / "docs" / "run_states.md"


def at(seconds: int, ns: int = 0) -> int:
    return seconds << 32 | ns


def push(sequencer: Sequencer, service: T, timestamp: int) -> list[tuple[T, int]]:
    inserted = sequencer.before(service, timestamp)
    for one in inserted:
        sequencer.accept(one.service, one.timestamp, synthesised=True)
    sequencer.accept(service, timestamp)
    return [*((one.service, one.timestamp) for one in inserted), (service, timestamp)]


def close(sequencer: Sequencer) -> list[tuple[T, int]]:
    out = []
    for one in sequencer.closing():
        sequencer.accept(one.service, one.timestamp, synthesised=True)
        out.append((one.service, one.timestamp))
    return out


def whole(services: list[T], timestamps: list[int]) -> tuple[list[tuple[T, int]], Sequencer]:
    sequencer = Sequencer("test")
    out: list[tuple[T, int]] = []
    for service, timestamp in zip(services, timestamps, strict=True):
        out += push(sequencer, service, timestamp)
    return out + close(sequencer), sequencer


def is_legal(services: list[T]) -> bool:
    """Judge a row of services by the plain rules, without the table."""
    depth = 0
    opens = [T.Configure, T.BeginRun, T.BeginStep, T.Enable]
    closes = [T.Unconfigure, T.EndRun, T.EndStep, T.Disable]
    for service in services:
        if service in (T.L1Accept, T.SlowUpdate):
            ok = depth == 4 if service is T.L1Accept else depth >= 2
        elif service in opens:
            level = opens.index(service)
            ok = depth == level or (service in (T.BeginStep, T.Enable) and depth == level + 1)
            depth = level + 1
        else:
            level = closes.index(service)
            ok = depth == level + 1
            depth = level
        if not ok:
            return False
    return depth == 0


STEP = [T.BeginStep, T.Enable, T.L1Accept, T.SlowUpdate, T.L1Accept, T.Disable, T.EndStep]
RUN = [T.BeginRun, *STEP, *STEP, T.EndRun]
LEGAL = [T.Configure, *RUN, *RUN, T.Unconfigure, T.Configure, *RUN, T.Unconfigure]


@given(st.lists(st.booleans(), min_size=len(LEGAL) - 1, max_size=len(LEGAL) - 1))
def test_any_subsequence_of_a_legal_run_becomes_legal(kept: list[bool]) -> None:
    given_services = [T.Configure, *(s for s, keep in zip(LEGAL[1:], kept, strict=True) if keep)]
    # a second Unconfigure without its Configure is the one thing that cannot be made good
    unconfigured = False
    services = []
    for service in given_services:
        if unconfigured and service is not T.Configure:
            continue
        unconfigured = service is T.Unconfigure
        services.append(service)
    out, sequencer = whole(services, [at(10 + i) for i in range(len(services))])
    assert is_legal([service for service, _ in out])
    assert [s for s, _ in out if s in (T.Configure, T.L1Accept, T.SlowUpdate)] == [
        s for s in services if s in (T.Configure, T.L1Accept, T.SlowUpdate)
    ]
    times = [timestamp for _, timestamp in out]
    assert times == sorted(set(times))
    assert sum(sequencer.synthesised.values()) == len(out) - len(services)


@given(st.data())
def test_synthesised_times_never_lie_outside_their_neighbours(data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(st.sampled_from(LEGAL[1:-1]).filter(lambda s: s is not T.Unconfigure), max_size=12)
    )
    gaps = data.draw(st.lists(st.integers(0, 6), min_size=len(rows) + 1, max_size=len(rows) + 1))
    times, now = [], at(5, NS_PER_S - 4)
    for gap in gaps:
        now = add_ns(now, gap)
        times.append(now)
    out, _ = whole([T.Configure, *rows], times)
    stamps = [timestamp for _, timestamp in out]
    assert stamps == sorted(stamps)
    assert all(stamp & 0xFFFFFFFF < NS_PER_S for stamp in stamps)


def test_complete_run_gets_nothing_inserted() -> None:
    out, sequencer = whole(LEGAL, [at(i) for i in range(len(LEGAL))])
    assert [service for service, _ in out] == LEGAL
    assert not sequencer.synthesised
    assert sequencer.state is RunState.UNCONFIGURED


def test_file_that_ends_in_an_event_is_closed_in_order() -> None:
    out, _ = whole([T.Configure, T.BeginRun, T.BeginStep, T.Enable, T.L1Accept], [at(i) for i in range(5)])
    assert out[5:] == [
        (T.Disable, at(4, 1)),
        (T.EndStep, at(4, 2)),
        (T.EndRun, at(4, 3)),
        (T.Unconfigure, at(4, 4)),
    ]


def test_events_straight_after_configure_get_a_run_a_step_and_an_enable() -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    assert push(sequencer, T.L1Accept, at(2)) == [
        (T.BeginRun, at(1, 1)),
        (T.BeginStep, at(1, 2)),
        (T.Enable, at(1, 3)),
        (T.L1Accept, at(2)),
    ]


def test_second_beginstep_and_enable_pass_as_they_are() -> None:
    services = [T.Configure, T.BeginRun, T.BeginStep, T.BeginStep, T.Enable, T.L1Accept, T.Enable, T.L1Accept]
    out, _ = whole(services, [at(1), at(2), at(3), at(3), at(4), at(5), at(6), at(7)])
    assert [service for service, _ in out][: len(services)] == services


def test_new_configure_ends_the_run_before_it() -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    push(sequencer, T.L1Accept, at(2))
    inserted = [service for service, _ in push(sequencer, T.Configure, at(3))]
    assert inserted == [T.Disable, T.EndStep, T.EndRun, T.Unconfigure, T.Configure]


def test_times_do_not_pass_the_next_dgram_when_the_gap_is_too_small() -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    assert [timestamp for _, timestamp in push(sequencer, T.L1Accept, at(1, 2))] == [
        at(1, 1),
        at(1, 2),
        at(1, 2),
        at(1, 2),
    ]


def test_nanoseconds_carry_into_seconds() -> None:
    assert add_ns(at(7, NS_PER_S - 1), 2) == at(8, 1)
    assert add_ns((1 << 64) - 1, 5) == (1 << 64) - 1


def test_index_counts_events_from_each_beginrun() -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    push(sequencer, T.L1Accept, at(2))
    sequencer.accept_events(10, at(3))
    assert (sequencer.index, sequencer.events) == (11, 11)
    push(sequencer, T.BeginRun, at(4))
    assert (sequencer.index, sequencer.events) == (0, 11)


@pytest.mark.parametrize("service", [T.L1Accept, T.SlowUpdate, T.BeginRun, T.EndRun, T.Unconfigure])
def test_anything_before_configure_is_refused_with_what_to_do(service: T) -> None:
    sequencer = Sequencer("data-r0001-s000-c001.xtc2")
    with pytest.raises(OrderError, match=r"c001.*came before any Configure.*first chunk") as caught:
        sequencer.before(service, at(1))
    assert (caught.value.service, caught.value.state) == (service.name, "unconfigured")


@pytest.mark.parametrize(
    ("service", "name"), [(0, "ClearReadout"), (11, "EndOfBatch"), (15, "service 15"), (-1, "service -1")]
)
def test_unknown_service_is_refused_by_name_and_leaves_the_state(service: int, name: str) -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    with pytest.raises(OrderError, match=name) as caught:
        sequencer.before(service, at(2))
    assert caught.value.recent == ("Configure",)
    assert sequencer.state is RunState.CONFIGURED
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_accepting_what_is_not_legal_is_an_error_and_changes_nothing() -> None:
    sequencer = Sequencer()
    with pytest.raises(OrderError):
        sequencer.accept_events(1, at(1))
    push(sequencer, T.Configure, at(1))
    with pytest.raises(OrderError, match="not legal while the run is configured"):
        sequencer.accept(T.Disable, at(2))
    assert (sequencer.state, sequencer.last_timestamp) == (RunState.CONFIGURED, at(1))


def test_before_may_be_asked_twice() -> None:
    sequencer = Sequencer()
    push(sequencer, T.Configure, at(1))
    assert sequencer.before(T.L1Accept, at(9)) == sequencer.before(T.L1Accept, at(9))
    assert not sequencer.synthesised


def test_every_service_of_the_table_is_reachable_from_configured() -> None:
    assert all(path(RunState.CONFIGURED, service) is not None for _, service in TABLE)


def test_diagram_in_the_docs_is_that_of_the_table() -> None:
    assert f"```mermaid\n{mermaid()}```" in DOCS.read_text()

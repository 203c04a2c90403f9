"""Which events are built of what comes, which are given up, and when."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from drp.meb.assembly import Assembly, Built, Contributor, Part
from xtc import DgramHeader, TransitionId

L1, SLOW, ENABLE = TransitionId.L1Accept, TransitionId.SlowUpdate, TransitionId.Enable
SECOND = 1_000_000_000


def part(key: int, service: TransitionId = L1, groups: int = 1, came_ns: int = 0) -> Part:
    header = DgramHeader(key, int(service) << 24 | groups)
    return Part(key, header, key, 0, memoryview(header.encode()), came_ns)


def assembly(groups: Sequence[int] = (0, 0), connected: bool = True) -> Assembly:
    made = Assembly([Contributor(one, f"drp{one}", group) for one, group in enumerate(groups)])
    for one, group in enumerate(groups):
        if connected:
            made.connect(Contributor(one, f"drp{one}", group))
    return made


def keys(found: Built | None) -> tuple[int, list[int], tuple[int, ...]] | None:
    return None if found is None else (found.first.key, sorted(found.parts), found.missing)


def test_an_event_is_built_when_all_of_its_groups_have_sent_it() -> None:
    made = assembly(groups=(0, 0, 1))
    made.put(0, part(5, groups=1))
    assert made.take(0) is None
    made.put(1, part(5, groups=1))
    assert keys(made.take(0)) == (5, [0, 1], ())
    for one in range(3):
        made.put(one, part(6, groups=3))
    assert keys(made.take(0)) == (6, [0, 1, 2], ())


def test_an_event_that_one_drp_had_no_credit_for_is_passed_over() -> None:
    made = assembly()
    for key in (5, 6):
        made.put(0, part(key))
    made.put(1, part(6))
    assert keys(made.take(0)) == (6, [0, 1], ())
    assert made.counts["split"] == 1


def test_a_drp_that_sends_nothing_is_waited_for_until_the_time_out_and_then_left_out() -> None:
    made = assembly()
    made.put(0, part(5, came_ns=10))
    assert made.take(SECOND) is None and made.waits_until_ns() == SECOND + 10
    assert keys(made.take(SECOND + 10)) == (5, [0], (1,))
    assert made.counts["timed_out"] == 1


def test_who_is_not_connected_is_not_waited_for() -> None:
    made = assembly()
    made.leave(1)
    made.put(0, part(5))
    assert keys(made.take(0)) == (5, [0], ())


def test_a_transition_waits_for_all_groups_and_keeps_its_place_among_events() -> None:
    made = assembly(groups=(0, 1))
    made.put(0, part(4, groups=1))
    made.put(0, part(5, ENABLE, groups=1))
    made.put(0, part(6, groups=1))
    assert keys(made.take(0)) == (4, [0], ())
    assert made.take(0) is None
    made.put(1, part(5, ENABLE, groups=1))
    found = [made.take(0) for _ in range(3)]
    assert [keys(one) for one in found] == [(5, [0, 1], ()), (6, [0], ()), None]


def test_a_drp_that_begins_anew_is_taken_as_it_comes() -> None:
    made = assembly()
    made.put(0, part(5))
    made.put(1, part(4))
    made.connect(Contributor(1, "drp1", 0))
    made.put(1, part(5))
    assert keys(made.take(0)) == (5, [0, 1], ())


def test_what_a_stranger_sends_is_refused_and_counted() -> None:
    made = assembly()
    assert not made.put(9, part(5))
    assert made.counts["refused"] == 1


step = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 12), st.sampled_from([L1, SLOW, ENABLE])),
    st.tuples(st.sampled_from(["connect", "leave", "remove"]), st.integers(0, 2), st.just(0), st.just(L1)),
    st.tuples(st.just("wait"), st.just(0), st.integers(0, 6), st.just(L1)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(step, max_size=60))
def test_nothing_that_comes_stops_it_and_all_that_was_put_leaves_it(
    steps: list[tuple[str, int, int, TransitionId]],
) -> None:
    made, now, put, taken = assembly(groups=(0, 0, 1)), 0, 0, 0
    for what, who, number, service in steps:
        if what == "put":
            put += made.put(who, part(number, service, groups=3, came_ns=now))
        elif what == "wait":
            now += number * SECOND
        else:
            getattr(made, what)(Contributor(who, f"drp{who}", who // 2) if what == "connect" else who)
        while (built := made.take(now)) is not None:
            assert len({(one.key, one.service) for one in built.parts.values()}) == 1
            taken += len(built.parts)
    while made.take(now + 10 * SECOND) is not None:
        pass
    assert made.take(now + 20 * SECOND) is None and made.waits_until_ns() is None
    assert taken <= put

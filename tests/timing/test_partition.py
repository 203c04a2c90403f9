"""Timing and drps over real sockets: order, credit, dead time, who comes late, who is lost, who has no business there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zmq

from drp.core import wire
from drp.core.triggering import Cadence, TriggerPlan
from drp.core.wire import Header, Kind
from drp.link.sockets import join
from drp.timing.journal import Journal, JournalError, read_journal
from tests.support.small_disk import small_disk
from tests.support.timing_world import BEGIN, END, FakeDrp, World, rising
from xtc import TransitionId

pytestmark = pytest.mark.timeout(60)

TWO = {0: ("drp_0", 0), 3: ("drp_3", 2)}


def run(world: World, drps: list[FakeDrp], events: int) -> None:
    """Run a step of so many events of the common group, and end it."""
    world.until_ready()
    world.insert(*BEGIN)
    world.until(lambda: all(len(drp.pulses) >= events for drp in drps if drp.link.who.group == 0))
    world.insert(*END)
    world.until(lambda: all(drp.services and drp.services[-1] == END[-1] for drp in drps))


def test_every_drp_gets_the_events_of_its_group_and_all_transitions_in_one_order(
    world: World, tmp_path: Path
) -> None:
    plan = TriggerPlan(rate_hz=None, slow_hz=10, groups={2: Cadence(10, of_events=True)})
    partition = world.start(plan, folder=tmp_path)
    world.configure(TWO)
    fast, slow = world.join(0), world.join(3, group=2)
    partition.begin_run("xpp1", 7)
    run(world, [fast, slow], 5000)
    assert fast.services == slow.services == [TransitionId.Configure, *BEGIN, *END]
    assert [one.pulse_id for one in fast.transitions] == [one.pulse_id for one in slow.transitions]
    assert slow.pulses == fast.pulses[::10]
    assert set(fast.groups) == {1, 5}
    assert rising(fast.order)
    header, records = read_journal(tmp_path / "tst-xpp1-r0007.triggers")
    assert header["run"][0] == 7
    in_run = [pulse for pulse in fast.order if pulse > fast.transitions[0].pulse_id]
    assert records["pulse_id"].tolist() == in_run[:-1]  # Unconfigure comes after the run
    assert records["number"].tolist() == list(range(1, len(records) + 1))


def test_who_takes_nothing_stops_its_group_alone_and_still_gets_the_transitions(world: World) -> None:
    partition = world.start(TriggerPlan(rate_hz=1000, slow_hz=10))
    world.configure(TWO)
    good, hung = world.join(0), world.join(3, group=2, slots=5)
    world.until_ready()
    world.insert(*BEGIN)
    world.until(lambda: len(good.pulses) > 20)
    hung.take = False
    counts = partition.counts
    world.until(lambda: counts()["inhibited"]["drp_3"] > 100)
    assert counts()["inhibited"]["drp_0"] == 0
    assert len(hung.pulses) == counts()["groups"]["2"] < counts()["groups"]["0"]
    world.insert(*END)
    world.until(lambda: hung.services[-1:] == [END[-1]])


def test_a_busy_drp_can_be_seen_by_its_dead_time(world: World) -> None:
    partition = world.start(TriggerPlan(rate_hz=1000, slow_hz=0))
    world.configure(TWO)
    world.join(0)
    world.join(3, group=2, slots=0)
    world.insert(*BEGIN)
    world.until(lambda: partition.dead.get("drp_3", 0) > 0.99)
    assert partition.dead["drp_0"] < 0.5


def test_transitions_wait_for_a_drp_that_is_not_there_yet(world: World) -> None:
    world.start()
    world.configure(TWO)
    world.insert(*BEGIN, run_info={"run_number": 5})
    late = world.join(0)
    world.join(3, group=2)
    world.until(lambda: len(late.pulses) > 10)
    assert late.services == [TransitionId.Configure, *BEGIN]
    assert late.transitions[1].info == {"run_info": {"run_number": 5}}


def test_a_gone_drp_holds_nobody_up(world: World) -> None:
    partition = world.start()
    world.configure({0: ("drp_0", 0), 1: ("drp_1", 0)})
    there, dies = world.join(0), world.join(1)
    world.insert(*BEGIN)
    world.until(lambda: there.pulses and dies.pulses)
    world.drps.remove(dies)
    dies.link.close()
    partition.gone(1)
    before = len(there.pulses)
    world.until(lambda: len(there.pulses) > before + 1000)


def test_a_drp_of_another_epoch_waits_until_timing_has_it(world: World) -> None:
    world.start()
    world.configure({0: ("drp_0", 0)}, epoch=4)
    early = world.join(0, epoch=5)
    world.until(lambda: early.link.sessions == 0 and early.link.refused)
    assert "epoch 4" in early.link.refused
    world.insert(TransitionId.Unconfigure)
    world.configure({0: ("drp_0", 0)}, epoch=5)
    world.until(lambda: early.services == [TransitionId.Configure])


def test_a_drp_that_is_not_of_the_partition_gets_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start()
    world.configure({0: ("drp_0", 0)})
    good, wrong_group, unknown = world.join(0), world.join(0, group=1), world.join(9)
    world.until(lambda: wrong_group.link.refused and unknown.link.refused)
    run(world, [good], 100)
    assert (wrong_group.link.sessions, unknown.link.sessions) == (0, 0)
    assert "is not drp" in caplog.text


def test_a_second_drp_of_the_same_id_does_not_take_the_place_of_the_first(world: World) -> None:
    partition = world.start()
    world.configure({0: ("drp_0", 0)})
    first = world.join(0)
    world.until_ready()
    second = world.join(0)
    world.until(lambda: "there already" in second.link.refused)
    run(world, [first], 1000)
    assert (first.link.sessions, second.link.sessions) == (1, 0)
    assert partition.core is None


def test_a_drp_whose_place_is_held_by_a_dead_connection_gets_it_in_the_end(world: World) -> None:
    world.start()
    world.configure({0: ("drp_0", 0)})
    dead = world.join(0)
    world.until_ready()
    world.drps.remove(dead)
    again = world.join(0)
    world.until(lambda: again.link.sessions == 1)
    dead.link.close()


def test_nonsense_is_answered_with_an_error_and_the_run_goes_on(world: World) -> None:
    world.start()
    world.configure({0: ("drp_0", 0)})
    good = world.join(0)
    world.until(lambda: good.services)
    stranger = join(zmq.DEALER, world.endpoint)
    nonsense = [
        b"",
        b"hello",
        Header(Kind.CREDIT, 1).encode() + bytes(8),
        Header(Kind.HELLO, 1).encode() + b"{]",
        Header(Kind.HELLO, 1).encode() + b'{"id": "x", "epoch": 1}',
        Header(Kind.EVENTS, 1, 9).encode(),
        Header(Kind.CREDIT, good.link._session).encode() + b"\xff" * 8,
    ]
    for frame in nonsense:
        stranger.send(frame)
    stranger.send_multipart([b"two", b"frames"])
    answers: list[bytes] = []

    def heard() -> bool:
        while stranger.poll(0):
            answers.append(stranger.recv())
        return len(answers) == len(nonsense) + 1

    world.until(heard)
    assert {wire.decode(one)[0].kind for one in answers} == {Kind.ERROR}
    run(world, [good], 100)
    stranger.close()


def test_absurd_credit_is_not_believed(world: World) -> None:
    partition = world.start()
    world.configure({0: ("drp_0", 0)})
    drp = world.join(0, slots=(1 << 63) - 1)
    world.insert(*BEGIN)
    world.until(lambda: drp.link.granted)
    world.partition.turn()
    assert partition.core is not None
    assert partition.core.members[0].granted == 0


def test_drps_find_a_timing_that_was_killed_and_started_again(world: World) -> None:
    world.start()
    world.configure({0: ("drp_0", 0)})
    drp = world.join(0)
    world.insert(*BEGIN)
    world.until(lambda: len(drp.pulses) > 50)
    world.stop()
    world.start()
    world.configure({0: ("drp_0", 0)})
    world.until(lambda: drp.link.sessions == 2)
    run(world, [drp], len(drp.pulses) + 50)
    assert rising(drp.pulses)


def test_triggers_that_a_drp_missed_are_counted_as_lost(world: World) -> None:
    world.start(TriggerPlan(rate_hz=1000, slow_hz=0))
    world.configure({0: ("drp_0", 0)})
    drp = world.join(0, slots=1000)
    world.insert(*BEGIN)
    world.until(lambda: len(drp.pulses) > 20)
    drp.link._received -= 7  # as if a connection had ended under way
    drp.link._restart("the connection was lost")
    world.until(lambda: drp.link.sessions == 2)
    assert drp.link.lost >= 7
    seen = len(drp.pulses)
    world.until(lambda: len(drp.pulses) > seen + 20)
    counts = world.partition.links.drps[0]
    world.insert(TransitionId.Disable)
    world.until(lambda: drp.link._received == counts.sent)


def test_a_full_disk_stops_the_pulses_and_not_the_transitions(world: World, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        partition = world.start(TriggerPlan(rate_hz=1000, slow_hz=0), folder=disk)
        world.configure({0: ("drp_0", 0)})
        drp = world.join(0)
        (disk / "else").write_bytes(bytes(50 << 10))
        world.until_ready()
        partition.begin_run("xpp1", 1)
        world.insert(*BEGIN)
        world.until(lambda: partition.counts()["inhibited_groups"]["0"] > 50)
        assert partition.counts()["inhibited"]["drp_0"] == 0
        stopped_at = len(drp.pulses)
        (disk / "else").unlink()
        world.until(lambda: len(drp.pulses) > stopped_at + 20)
        world.insert(*END)
        world.until(lambda: drp.services[-1] == END[-1])
        _, records = read_journal(disk / "tst-xpp1-r0001.triggers")
        assert set(drp.pulses) < set(records["pulse_id"].tolist())
        assert len(records) == len(drp.pulses) + len(drp.services) - 2  # of the run


def test_a_journal_is_never_overwritten_and_one_cut_off_is_read(tmp_path: Path) -> None:
    records = np.zeros(3, wire.TRIGGER)
    journal = Journal(tmp_path, "tst", "xpp1", 1)
    journal.write(records)
    path = journal.path
    path.write_bytes(path.read_bytes()[:-1])
    assert len(read_journal(path)[1]) == 2
    assert len(read_journal(str(path))[1]) == 2
    with pytest.raises(JournalError, match="run number"):
        Journal(tmp_path, "tst", "xpp1", 1)
    journal.close()
    assert path.stat().st_mode & 0o777 == 0o440
    path.chmod(0o640)
    path.write_bytes(b"something else, which is longer than a header of sixty-four bytes")
    with pytest.raises(JournalError, match="no journal"):
        read_journal(path)

"""A partition's transitions: every failure is named, what failed is undone, and a run can always be ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drp.control.move import Limits
from drp.control.plan import Selection
from drp.core.diagram import mermaid
from drp.core.errors import DrpError
from drp.core.partition import STEPS, TABLE, State, path
from tests.control.world import World

DOCS = Path(__file__).parents[2] / "docs" / "run_control.md"


def keys_sent(world: World, alias: str) -> list[str]:
    return [one.key for one in world.of(alias).sent if one.msg_id]


def test_a_partition_goes_to_running_and_back() -> None:
    world = World(record=True)
    assert world.go("running") == []
    assert world.partition.state is State.RUNNING
    assert keys_sent(world, "cam_0") == [
        "rollcall",
        "alloc",
        "connect",
        "configure",
        "beginrun",
        "beginstep",
        "enable",
    ]
    inserted = [one.body["service"] for one in world.of("ts").sent if one.key == "insert"]
    assert inserted == ["Configure", "BeginRun", "BeginStep", "Enable"]
    assert world.go("unallocated") == []
    assert all(one.state == "unallocated" for one in world.others.values())
    assert world.accounts[0].account.closes
    assert world.go("running") == []
    assert world.partition.run == 2


def test_what_members_are_told() -> None:
    world = World("timing ts", "drp cam_1", "drp cam_0", "teb teb0")
    world.of("cam_1").group = 3
    world.beat(world.of("cam_1"))
    world.go(
        "running",
        {"beginstep": {"step_values": {"x": 1}}, "configure": {"members": {"cam_0": {"script": ["a.py"]}}}},
    )
    told = {one.key: one.body for one in world.of("cam_0").sent}
    assert told["alloc"] == {"id": 0, "platform": 0, "partition": "tst-p0", "readout": 0}
    table = told["connect"]["partition"]
    assert {alias: (one["id"], one["readout"]) for alias, one in table["drp"].items()} == {
        "cam_0": (0, 0),
        "cam_1": (1, 3),
    }
    assert set(table) == {"drp", "teb", "meb", "timing"}
    assert told["configure"] == {
        "epoch": 1,
        "config_alias": "BEAM",
        "config": None,
        "script": ["a.py"],
        "trigger": None,
    }
    assert {one.key: one.body for one in world.of("cam_1").sent}["configure"]["script"] is None
    assert told["beginrun"] == {"run_info": {"experiment_name": "tst", "run_number": 0}, "record": False}
    assert told["beginstep"] == {"step_keys": [], "step_values": {"x": 1}}
    insert = [one.body for one in world.of("ts").sent if one.key == "insert"]
    assert insert[2] == {"service": "BeginStep", "info": {"step_keys": [], "step_values": {"x": 1}}}


def test_configurations_go_to_those_they_are_for() -> None:
    beam = {"cam_0": {"gain": 1}, "trigger_0": {"soname": "x"}}
    world = World(configs={"BEAM": beam, "NOBEAM": {}}, trigger_config="trigger_0", slow_update_hz=5)
    world.go("configured")
    told = {
        alias: {one.key: one.body for one in world.of(alias).sent}["configure"]
        for alias in ("cam_0", "cam_1", "ts")
    }
    assert [one["config"] for one in told.values()] == [{"gain": 1}, None, None]
    assert {one["trigger"]["soname"] for one in told.values()} == {"x"}
    assert told["ts"]["slow_update_hz"] == 5
    assert world.of("ts").sent[-1].body["info"] == {"epoch": 1, "config_alias": "BEAM", "script": None}


def test_all_who_fail_are_named_and_those_who_did_not_are_brought_back() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    for alias in ("cam_0", "cam_1"):
        told = {
            "what": "the script raised",
            "where": "fex.py",
            "hint": "mend it",
            "traceback": f"line of {alias}",
        }
        world.answer(world.of(alias), {"err_info": told})
    world.run()
    failures = world.failures(job)
    assert len(failures) == 2
    assert failures[0].startswith("drp cam_0: fex.py: the script raised. mend it")
    assert "line of cam_1" in failures[1]
    assert world.partition.state is State.CONNECTED
    assert keys_sent(world, "teb0")[-1] == "unconfigure"
    assert keys_sent(world, "cam_0")[-1] == "configure"
    assert "insert" not in keys_sent(world, "ts")
    assert world.go("configured") == []
    assert [one.body["epoch"] for one in world.of("cam_0").sent if one.key == "configure"] == [1, 2]


def test_who_does_not_answer_in_time_is_named_with_the_limit() -> None:
    world = World(limits=Limits(phase1_s=Limits().phase1_s | {"configure": 7.0}))
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_0", "teb0")
    world.pass_time(6.9)
    assert job not in world.done
    assert world.partition.awaited == ["drp cam_0", "teb teb0"]
    world.pass_time(0.3)
    world.run()
    assert world.failures(job) == [
        "drp cam_0: it has not answered configure within 7 s",
        "teb teb0: it has not answered configure within 7 s",
    ]


def test_an_answer_that_comes_too_late_or_twice_changes_nothing() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    first = world.of("cam_0").inbox[0]
    world.answer(world.of("cam_0"))
    world.say(world.of("cam_0"), "configure", {"err_info": {"what": "no"}}, first.msg_id)
    world.run()
    assert world.failures(job) == []
    world.say(world.of("cam_0"), "configure", {"err_info": {"what": "no"}}, first.msg_id)
    assert world.partition.state is State.CONFIGURED


def test_a_failure_that_comes_through_the_stream_is_undone_through_the_stream() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_0")
    world.answer(world.of("cam_0"))
    world.run("cam_0")
    world.report(
        world.of("cam_0"), error={"what": "the script raised", "where": "", "hint": "", "traceback": "line 3"}
    )
    world.run("cam_0")
    world.answer(world.of("cam_0"))  # Unconfigure, which never comes through where Configure failed
    world.run("cam_0")
    world.of("cam_0").due.clear()
    assert world.failures(job) == ["drp cam_0: the script raised\nline 3"]
    assert [one.body["service"] for one in world.of("ts").sent if one.key == "insert"] == [
        "Configure",
        "Unconfigure",
    ]
    assert world.partition.state is State.CONNECTED
    assert world.go("running") == []


def test_a_begin_run_that_cost_a_drp_its_configure_leaves_all_connected() -> None:
    world = World()
    world.go("configured")
    job = world.ask_state("running")
    bad = world.of("cam_1")
    world.run("cam_1")
    world.answer(bad)
    world.run("cam_1")
    world.report(bad, error={"what": "the file is there"})
    assert world.answer(bad, {"out_of_stream": True}).key == "endrun"
    world.run("cam_1")
    assert world.answer(bad, {"out_of_stream": True}).key == "unconfigure"
    world.run("cam_1")
    assert world.failures(job) == ["drp cam_1: the file is there"]
    assert world.partition.state is State.CONNECTED
    assert {one.state for one in world.others.values()} == {"connected"}
    bad.due.clear()
    assert world.go("running") == []


def test_nobody_waits_for_a_teb_once_a_drp_has_failed_what_it_needs_of_all() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("teb0", "cam_0")
    for alias in ("teb0", "cam_0"):
        world.answer(world.of(alias))
    world.run("teb0", "cam_0")
    world.report(world.of("cam_0"), error={"what": "the script raised"})
    world.run("teb0", "cam_0")
    for alias in ("teb0", "cam_0"):
        world.answer(world.of(alias))
    world.run("teb0", "cam_0")
    assert world.failures(job) == ["drp cam_0: the script raised"]
    assert world.partition.state is State.CONNECTED


def test_a_report_that_comes_before_timing_has_answered_counts() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("ts")
    world.answer(world.of("ts"))
    for alias in ("cam_0", "cam_1", "teb0"):
        world.say(world.of(alias), "timingTransition", {"service": "Configure", "pulse_id": 1, "error": None})
    assert job not in world.done
    world.answer(world.of("ts"))
    assert world.failures(job) == []


def test_early_reports_of_a_drp_that_failed_and_of_a_teb_are_taken_in_any_order() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("ts")
    world.answer(world.of("ts"))
    for alias, error in (("cam_0", {"what": "no"}), ("teb0", None), ("cam_1", None)):
        world.say(
            world.of(alias), "timingTransition", {"service": "Configure", "pulse_id": 1, "error": error}
        )
    world.answer(world.of("ts"))
    world.of("cam_0").due.clear()
    world.of("teb0").due.clear()
    world.run("cam_0", "teb0")
    for alias in ("cam_0", "teb0"):
        world.answer(world.of(alias))
    world.run("cam_0", "teb0")
    assert world.failures(job) == ["drp cam_0: no"]


def test_a_report_of_another_pulse_does_not_count() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_0")
    world.answer(world.of("cam_0"))
    world.run("cam_0")
    world.report(world.of("cam_0"), pulse_id=999)
    assert job not in world.done
    assert world.partition.awaited == ["drp cam_0"]


def test_a_run_ends_though_a_member_fails_or_hangs() -> None:
    world = World(limits=Limits(phase2_s=5.0))
    world.go("running")
    job = world.ask_state("unallocated")
    world.answer(world.of("cam_0"), {"err_info": {"what": "no"}})
    for _ in range(20):
        world.run("cam_1")
        world.pass_time(7.0)
    world.of("cam_1").inbox.clear()
    world.run()
    assert world.partition.state is State.UNALLOCATED
    failures = world.failures(job)
    assert failures[0] == "drp cam_0: no"
    assert "drp cam_1: it has not answered disable within 6 s" in failures
    assert any("cam_1 has given no ledger" in one for one in failures)


def test_who_is_silent_does_not_hold_up_the_end_of_a_run() -> None:
    world = World()
    world.go("running")
    world.of("cam_1").hears = False
    world.pass_time(2.0)
    job = world.ask("disable")
    world.run("cam_1")
    assert world.failures(job) == ["drp cam_1: it does not answer and is not heard"]
    assert world.partition.state is State.PAUSED


def test_a_step_forward_is_not_begun_with_a_member_that_is_silent() -> None:
    world = World()
    world.go("paused")
    world.of("teb0").hears = False
    world.pass_time(2.0)
    assert world.failures(world.ask("enable")) == ["teb teb0: it is not heard"]


def test_silence_is_named_within_two_seconds_and_so_is_its_end() -> None:
    world = World()
    world.go("running")
    world.published.clear()
    world.of("cam_0").hears = False
    world.pass_time(1.9)
    assert world.errors() == ["drp cam_0 (pid 1 on here): it has not been heard for 1.5 s"]
    world.of("cam_0").hears = True
    world.pass_time(0.7)
    assert any(one.key == "warning" and "heard again" in one.body["err_info"] for one in world.published)
    assert world.go("unallocated") == []


def test_a_member_that_does_not_take_its_commands_is_named() -> None:
    world = World()
    world.beat(world.of("cam_0"), untaken_s=1.7, busy="configure")
    world.partition.tick(world.now)
    world.collect()
    assert world.errors() == ["drp cam_0 (pid 1 on here): it does not take its commands; it is at configure"]


def test_a_run_goes_on_without_a_drp_that_died() -> None:
    world = World()
    world.go("running")
    world.published.clear()
    world.die(world.of("cam_1"))
    world.pass_time(1.9)
    assert world.errors()[-1] == "drp cam_1 (pid 1 on here): it is gone: its connection is closed"
    gone = [one for one in world.of("teb0").sent if one.key == "gone"]
    assert [one.body for one in gone] == [{"level": "drp", "alias": "cam_1", "id": 1}]
    assert world.go("configured") == []
    assert world.accounts[-1].account.gone == ("cam_1",)
    assert world.accounts[-1].account.closes
    world.join("drp cam_1")
    assert world.failures(world.ask("beginrun")) == [
        "drp cam_1: it is gone. Reset the partition to bring it back"
    ]
    assert world.go("reset") == []
    assert world.go("running") == []
    assert len(world.partition.active) == 4


def test_a_drp_that_dies_in_a_step_of_a_run_is_no_failure_of_it() -> None:
    world = World()
    world.go("paused")
    job = world.ask("enable")
    world.run("cam_1")
    world.die(world.of("cam_1"))
    world.pass_time(1.5)
    world.run()
    assert world.failures(job) == []
    assert world.partition.state is State.RUNNING


def test_a_run_ends_though_all_drps_died() -> None:
    world = World("timing ts", "drp cam_0", "teb teb0")
    world.go("running")
    world.die(world.of("cam_0"))
    world.pass_time(1.5)
    job = world.ask_state("configured")
    world.run("teb0")
    while world.of("teb0").inbox:
        world.answer(world.of("teb0"))
        world.run("teb0")
    assert world.failures(job) == []
    assert world.accounts[-1].account.gone == ("cam_0",)


def test_nobody_is_awaited_when_the_last_drp_dies_while_a_transition_comes_through() -> None:
    world = World("timing ts", "drp cam_0", "teb teb0")
    world.go("running")
    job = world.ask("disable")
    for alias in ("cam_0", "teb0", "ts", "ts"):
        world.answer(world.of(alias))
    assert world.partition.awaited == ["drp cam_0", "teb teb0"]
    world.die(world.of("cam_0"))
    world.pass_time(1.5)
    assert world.failures(job) == []


def test_a_drp_that_dies_before_the_run_is_a_failure() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_1")
    world.die(world.of("cam_1"))
    world.pass_time(1.5)
    world.run()
    assert world.failures(job) == ["drp cam_1: it is gone: its connection is closed"]
    assert world.partition.state is State.CONNECTED


def test_without_timing_only_a_reset_leads_on() -> None:
    world = World()
    world.go("running")
    world.die(world.of("ts"))
    world.pass_time(1.5)
    assert world.failures(world.ask("disable")) == [
        "control: timing ts is gone, and nothing goes on without it. Reset the partition"
    ]
    job = world.ask_state("running")
    world.run()
    assert world.partition.state is State.RESET
    assert all(one.state == "unallocated" for one in world.others.values() if one.alive)
    world.join("timing ts")
    world.pass_time(0.2)
    world.run()
    assert world.failures(job) == []
    assert world.partition.state is State.RUNNING


def test_timing_that_dies_while_a_transition_comes_through_ends_it() -> None:
    world = World()
    world.go("paused")
    job = world.ask("enable")
    world.run("cam_0")
    world.answer(world.of("cam_0"))
    world.run("cam_0")
    world.die(world.of("ts"))
    world.pass_time(1.5)
    assert world.failures(job) == ["timing ts: it is gone: its connection is closed"]


def test_a_reset_ends_whatever_goes_on() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_0")
    reset = world.ask("reset")
    world.run()
    assert world.failures(job) == ["control: configure was ended by a reset"]
    assert world.failures(reset) == []
    assert world.partition.state is State.RESET
    assert world.go("running") == []


def test_one_thing_at_a_time() -> None:
    world = World()
    world.go("connected")
    world.ask("configure")
    assert world.failures(world.ask_state("running")) == ["control: it is busy with configure"]


def test_what_is_not_legal_is_refused_with_what_is() -> None:
    world = World()
    world.go("connected")
    assert world.failures(world.ask("enable")) == [
        "control: enable is not legal while the partition is connected. Legal are configure, disconnect, reset"
    ]


def test_nonsense_is_named_at_once_and_fails_the_transition() -> None:
    world = World()
    world.go("connected")
    job = world.ask("configure")
    world.run("cam_0")
    world.partition.nonsense(world.of("cam_0").uid, "no JSON", world.now)
    world.collect()
    world.run()
    assert world.failures(job) == ["drp cam_0: it says what cannot be read: no JSON"]


@pytest.mark.parametrize("body", [{}, {"connect_info": 3}])
def test_an_answer_to_alloc_without_connect_info_is_a_failure(body: dict[str, Any]) -> None:
    world = World()
    world.go("unallocated")
    job = world.ask("alloc")
    world.answer(world.of("cam_0"), body)
    world.run()
    assert world.failures(job) == ["drp cam_0: its answer to alloc has no connect_info"]
    assert world.partition.state is State.UNALLOCATED
    assert keys_sent(world, "teb0")[-1] == "dealloc"


def test_an_event_builder_slower_than_the_second_phase_is_refused() -> None:
    world = World(limits=Limits(phase2_s=10.0))
    world.go("unallocated")
    job = world.ask("alloc")
    world.answer(world.of("teb0"), {"connect_info": {"eb_timeout_s": 12.0}})
    world.run()
    (failure,) = world.failures(job)
    assert failure.startswith(
        "teb teb0: its event-builder time-out of 12 s is not below the 10 s of the second phase"
    )


def test_timing_that_does_not_insert_keeps_the_state() -> None:
    world = World()
    world.go("configured")
    job = world.ask("beginrun")
    world.run("ts")
    world.answer(world.of("ts"))
    world.pass_time(6.0)
    assert world.of("ts").inbox.popleft().key == "insert"
    world.run()
    assert world.failures(job) == ["timing ts: it has not inserted BeginRun within 5 s"]
    assert world.partition.state is State.CONFIGURED


def test_rollcall_waits_for_those_that_were_selected() -> None:
    world = World("timing ts", "drp cam_0", "drp cam_1")
    everybody = {
        "timing": {"ts": {}},
        "drp": {"cam_0": {"det_info": {"readout": 5}}, "cam_2": {"active": 1}, "cam_1": {"active": 0}},
    }
    world.partition.select(Selection(everybody))
    job = world.ask_state("allocated")
    world.run()
    assert world.partition.awaited == ["drp cam_2: it is not there"]
    world.join("drp cam_2")
    world.pass_time(0.1)
    world.run()
    assert world.failures(job) == []
    assert {one.alias: one.readout for one in world.partition.active} == {"cam_0": 5, "cam_2": 0, "ts": 0}
    with pytest.raises(DrpError, match="unallocated first"):
        world.partition.select(None)


def test_rollcall_names_who_did_not_come() -> None:
    world = World("drp cam_0")
    job = world.ask("rollcall")
    world.pass_time(31.0)
    assert world.failures(job) == ["no timing is there"]


def test_who_took_part_before_and_does_not_now_is_named() -> None:
    world = World()
    world.go("unallocated")
    world.die(world.of("cam_1"))
    world.pass_time(1.5)
    world.published.clear()
    for _ in range(2):
        job = world.ask("rollcall")
        world.run()
        assert world.failures(job) == []
    told = [one.body["err_info"] for one in world.published if one.key == "warning"]
    assert told == ["drp cam_1 took part before, and does not now"]


def test_bypass_takes_everybody_whatever_was_selected() -> None:
    world = World("timing ts", "drp cam_0")
    world.partition.select(Selection({"drp": {"cam_9": {}}}))
    world.partition.settings.bypass = True
    assert world.go("allocated") == []


def test_two_processes_of_one_alias_are_told_apart() -> None:
    world = World()
    second = world.join("drp cam_0")
    assert second.sent[-1].key == "refused"
    assert "cam_0 is there already" in second.sent[-1].body["what"]
    world.die(world.others["drp/cam_0/2"])
    world.beat(second)
    assert world.go("running") == []


def test_more_of_a_level_than_there_may_be_are_refused() -> None:
    world = World("timing ts", "timing ts2", "drp cam_0")
    assert world.failures(world.ask("rollcall")) == ["2 members are timing, and there may be 1"]


def test_members_that_an_earlier_partition_left_are_reset_first() -> None:
    world = World()
    for other in world.others.values():
        other.state = "running"
        world.beat(other)
    assert world.go("running") == []
    assert keys_sent(world, "cam_0")[:2] == ["reset", "rollcall"]


def test_a_ledger_that_does_not_close_fails_the_end_of_the_run() -> None:
    world = World()
    world.go("starting")
    job = world.ask("endrun")
    world.run("cam_0")
    world.answer(world.of("cam_0"))
    world.run("cam_0")
    world.report(world.of("cam_0"), ledger={"recorded_verdict": 9, "total": 9})
    told = world.failures(job)
    assert told[0] == "the partition's ledger: cam_0 has 9 events, and group 0 had 10 triggers"
    assert told[1].startswith("the partition's ledger: drps of one group recorded differently")
    assert world.partition.state is State.CONFIGURED


def test_the_whole_row_of_the_table_can_be_walked_and_undone() -> None:
    for (state, key), after in TABLE.items():
        assert STEPS[key].after is after
        if STEPS[key].undone_by:
            assert TABLE[after, STEPS[key].undone_by] is state
    for state in State:
        for goal in State:
            assert path(state, goal) is not None


def test_the_picture_in_the_docs_is_that_of_the_table() -> None:
    edges = [(str(state), key, str(after)) for (state, key), after in TABLE.items()]
    assert mermaid(edges, State.RESET) in DOCS.read_text()

"""A member's line to control: it comes back by itself, loses nothing it can keep, and cannot be upset by what it hears."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.core.errors import DrpError, MessageError, ScriptError
from drp.core.partition import State
from drp.link import control as line
from drp.link.control import Command, Member, decode, encode, told
from drp.link.sockets import well_known
from tests.support.fake_control import FakeControl

pytestmark = pytest.mark.timeout(30)
LIMIT_S = 5.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture
def control(folder: Path) -> Iterator[FakeControl]:
    with FakeControl() as made:
        yield made


@pytest.fixture
def member(folder: Path) -> Iterator[Member]:
    made = Member(
        well_known("control-tst-p0"),
        level="drp",
        alias="cam_0",
        describe=lambda: {"det_info": {"readout": 0}},
    )
    yield made
    made.close()


def take(member: Member) -> Command:
    """Wait for a command by the descriptor, and return the one that is there."""
    assert select.select([member.fd], [], [], LIMIT_S)[0], "no command came"
    (command,) = member.commands()
    return command


def test_a_member_tells_who_and_how_it_is(control: FakeControl, member: Member) -> None:
    control.await_members("cam_0")
    said = control.members["cam_0"][1]
    assert (said["level"], said["state"], said["busy"]) == ("drp", "unallocated", "")
    assert said["det_info"] == {"readout": 0}
    assert set(said["proc_info"]) == {"host", "pid", "alias", "level", "version"}


def test_a_command_is_answered_with_its_key_and_the_state_follows(
    control: FakeControl, member: Member
) -> None:
    asked = control.send("cam_0", "alloc", {"id": 3})
    command = take(member)
    assert (command.key, command.body) == ("alloc", {"id": 3})
    assert not select.select([member.fd], [], [], 0)[0], "taken commands leave the descriptor quiet"
    member.answer(command, {"connect_info": {}})
    assert control.answer(asked) == {"connect_info": {}}
    assert member.state is State.ALLOCATED


def test_rollcall_is_answered_with_who_one_is(control: FakeControl, member: Member) -> None:
    asked = control.send("cam_0", "rollcall")
    member.answer(take(member))
    answer = control.answer(asked)
    assert answer["proc_info"]["alias"] == "cam_0"
    assert answer["det_info"] == {"readout": 0}


def test_an_error_is_told_in_full_and_leaves_the_state(control: FakeControl, member: Member) -> None:
    asked = control.send("cam_0", "configure")
    error = ScriptError("it raised", worker=1, transition="Configure", traceback="line 3", hint="mend it")
    member.answer(take(member), error=error)
    expected = {
        "what": "it raised",
        "where": "the script in worker 1, at Configure",
        "hint": "mend it",
        "traceback": "line 3",
    }
    assert control.answer(asked) == {"err_info": expected}
    assert member.state is State.UNALLOCATED


def test_an_answer_that_json_cannot_say_becomes_an_error(control: FakeControl, member: Member) -> None:
    asked = control.send("cam_0", "alloc")
    member.answer(take(member), {"connect_info": object()})
    assert "JSON cannot say it" in control.answer(asked)["err_info"]["what"]
    with pytest.raises(MessageError):
        member.tell("warning", {"what": float("nan")})


def test_reset_leads_to_unallocated(control: FakeControl, member: Member) -> None:
    for key in ("alloc", "connect", "reset"):
        asked = control.send("cam_0", key)
        member.answer(take(member))
        control.answer(asked)
    assert member.state is State.UNALLOCATED


def test_what_is_said_while_control_is_away_comes_later(folder: Path, member: Member) -> None:
    for number in range(3):
        member.tell("fileReport", {"number": number})
    with FakeControl() as control:
        for number in range(3):
            control.await_told("fileReport", "cam_0", number=number)
    assert member.lost == 0


def test_what_is_said_to_nobody_for_long_is_counted_as_lost(folder: Path, member: Member) -> None:
    for number in range(line.MAX_WAITING + 5):
        member.tell("warning", {"number": number})
    assert member.lost == 5


def test_a_new_control_finds_the_member_where_it_stands(control: FakeControl, member: Member) -> None:
    asked = control.send("cam_0", "alloc")
    member.answer(take(member))
    control.answer(asked)
    assert member.connected
    control.__exit__()
    with FakeControl() as second:
        second.await_members("cam_0")
        assert second.members["cam_0"][1]["state"] == "allocated"


def test_a_member_that_does_not_take_its_commands_says_so(control: FakeControl, member: Member) -> None:
    control.send("cam_0", "configure")
    control.until(lambda: control.members["cam_0"][1]["untaken_s"] > 0.3, "a command not taken")
    assert control.members["cam_0"][1]["busy"] == "configure"
    command = take(member)
    control.until(lambda: control.members["cam_0"][1]["untaken_s"] == 0.0, "a command taken")
    member.answer(command)
    control.until(lambda: control.members["cam_0"][1]["busy"] == "", "a command answered")


def test_gone_waits_for_no_answer(control: FakeControl, member: Member) -> None:
    control.send_raw("cam_0", encode("gone", {"level": "drp", "alias": "cam_1", "id": 1}))
    assert take(member).body["alias"] == "cam_1"
    control.forget()
    control.await_members("cam_0")
    assert control.members["cam_0"][1]["busy"] == ""


@pytest.mark.parametrize("frame", [b"", b"x", b"[]", b"{}", b'{"header": {}, "body": {}}', b"\xff" * 100])
def test_nonsense_from_control_is_passed_over(control: FakeControl, member: Member, frame: bytes) -> None:
    control.send_raw("cam_0", frame)
    asked = control.send("cam_0", "rollcall")
    member.answer(take(member))
    assert control.answer(asked)["alias"] == "cam_0"


def test_a_description_that_fails_costs_only_itself(control: FakeControl, folder: Path) -> None:
    def fail() -> dict[str, object]:
        raise ZeroDivisionError

    member = Member(control.endpoint, level="teb", alias="teb0", describe=fail)
    control.await_members("teb0")
    control.forget()
    control.await_members("teb0")
    assert "det_info" not in control.members["teb0"][1]
    member.close()


def test_a_member_leaves_no_thread_behind(control: FakeControl, folder: Path) -> None:
    before = threading.active_count()
    member = Member(control.endpoint, level="teb", alias="teb0")
    member.close()
    member.close()
    member.tell("warning", {})
    assert threading.active_count() == before


@settings(max_examples=30)
@given(JSON, st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_a_message_comes_back_as_it_was(body: object, msg_id: str, key: str) -> None:
    message = decode(encode(key, {"body": body}, msg_id=msg_id, sender_id="me"))
    assert (message.key, message.msg_id, message.sender_id, message.body) == (
        key,
        msg_id,
        "me",
        {"body": body},
    )


@settings(max_examples=40)
@given(st.binary() | JSON.map(lambda one: line.json.dumps({"header": one, "body": one}).encode()))
def test_no_frame_does_more_than_raise(frame: bytes) -> None:
    try:
        decode(frame)
    except MessageError:
        return


def test_a_message_over_the_limit_is_not_made() -> None:
    with pytest.raises(MessageError, match="over the limit"):
        encode("warning", {"what": "x" * line.MAX_JSON_BYTES})


def test_any_error_can_be_told() -> None:
    assert told("why")["what"] == "why"
    assert told(DrpError("what", hint="do")) == {"what": "what", "where": "", "hint": "do", "traceback": ""}
    assert told(ZeroDivisionError())["what"] == "ZeroDivisionError"

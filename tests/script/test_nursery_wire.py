"""Messages between drp and its nursery: what goes in comes out, and what is no message is refused."""

import array
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.script.nursery_wire import (
    PACKET_LIMIT_BYTES,
    Fork,
    Forked,
    ForkFailed,
    Message,
    Ping,
    Pong,
    Ready,
    Reap,
    Reaped,
    StartFailed,
    WireError,
    decode,
    describe_status,
    encode,
    receive,
    send,
)

numbers = st.integers(min_value=0, max_value=2**31)
messages = st.one_of(
    st.builds(Fork, numbers, st.text(max_size=30), st.text(max_size=300)),
    st.builds(Reap, numbers),
    st.builds(Ping, numbers),
    st.builds(Ready, numbers),
    st.builds(StartFailed, st.text(max_size=300)),
    st.builds(Forked, numbers, numbers),
    st.builds(ForkFailed, numbers, st.text(max_size=300)),
    st.builds(Reaped, numbers, numbers, numbers),
    st.builds(Pong, numbers),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = open_descriptors()
    with here, there:
        yield here, there
        assert open_descriptors() == before


def open_descriptors() -> set[str]:
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


@given(messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_refused_and_nothing_worse(packet: bytes) -> None:
    with pytest.raises(WireError):
        decode(packet)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object with a kind"),
        (b'{"kind": 1}', "not a JSON object with a kind"),
        (b'{"kind": "Exec", "id": 1}', "unknown kind of message 'Exec'"),
        (b'{"kind": "Message"}', "unknown kind"),
        (b'{"kind": "Ping"}', "expected \\['id'\\]"),
        (b'{"kind": "Ping", "id": 1, "more": 2}', "has the fields \\['id', 'more'\\]"),
        (b'{"kind": "Ping", "id": "1"}', "Ping.id is str"),
        (b'{"kind": "Ping", "id": true}', "Ping.id is bool"),
        (b'{"kind": "Ping", "id": 1.0}', "Ping.id is float"),
    ],
)
def test_malformed_packet_is_refused_with_the_reason(packet: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode(packet)


def test_message_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(WireError, match="over the limit"):
        encode(Fork(1, "w", "x" * PACKET_LIMIT_BYTES))


def test_descriptors_arrive_and_are_not_inherited(link: tuple[socket.socket, socket.socket]) -> None:
    here, there = link
    read_end, write_end = os.pipe()
    send(here, encode(Forked(1, 2)), [read_end])
    received = receive(there)
    assert received is not None
    message, [copy] = received
    assert message == Forked(1, 2)
    assert not os.get_inheritable(copy)
    os.write(write_end, b"x")
    assert os.read(copy, 1) == b"x"
    for fd in (read_end, write_end, copy):
        os.close(fd)


@pytest.mark.parametrize(
    ("message", "count"), [(Forked(1, 2), 0), (Forked(1, 2), 2), (Ping(1), 1), (Fork(1, "", ""), 1)]
)
def test_wrong_number_of_descriptors_is_refused_and_they_are_closed(
    link: tuple[socket.socket, socket.socket], message: Message, count: int
) -> None:
    here, there = link
    send(here, encode(message), [0] * count)
    with pytest.raises(WireError, match=f"came with {count} descriptors"):
        receive(there)


def test_too_many_descriptors_are_refused_and_closed(link: tuple[socket.socket, socket.socket]) -> None:
    here, there = link
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 9))]
    here.sendmsg([encode(Fork(1, "", ""))], rights)
    with pytest.raises(WireError, match="too many descriptors"):
        receive(there)


def test_packet_over_the_limit_is_refused(link: tuple[socket.socket, socket.socket]) -> None:
    here, there = link
    here.send(b"x" * (PACKET_LIMIT_BYTES + 1))
    with pytest.raises(WireError, match="a packet was cut"):
        receive(there)


def test_end_of_file_is_no_message(link: tuple[socket.socket, socket.socket]) -> None:
    here, there = link
    here.shutdown(socket.SHUT_WR)
    assert receive(there) is None


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit code 0"), (70 << 8, "exit code 70"), (9, "signal 9 (SIGKILL)"), (40, "signal 40 (?)")],
)
def test_wait_status_is_said_in_words(status: int, text: str) -> None:
    assert describe_status(status) == text

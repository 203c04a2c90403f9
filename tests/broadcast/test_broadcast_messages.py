"""Messages: read back equal, and refused whole where anything about them is not as it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from calib.broadcast.messages import (
    REQUEST_LIMIT_BYTES,
    Ask,
    Fetch,
    Find,
    Message,
    Offer,
    Taken,
    decode,
    encode,
)
from calib.broadcast.packing import Entry
from calib.errors import BroadcastError

ENTRY = Entry("jungfrau/pedestals", "<f4", (3, 2), 128, 24, "0" * 64)
MESSAGES: list[Message] = [
    Ask("ticket", 5),
    Taken("ticket", 1, "d" * 64),
    Offer(1, 5, "d" * 64, 77, 4096, (ENTRY,)),
    Find("t", "jungfrau", "jungfrau", ("a", "b"), None, 0, None),
    Find("t", "jungfrau", "jungfrau", (), "tst001", 7, ("pedestals",)),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_read_back_equal(message: Message) -> None:
    assert decode(encode(message), type(message)) == message


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"kind": "Ask"},
        {"kind": "Ask", "ticket": "t"},
        {"kind": "Ask", "ticket": "t", "stamp": 1, "more": 1},
        {"kind": "Ask", "ticket": 5, "stamp": 1},
        {"kind": "Ask", "ticket": "t" * 70000, "stamp": 1},
        {"kind": "Ask", "ticket": "t", "stamp": "1"},
        {"kind": "Ask", "ticket": "t", "stamp": 1.0},
        {"kind": "Ask", "ticket": "t", "stamp": True},
        {"kind": "Ask", "ticket": "t", "stamp": 1 << 80},
        {"kind": "Fetch", "token": "t", "digest": "d", "number": 0},
        {"kind": ["Ask"], "ticket": "t", "stamp": 1},
        {
            "kind": "Find",
            "token": "t",
            "name": "n",
            "dettype": "d",
            "serials": "ab",
            "experiment": None,
            "run": 0,
            "ctypes": None,
        },
        {
            "kind": "Find",
            "token": "t",
            "name": "n",
            "dettype": "d",
            "serials": [1],
            "experiment": None,
            "run": 0,
            "ctypes": None,
        },
        {
            "kind": "Offer",
            "version": 1,
            "stamp": 1,
            "digest": "d",
            "segment_id": 1,
            "size_bytes": 1,
            "entries": [[1]],
        },
    ],
)
def test_what_is_not_exactly_a_message_is_refused(content: Any) -> None:
    with pytest.raises(BroadcastError):
        decode(json.dumps(content).encode(), Ask, Find, Offer)


@pytest.mark.parametrize("frame", [b"", b"\xff\xfe", b"{", b"[" * 100000, b" " * 10])
def test_noise_is_refused(frame: bytes) -> None:
    with pytest.raises(BroadcastError):
        decode(frame, Ask, Fetch)


def test_a_message_over_the_limit_is_not_even_read() -> None:
    frame = encode(Ask("t" * REQUEST_LIMIT_BYTES, 1))
    with pytest.raises(BroadcastError, match="at most 65536 are read"):
        decode(frame, Ask, limit_bytes=REQUEST_LIMIT_BYTES)

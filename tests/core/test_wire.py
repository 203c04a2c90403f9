"""Messages between processes: what is encoded is decoded, and whatever else comes is told, not believed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.core import wire
from drp.core.errors import MessageError


@given(
    st.sampled_from(list(wire.Kind)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=64),
)
def test_a_message_is_decoded_as_it_was_encoded(kind, session, count, payload):
    header, found = wire.decode(wire.Header(kind, session, count).encode() + payload)
    assert (header.kind, header.session, header.count, bytes(found)) == (kind, session, count, payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(frame):
    try:
        header, payload = wire.decode(frame)
        wire.records(payload, header.count, wire.VERDICT)
    except MessageError:
        return
    assert frame[:4] == b"DRP1"


def test_contributions_with_words_are_read_by_their_stride():
    stride = wire.stride_of(12)
    assert stride == wire.CONTRIBUTION.itemsize + 16
    buffer = np.zeros((3, stride), np.uint8)
    buffer[:, : wire.CONTRIBUTION.itemsize].view(wire.CONTRIBUTION)["pulse_id"] = [[5], [6], [7]]
    found = wire.records(memoryview(buffer.tobytes()), 3, wire.CONTRIBUTION, stride)
    assert found["pulse_id"].tolist() == [5, 6, 7]
    assert not found.flags.writeable


@pytest.mark.parametrize(("count", "size"), [(2, 24), (1, 25), (1, 23), (0, 1), (wire.MAX_RECORDS + 1, 24)])
def test_an_array_of_another_length_is_refused(count, size):
    with pytest.raises(MessageError, match="are not"):
        wire.records(memoryview(bytes(size)), count, wire.VERDICT)


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff", b"[" * 100000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(MessageError, match="JSON"):
        wire.decode_json(text)


def test_another_version_is_told_what_to_do():
    frame = bytearray(wire.Header(wire.Kind.BYE, 1).encode())
    frame[4] = 9
    with pytest.raises(MessageError, match="same installation"):
        wire.decode(frame)


def test_the_records_have_the_sizes_that_their_texts_say():
    sizes = [one.itemsize for one in (wire.CONTRIBUTION, wire.VERDICT, wire.TRIGGER, wire.MONITORED)]
    assert sizes == [32, 24, 64, 16]
    assert wire.Header.SIZE == 16

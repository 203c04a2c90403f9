"""Batches of built events: what is encoded is decoded, and shapes that do not go together are refused."""

import numpy as np
import pytest

from drp.core.batch import BATCH_BYTES, EVENT, EVENTS_AT, MAX_EVENTS, Contributor, Layout
from drp.core.wire import CONTRIBUTION, stride_of
from xtc import TransitionId

EPIX = Contributor(3, "epix_0", 1, (("npeaks", "<u4"), ("total", "<f8")))
TIMING = Contributor(0, "timing_1", 1)


def rows_of(contributor, n):
    rows = np.zeros((n, contributor.stride), np.uint8)
    rows[:, : CONTRIBUTION.itemsize].view(CONTRIBUTION)["pulse_id"][:, 0] = np.arange(n) + 100
    size = contributor.dtype.itemsize
    if size:
        rows[:, CONTRIBUTION.itemsize :][:, :size] = (
            np.array([(k, k / 2) for k in range(n)], contributor.dtype).view(np.uint8).reshape(n, size)
        )
    return rows


@pytest.mark.parametrize("n", [1, 3, 200])
def test_a_batch_is_decoded_as_it_was_encoded(n):
    layout = Layout((EPIX, TIMING))
    events = np.zeros(n, EVENT)
    events["timestamp"], events["env"], events["present"] = np.arange(n) + (5 << 32), 7, 3
    rows = [rows_of(EPIX, n), rows_of(TIMING, n)]
    dgram = layout.encode(events, rows, 42)
    assert len(dgram) == EVENTS_AT + n * layout.event_bytes
    assert int.from_bytes(dgram[8:12], "little") == TransitionId.L1Accept << 24 | 7
    assert int.from_bytes(dgram[20:24], "little") == len(dgram) - 12
    found, found_rows = layout.decode(dgram)
    assert found.tobytes() == events.tobytes()
    assert all((one == other).all() for one, other in zip(found_rows, rows, strict=True))
    assert layout.words(found_rows[0], 0)["total"].tolist() == [k / 2 for k in range(n)]
    assert len(layout.words(found_rows[1], 1)) == n


def test_rows_are_as_long_as_contributions_on_the_wire():
    assert (EPIX.stride, TIMING.stride) == (stride_of(12), stride_of(0))


def test_words_have_types_of_numpy_or_of_xtc():
    both = [
        Contributor(1, "cam_0", 0, (("a", one), ("b", other))).dtype
        for one, other in [("<u4", "<f8"), ("UINT32", "DOUBLE")]
    ]
    assert both[0] == both[1]
    for wrong in ("ENUMVAL", "f2", "c16", "S4", "O", "(2,)u4", "u4,u4", ""):
        with pytest.raises(ValueError, match="cam_0: "):
            Contributor(1, "cam_0", 0, (("a", wrong),)).dtype  # noqa: B018 - it is worked out when asked for
    with pytest.raises(ValueError, match="cam_0: "):
        Contributor(1, "cam_0", 0, (("a", "u4"), ("a", "u4"))).dtype  # noqa: B018 - as above


def test_a_batch_never_exceeds_its_slot():
    wide = Contributor(1, "wide_0", 1, tuple((f"w{k}", "<f8") for k in range(1000)))
    layout = Layout((wide, EPIX))
    assert 1 <= layout.max_events < MAX_EVENTS
    assert EVENTS_AT + layout.max_events * layout.event_bytes <= BATCH_BYTES
    assert Layout((EPIX,)).max_events == MAX_EVENTS


def test_what_does_not_go_together_is_refused():
    layout = Layout((EPIX,))
    with pytest.raises(ValueError, match="a batch of 0 events"):
        layout.encode(np.zeros(0, EVENT), [rows_of(EPIX, 0)])
    with pytest.raises(ValueError, match="rows"):
        layout.encode(np.zeros(2, EVENT), [rows_of(EPIX, 1)])
    dgram = layout.encode(np.zeros(2, EVENT), [rows_of(EPIX, 2)])
    for wrong in (dgram[:-1], dgram[:30], dgram + b"\0"):
        with pytest.raises(ValueError, match="batch"):
            layout.decode(wrong)
    with pytest.raises(ValueError, match="does not hold"):
        Layout((EPIX, TIMING)).decode(dgram)
    with pytest.raises(ValueError, match="at most 64"):
        Layout((TIMING,) * 65)
    with pytest.raises(ValueError, match="the words of one event"):
        Layout((Contributor(1, "huge_0", 1, tuple((f"w{k}", "<f8") for k in range(BATCH_BYTES // 8))),))

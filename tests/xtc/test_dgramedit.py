"""The names of psana's dgramedit, with its semantics and without its faults."""

from __future__ import annotations

import numpy as np
import pytest

from tests.xtc import builders as b
from xtc import AlgDef, Container, DetectorDef, DetectorNames, Dgram, DgramEdit, TransitionId, XtcError

ALG = AlgDef("raw", 1, 2, 3)
DETECTOR = DetectorDef("xppcspad", "cspad", "serial1234")
FIELDS = {"valFex": (np.float32, 0), "strFex": (str, 1), "arrayFex": (np.int16, 2)}


def declared() -> tuple[DgramEdit, DetectorNames]:
    config = DgramEdit(transition_id=TransitionId.Configure, ts=0)
    return config, config.Detector(DETECTOR, ALG, FIELDS)


def fill(container: Container) -> None:
    container.arrayFex = np.arange(6, dtype=np.int16).reshape(2, 3)
    container.strFex = "hello"
    container.valFex = 0.5


def test_a_file_made_from_scratch_reads_back() -> None:
    config, detector = declared()
    raw = config.save()
    event = DgramEdit(None, config, TransitionId.L1Accept, 7 << 32 | 1)
    fill(detector.raw)
    event.adddata(detector.raw)
    buffer = bytearray(event.size + 5)
    event.save(buffer)
    assert raw[:24] == b.dgram(b.CONFIGURE, extent=12 + 1048 + 3 * 524)
    dgram = event.get_dgram(view=buffer)
    assert (dgram.timestamp, dgram.size) == (7 << 32 | 1, event.size)
    value, text, array = (one.value for one in dgram.fields())
    assert (value, text, array.tolist()) == (0.5, "hello", [[0, 1, 2], [3, 4, 5]])
    assert Dgram(raw).config is not None


def test_ids_are_given_as_the_reference_gives_them() -> None:
    config, first = declared()
    second = config.Detector(DETECTOR, AlgDef("fex", 0, 0, 1), {"n": (np.uint8, 0)})
    config.Detector(
        DetectorDef("runinfo", "runinfo", ""), AlgDef("runinfo", 0, 0, 1), {"n": (np.uint8, 0)}, 3, 255
    )
    third = config.Detector(DETECTOR, AlgDef("x", 0, 0, 1), {"n": (np.uint8, 0)}, segment=4)
    assert [(one.nodeId, one.namesId) for one in (first, second, third)] == [(0, 1), (0, 2), (3, 3)]
    assert third.names.segment == 4


def test_values_must_all_be_assigned_and_are_cleared_when_added() -> None:
    config, detector = declared()
    event = DgramEdit(config_dgramedit=config, transition_id=TransitionId.L1Accept, ts=1)
    detector.raw.valFex = 1
    with pytest.raises(XtcError, match="no value; found strFex, arrayFex"):
        event.adddata(detector.raw)
    fill(detector.raw)
    event.adddata(detector.raw)
    assert detector.raw.valFex is None
    assert len(event.get_dgram().fields()) == 3
    with pytest.raises(XtcError, match="no such field"):
        detector.raw.other = 1
    with pytest.raises(AttributeError, match="not fex"):
        _ = detector.fex


def test_a_refused_value_leaves_the_dgram_usable() -> None:
    config, detector = declared()
    event = DgramEdit(config_dgramedit=config, transition_id=TransitionId.L1Accept, ts=1)
    for bad in (np.zeros((2, 3), np.uint16), np.zeros(3, np.int16), "text"):
        fill(detector.raw)
        detector.raw.arrayFex = bad
        with pytest.raises(XtcError, match="arrayFex"):
            event.adddata(detector.raw)
    assert event.size == 24
    fill(detector.raw)
    event.adddata(detector.raw)
    assert len(event.get_dgram().fields()) == 3


def test_a_fortran_array_is_written_by_content() -> None:
    config, detector = declared()
    event = DgramEdit(config_dgramedit=config, transition_id=TransitionId.L1Accept, ts=1)
    fill(detector.raw)
    detector.raw.arrayFex = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    event.adddata(detector.raw)
    assert event.get_dgram().fields()[2].value.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_removedata_takes_all_segments_of_this_dgram_without_a_save_before() -> None:
    names = (
        b.names(1, [("n", b.UINT8, 0)])
        + b.names(2, [("n", b.UINT8, 0)], segment=1)
        + b.names(3, [("n", b.UINT8, 0)], alg="fex")
    )
    config = DgramEdit(b.dgram(b.CONFIGURE, names))
    event = b.dgram(b.L1ACCEPT, b"".join(b.shapes_data(one, [], b"\1") for one in (1, 2, 3)))
    edit = DgramEdit(event, config)
    edit.removedata("det", "raw")
    assert [one.names_id for one in edit.get_dgram().shapes_data()] == [3]
    assert len(DgramEdit(event, config).get_dgram().shapes_data()) == 3


def test_header_updates_and_sizes() -> None:
    config, _ = declared()
    edit = DgramEdit(b.dgram(b.L1ACCEPT, time=1, env=0xFF), config)
    edit.updatetimestamp(99)
    edit.updateservice(TransitionId.SlowUpdate)
    edit.updatedamage(0x8001)
    dgram = Dgram(edit.save())
    assert (dgram.timestamp, dgram.service, dgram.env, int(dgram.damage)) == (99, 10, 0x0A0000FF, 0x8001)


def test_corrupted_and_nested_dgrams_are_saved_whole() -> None:
    config = DgramEdit(b.dgram(b.CONFIGURE, b.xtc(b.PARENT, b.names(1, [("n", b.UINT8, 0)]), src=5)))
    assert config.save() == b.dgram(b.CONFIGURE, b.xtc(b.PARENT, b.names(1, [("n", b.UINT8, 0)]), src=5))
    raw = b.dgram(b.L1ACCEPT, b.shapes_data(1, [], b"\1"), damage=8)
    edit = DgramEdit(raw, config)
    edit.removedata("det", "raw")
    assert (edit.save(), edit.size) == (raw, len(raw))


def test_what_cannot_be_made_is_refused() -> None:
    config, _ = declared()
    for call in (
        DgramEdit,
        lambda: DgramEdit(b.dgram(b.CONFIGURE), transition_id=2),
        lambda: DgramEdit(transition_id=TransitionId.L1Accept),
        lambda: config.Detector(DETECTOR, ALG, {"a": (np.complex64, 0)}),
        lambda: config.Detector(DETECTOR, ALG, {"a b": (np.uint8, 0)}),
        lambda: config.Detector(DETECTOR, ALG, {"a": (np.uint8, 5)}),
        lambda: config.Detector(DETECTOR, ALG, {"a": (np.uint8, 0)}, namesId=256),
        lambda: config.Detector(DETECTOR, ALG, {"a": (np.uint8, 0)}, namesId=1),
        lambda: config.save(bytearray(10)),
        lambda: DgramEdit(config.save(), bufsize=100).save(),
    ):
        with pytest.raises(XtcError):
            call()
    assert len(config.config.names) == 1


def test_the_clock_gives_seconds_since_1990() -> None:
    stamp = DgramEdit(transition_id=TransitionId.Configure).get_dgram().timestamp
    assert 1_000_000_000 < stamp >> 32 < 3_000_000_000
    assert stamp & 0xFFFFFFFF < 1_000_000

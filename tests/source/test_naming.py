"""A Configure under the name that a partition gives its drp."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from drp.core.errors import SourceError
from drp.source import SourceOptions
from drp.source.naming import Named, first_segment, renamed
from drp.source.sim import Simulator
from drp.source.simoptions import parse
from xtc import Config, Dgram, TransitionId
from xtc.edit import Editor

CONFIG = {
    "detType:RO": "epixhr",
    "detName:RO": "whatever",
    "detId:RO": "serial7",
    "doc:RO": "",
    "alg:RO": {"alg:RO": "config", "version:RO": [2, 0, 0]},
    "gain": 3,
    ":types:": {"gain": "UINT8"},
}


class First:
    """Slots that keep the first dgram."""

    events_free = transitions_free = 1
    dgram = b""

    def put(self, dgram: bytes, pulse_id: int = 0) -> bool:
        if self.dgram:
            return False
        self.dgram = bytes(dgram)
        return True


def _configure(options: str) -> bytes:
    slots = First()
    Simulator(parse(options), SourceOptions(events=1)).fill(slots)  # type: ignore[arg-type]
    assert Dgram(slots.dgram).service == TransitionId.Configure
    return slots.dgram


def _segments(configure: bytes, detname: str, alg: str) -> list[int]:
    names = Config(Dgram(configure)).names.values()
    return sorted(one.segment for one in names if (one.detname, one.alg.name) == (detname, alg))


@pytest.mark.parametrize(
    ("options", "number", "expected"), [("epixhr,segments=1", 1, [1]), ("epixhr,segments=2", 3, [6, 7])]
)
def test_each_drp_of_a_detector_has_segments_of_its_own(
    options: str, number: int, expected: list[int]
) -> None:
    configure = _configure(options)
    named = Named("front", number, "a-b-c")
    new = renamed(configure, named)
    assert _segments(new, "front", "raw") == _segments(new, "front", "config") == expected
    assert first_segment(configure, named) == expected[0]
    before, after = Config(Dgram(configure)).names, Config(Dgram(new)).names
    assert list(before) == list(after)
    assert [one.fields for one in before.values()] == [one.fields for one in after.values()]
    assert {one.detid for one in after.values() if one.detname == "front"} == {"a-b-c"}
    assert [bytes(one.data) for one in Dgram(configure).shapes_data()] == [
        bytes(one.data) for one in Dgram(new).shapes_data()
    ]


def test_a_configuration_from_outside_takes_the_place_of_the_detectors_own() -> None:
    new = renamed(_configure("epixhr,segments=1"), Named("front", 0), json.dumps(CONFIG))
    config = Config(Dgram(new))
    (names,) = (one for one in config.names.values() if (one.detname, one.alg.name) == ("front", "config"))
    assert names.alg.version == (2, 0, 0)
    (gain,) = (one.value for one in Dgram(new, config=config).fields() if one.field.name == "gain")
    assert gain == 3


def test_epics_of_each_drp_are_a_segment_of_their_own() -> None:
    configure = _configure("epixhr,segments=1")
    for number in (0, 3):
        new = renamed(configure, Named("front", 1, number=number))
        assert _segments(new, "epics", "raw") == _segments(new, "epicsinfo", "epicsinfo") == [number]
        assert _segments(new, "front", "raw") == [1]


def test_a_source_of_several_detectors_needs_to_be_told_which() -> None:
    both = _with_another(_configure("epixhr,segments=1"), "front")
    with pytest.raises(SourceError, match="it has no detector back, but epixhr, front"):
        renamed(both, Named("back", 0))


def _with_another(configure: bytes, detname: str) -> bytes:
    editor = Editor(Dgram(configure))
    first = next(iter(Config(Dgram(configure)).names.values()))
    editor.add_names(replace(first, names_id=first.names_id | 0x99, detname=detname))
    return editor.encode()

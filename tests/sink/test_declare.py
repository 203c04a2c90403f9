"""NamesIds: a function of the Configure and the declarations, and of nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from drp.core.errors import WorkerError
from drp.sink.declare import (
    CHUNKINFO,
    DRPCALIB,
    DRPINFO,
    DRPLEDGER,
    RUNINFO,
    SMDINFO,
    Declared,
    assign_names,
    assign_own,
)
from xtc import Alg, Config, DataType, Field, Names, XtcError

FIELDS = (Field("x", DataType.UINT8),)


def names(names_id: int, det: str = "cam", alg: str = "raw", fields: tuple[Field, ...] = FIELDS) -> Names:
    return Names(names_id, "type", det, "id", 0, Alg(alg, (0, 0, 1)), fields)


def declared(node_id: int | None = None, names_id: int | None = None) -> Declared:
    return Declared(names(0, "fex"), None, node_id, names_id)


def ids(before: list[int], *asked: Declared) -> list[int]:
    return [one.names_id for one in assign_names(Config.of(names(one) for one in before), asked)]


@pytest.mark.parametrize(
    ("before", "asked", "given"),
    [
        ([], [declared()], [1]),
        ([0x100, 0x101], [declared(), declared()], [0x102, 0x103]),
        ([0x205, 0x101, 0x1FF], [declared()], [0x102]),
        ([0x101, 0x1FC, 0x1FF], [declared()], [0x102]),
        ([0x101], [declared(2), declared(2)], [0x201, 0x202]),
        ([0x101], [declared(2, 7), declared(2)], [0x207, 0x208]),
        ([0x101], [declared(None, 9), declared()], [0x109, 0x10A]),
        ([0x101, 0x105], [declared(1, 5)], [0x106]),
        ([0x101], [declared(1, 5), declared(1, 5)], [0x105, 0x106]),
        ([0x100 + 127], [declared(), declared()], [0x180, 0x181]),
    ],
)
def test_ids_are_those_asked_for_or_the_next_free(
    before: list[int], asked: list[Declared], given: list[int]
) -> None:
    assert ids(before, *asked) == given


def test_a_full_node_uses_its_gaps_and_then_says_so() -> None:
    before = [0x100 + index for index in range(1, 252) if index != 30]
    assert ids(before, declared()) == [0x11E]
    with pytest.raises(XtcError, match="no free NamesId"):
        ids(before, declared(), declared())


def test_own_names_come_after_the_scripts() -> None:
    config = Config.of([names(0x101)])
    script = assign_names(config, [declared()])
    own = assign_own(config, script)
    assert script == [replace(names(0, "fex"), names_id=0x102)]
    assert own.drpinfo == replace(DRPINFO, names_id=0x103)
    assert own.drpledger == replace(DRPLEDGER, names_id=0x104)
    assert own.runinfo == replace(RUNINFO, names_id=0x1FF)
    assert own.chunkinfo == replace(CHUNKINFO, names_id=0x1FC)
    assert own.smdinfo == replace(SMDINFO, names_id=0x1FE)
    assert own.added == (own.drpinfo, own.drpledger, own.runinfo, own.chunkinfo)
    assert (own.dropped, own.stripped) == ((), ())


def test_names_of_a_recording_are_used_again() -> None:
    first = assign_own(Config.of([names(0x101)]), [])
    config = Config.of([names(0x101), *first.added])
    second = assign_own(config, assign_names(config, [declared()]))
    assert (second.drpinfo, second.drpledger, second.runinfo) == (
        first.drpinfo,
        first.drpledger,
        first.runinfo,
    )
    assert second.added == ()
    assert second.stripped == (0x102, 0x103, 0x1FC)


def test_what_was_calibrated_with_is_ours_only_where_we_calibrate() -> None:
    first = assign_own(Config.of([names(0x101)]), [], constants=True)
    assert first.drpcalib == replace(DRPCALIB, names_id=0x104)
    assert first.added[-1] == first.drpcalib
    config = Config.of([names(0x101), *first.added])
    kept, again = assign_own(config, []), assign_own(config, [], constants=True)
    assert kept.drpcalib is None
    assert 0x104 not in (*kept.stripped, *kept.dropped)
    assert again.drpcalib == first.drpcalib
    assert 0x104 in again.stripped and again.added == ()


def test_chunkinfo_and_runinfo_of_other_writers_are_used_as_they_are() -> None:
    chunk = replace(CHUNKINFO, names_id=0x1FC, fields=tuple(reversed(CHUNKINFO.fields)))
    run = replace(RUNINFO, names_id=0x107, fields=(RUNINFO.fields[0], Field("runnum", DataType.INT64)))
    own = assign_own(Config.of([names(0x101), chunk, run]), [])
    assert (own.chunkinfo, own.runinfo) == (chunk, run)


def test_what_has_other_fields_is_replaced_under_its_id() -> None:
    old = names(0x155, "drpinfo", "drpinfo")
    own = assign_own(Config.of([old]), [])
    assert own.drpinfo == replace(DRPINFO, names_id=0x155)
    assert own.dropped == own.stripped == (0x155,)


def test_reserved_ids_that_are_taken_are_given_way_to() -> None:
    own = assign_own(Config.of([names(0x1FE), names(0x1FF, "b"), names(0x1FC, "c")]), [])
    new = [one.names_id for one in (own.drpinfo, own.drpledger, own.runinfo, own.chunkinfo, own.smdinfo)]
    assert new == [0x101, 0x102, 0x103, 0x104, 0x105]


def item(**changes: Any) -> dict[str, Any]:
    return {
        "det": "cam",
        "dettype": "epix",
        "detid": "7",
        "segment": 2,
        "alg": "fex",
        "version": [1, 2, 3],
        "node_id": None,
        "names_id": 4,
        "fields": [["roi", "UINT16", 2], ["text", "CHARSTR", 1]],
        "role": None,
    } | changes


def test_a_declaration_is_read_from_json() -> None:
    fields = (Field("roi", DataType.UINT16, 2), Field("text", DataType.CHARSTR, 1))
    want = Names(0, "epix", "cam", "7", 2, Alg("fex", (1, 2, 3)), fields)
    assert Declared.from_json(item()) == Declared(want, None, None, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "king"},
        {"fields": [["x", "UINT24", 0]]},
        {"fields": [["x", "UINT8"]]},
        {"fields": [["x y", "UINT8", 0]]},
        {"fields": None},
        {"version": [1, 2]},
        {"version": [1, 2, 300]},
        {"node_id": 5000},
        {"names_id": "x"},
        {"det": "a/b"},
        {"segment": -1},
    ],
)
def test_nonsense_in_json_is_a_worker_error(changes: dict[str, Any]) -> None:
    with pytest.raises(WorkerError):
        Declared.from_json(item(**changes))


def test_names_that_only_drp_writes_have_the_segment_of_their_stream() -> None:
    own = assign_own(Config.of([names(0x101)]), [], constants=True, segment=3)
    assert own.drpcalib is not None
    assert [one.segment for one in (own.drpinfo, own.drpledger, own.drpcalib, own.runinfo)] == [3, 3, 3, 0]

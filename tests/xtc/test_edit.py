"""Editors: what is kept, dropped and appended, judged by what a reader finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xtc import builders as b
from tests.xtc import strategies
from xtc import (
    Alg,
    Config,
    DataType,
    Dgram,
    Editor,
    Field,
    Names,
    TransitionId,
    TypeId,
    XtcError,
    encode_dgram,
    encode_shapes_data,
    encode_xtc,
)

ONE = Names(0x101, "t", "one", "", 0, Alg("raw"), (Field("n", DataType.UINT32),))
TWO = Names(0x102, "t", "two", "", 0, Alg("raw"), (Field("a", DataType.UINT16, 1),))
TWO_FEX = Names(0x103, "t", "two", "", 1, Alg("fex"), (Field("s", DataType.CHARSTR, 1),))
CONFIG = Config.of([ONE, TWO, TWO_FEX])
VALUES: dict[int, list[Any]] = {0x101: [7], 0x102: [np.arange(3, dtype="<u2")], 0x103: ["text"]}


def shapes(names: Names, damage: int = 0) -> bytes:
    return encode_shapes_data(names, VALUES[names.names_id], damage=damage)


def event(*parts: bytes, damage: int = 0) -> Dgram:
    return Dgram(encode_dgram(TransitionId.L1Accept, 5, parts, env=0xFF, src=3, damage=damage), config=CONFIG)


def reread(raw: bytes, config: Config = CONFIG) -> Dgram:
    dgram = Dgram(raw, config=None if raw[11] & 0xF == TransitionId.Configure else config)
    assert dgram.size == len(raw)
    return dgram


def ids(dgram: Dgram) -> list[int]:
    return [one.names_id for one in dgram.shapes_data()]


def test_an_editor_without_edits_gives_the_same_bytes() -> None:
    for dgram in (
        event(),
        event(shapes(ONE)),
        event(b"junk" * 9, damage=8),
        event(encode_xtc(0, [shapes(TWO)], damage=2)),
    ):
        assert Editor(dgram).encode() == bytes(dgram)


def test_dropping_takes_out_what_was_named_and_nothing_else() -> None:
    whole = (shapes(ONE), shapes(TWO, damage=4), shapes(TWO_FEX))
    cases: list[tuple[tuple[Any, ...], list[int]]] = [
        (("two",), [0x101]),
        (("two", "raw"), [0x101, 0x103]),
        (("two", None, 1), [0x101, 0x102]),
        (("six",), [0x101, 0x102, 0x103]),
    ]
    for arguments, left in cases:
        editor = Editor(event(*whole))
        editor.drop(*arguments)
        assert ids(reread(editor.encode())) == left


def test_nested_parents_are_kept_with_the_right_extents_even_when_emptied() -> None:
    inner = encode_xtc(TypeId.Parent, [shapes(TWO)], src=9, damage=4)
    outer = encode_xtc(TypeId.Parent, [inner, shapes(ONE)], src=8)
    editor = Editor(event(outer, shapes(TWO_FEX)))
    editor.drop("two")
    dgram = reread(editor.encode())
    found = [(one.type, one.src, one.damage, one.extent, one.parent) for one in dgram.xtcs()]
    assert found == [(0, 8, 0, 12 + 12 + 40, -1), (0, 9, 4, 12, 0), (1, 0x101, 0, 40, 0)]


def test_a_corrupted_dgram_and_a_corrupted_parent_are_kept_whole() -> None:
    top = Editor(event(shapes(ONE), damage=8))
    top.drop("one")
    assert top.encode() == bytes(event(shapes(ONE), damage=8))
    parent = encode_xtc(TypeId.Parent, [b"\xff" * 7], damage=8)
    editor = Editor(event(parent, shapes(ONE)))
    editor.drop_ids([0x101])
    assert editor.encode() == bytes(event(parent))


def test_added_data_comes_last_and_header_words_follow_the_editor() -> None:
    editor = Editor(event(shapes(TWO)))
    editor.add(ONE, {"n": 9}, damage=2)
    editor.timestamp, editor.damage, editor.src, editor.service = 77, 0x40, 4, TransitionId.SlowUpdate
    dgram = reread(editor.encode())
    assert ids(dgram) == [0x102, 0x101]
    assert (dgram.fields()[-1].value, int(dgram.fields()[-1].damage)) == (9, 2)
    assert (dgram.timestamp, dgram.damage, dgram.src, dgram.service, dgram.env) == (
        77,
        0x40,
        4,
        10,
        0x0A0000FF,
    )


def test_a_refused_edit_changes_nothing() -> None:
    editor = Editor(event(shapes(ONE)))
    before = editor.encode()
    stranger = Names(0x105, "t", "one", "", 0, Alg("raw"), ONE.fields)
    for names, values in ((ONE, {"n": 1 << 32}), (ONE, {}), (stranger, {"n": 1})):
        with pytest.raises(XtcError):
            editor.add(names, values)
    with pytest.raises(XtcError, match="belong in a Configure"):
        editor.add_names(stranger)
    assert editor.encode() == before


def test_names_are_added_to_a_configure_once() -> None:
    configure = Dgram(encode_dgram(TransitionId.Configure, 0, [ONE.encode()]))
    editor = Editor(configure)
    editor.add_names(TWO)
    with pytest.raises(XtcError, match="occurs twice"):
        editor.add_names(ONE)
    editor.add(TWO, VALUES[0x102])
    dgram = reread(editor.encode())
    assert dgram.config is not None
    assert dgram.config.names == {0x101: ONE, 0x102: TWO} == editor.config.names
    assert dgram.fields()[0].value.tolist() == [0, 1, 2]


def test_an_editor_of_nothing_makes_a_whole_dgram() -> None:
    raw = Editor.new(TransitionId.BeginRun, 3, src=2).encode()
    assert raw == b.dgram(b.BEGINRUN, time=3, src=2)


@st.composite
def trees(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Children of a Parent: ShapesData of three Names, strangers, and Parents of such."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["one", "two", "fex", "odd", "parent", "corrupted"]))
        if kind == "parent" and depth < 3:
            parts.append(encode_xtc(0, [draw(trees(depth + 1))], src=draw(st.integers(0, 99)), damage=4))
        elif kind == "corrupted":
            parts.append(encode_xtc(0, [draw(st.binary(max_size=5))], damage=8))
        elif kind == "odd":
            parts.append(encode_xtc(7, [b"odd"]))
        else:
            parts.append(shapes({"one": ONE, "two": TWO}.get(kind, TWO_FEX)))
    return b"".join(parts)


@settings(deadline=None)
@given(
    trees(), st.sets(st.sampled_from([0x101, 0x102, 0x103])), st.lists(strategies.filled(0x104), max_size=2)
)
def test_arbitrary_edits_leave_the_rest_as_it_was(
    tree: bytes, dropped: set[int], added: list[tuple[Names, list[Any]]]
) -> None:
    names = added[0][0] if added else ONE
    config = Config.of([ONE, TWO, TWO_FEX, *([names] if added else [])])
    before = Dgram(encode_dgram(TransitionId.L1Accept, 5, [tree]), config=config)
    editor = Editor(before)
    editor.drop_ids(dropped)
    for _ in added:
        editor.add(names, added[0][1])
    after = reread(editor.encode(), config)
    kept = [bytes(one.data) for one in before.shapes_data() if one.names_id not in dropped]
    found = after.shapes_data()
    assert [bytes(one.data) for one in found[: len(kept)]] == kept
    assert [one.names_id for one in found[len(kept) :]] == [0x104] * len(added)
    for one in found[len(kept) :]:
        assert all(strategies.same(*pair) for pair in zip(one.values(), added[0][1], strict=True))
    parents = [(one.src, one.damage) for one in before.xtcs() if one.type == 0]
    assert [(one.src, one.damage) for one in after.xtcs() if one.type == 0] == parents
    again = Editor(after)
    again.drop_ids(dropped)
    assert again.encode() == bytes(after)

"""What a script adds, removes and declares, as drp reads it."""

from dataclasses import replace

import numpy as np
import pytest
from dgrams import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from script_feed import INFO, Answered, ListFeed, Script

from drp.script._added import AddedData
from drp.script._event import Stream
from drp.script._link import FeedLink
from drp.script.declare import Declaration, data_type
from drp.script.errors import FieldError, FieldRangeError, ScriptError
from drp.script.run import Verbs
from drp.script.session import Session
from drp.script.worker import EXIT_SCRIPT_FAILED
from drp.shm._block import NamesTable, decode_block
from drp.sink.declare import Declared, assign_names
from xtc import Config, DataType, Dgram, TransitionId

HEAD = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef, Damage
ds = DataSource()
info = ds.drp_info
define = lambda owner, **fields: owner.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 1, 2, 3), fields).fex
"""
L1 = TransitionId.L1Accept


def dgrams(events: int = 2, segments: int = 2) -> list[bytes]:
    builder = Builder(segments)
    return [builder.configure(), *builder.run(events), builder.bare(TransitionId.Unconfigure)]


def table_of(feed: ListFeed) -> NamesTable:
    """The Names of all answers, as drp would number them."""
    declared = []
    for one in feed.answers:
        declared += [Declared.from_json(item) for item in one.json.get("names", ()) if "fields" in item]
    roles = [one.role for one in declared]
    names = assign_names(Config(Dgram(feed.arrivals[0].dgram)), declared)
    return NamesTable(names, roles.index("trigger") if "trigger" in roles else -1)


def decoded(feed: ListFeed, answer: Answered):
    return decode_block(answer.desc, answer.data, table_of(feed))


def passes(script: Script, text: str, *args: str, **options: object) -> ListFeed:
    code, feed = script(HEAD + text, dgrams(), *args, **options)  # type: ignore[arg-type]
    assert code == 0, feed.answers[-1].json
    return feed


def fails(script: Script, text: str, **options: object) -> Answered:
    code, feed = script(HEAD + text, dgrams(), **options)  # type: ignore[arg-type]
    assert code == EXIT_SCRIPT_FAILED
    return feed.answers[-1]


def test_added_data_removed_data_words_and_damage_stand_in_one_block(script: Script) -> None:
    feed = passes(
        script,
        """
fex = define(ds, n=(np.uint32, 0), cut=(np.uint16, 2), text=(str, 1))
ds.add_trigger({"score": np.float32})
for run in ds.runs():
    det = run.Detector("cam")
    for evt in run.events():
        fex.text = "ab"
        fex.cut = det.raw.raw(evt)[0, 2:4, 1:3]
        fex.n = evt.index
        ds.add_data(fex)
        assert fex.n is None and fex.cut is None
        run.remove_data("cam", "raw")
        run.remove_data("cam", "raw")
        ds.set_trigger(score=0.5)
        ds.damage(evt, Damage.OutOfOrder, user=9)
""",
    )
    for index, answer in enumerate(feed.of(L1)):
        block = decoded(feed, answer)
        assert block["drops"] == (0x101, 0x102)
        assert (block["damage"], block["user"], block["words"]) == (2, 9, True)
        (first, shapes, data), (second, _, words) = block["adds"]
        assert (first, second) == (0, 1)
        assert [tuple(one[:2]) for one in shapes] == [(2, 2), (4, 0)] or [tuple(one) for one in shapes] == [
            (2, 2),
            (4,),
        ]
        cut = (np.arange(48, dtype=np.uint16).reshape(8, 6) + index)[2:4, 1:3]
        assert bytes(data) == np.uint32(index).tobytes() + cut.tobytes() + b"ab\0\0"
        assert bytes(words) == np.float32(0.5).tobytes()


def test_an_unedited_event_has_no_block(script: Script) -> None:
    feed = passes(script, "for run in ds.runs():\n    for evt in run.events():\n        pass\n")
    assert all(one.desc == b"" for one in feed.of(L1))


def test_names_are_declared_at_configure_or_at_begin_run(script: Script) -> None:
    feed = passes(
        script,
        """
one = define(ds, a=(np.int8, 0))
for run in ds.runs():
    two = run.add_detector(DetectorDef("cam", "epixhr", "s"), AlgDef("more", 0, 0, 1), {"b": (float, 1)}, 3, 77, 5)
    for evt in run.events():
        two.more.b = np.arange(evt.index + 1.0)
        run.add_data(two.more)
        one.a = -1
        run.add_data(one)
""",
    )
    (configure,), (begin_run,) = feed.of(TransitionId.Configure), feed.of(TransitionId.BeginRun)
    assert [item["alg"] for item in configure.json["names"]] == ["fex"]
    (more,) = begin_run.json["names"]
    assert (more["node_id"], more["names_id"], more["segment"], more["fields"]) == (
        3,
        77,
        5,
        [["b", "DOUBLE", 1]],
    )
    adds = decoded(feed, feed.of(L1)[1])["adds"]
    assert [index for index, _, _ in adds] == [1, 0]


def test_data_can_be_added_to_the_configure(script: Script) -> None:
    feed = passes(
        script,
        "c = define(ds, t=(str, 1))\nc.t = 'x'\nds.add_data(c)\nfor run in ds.runs():\n    list(run.events())\n",
    )
    assert bytes(decoded(feed, feed.answers[0])["adds"][0][2]) == b"x\0\0\0"


def test_the_same_names_may_be_declared_again_for_the_next_run(script: Script) -> None:
    builder = Builder(1)
    stream = [builder.configure(), *builder.run(1), *builder.run(1, runnum=8)]
    text = """
for run in ds.runs():
    fex = define(run, a=(np.int8, 0))
    for evt in run.events():
        fex.a = run.runnum
        ds.add_data(fex)
"""
    code, feed = script(HEAD + text, stream)
    assert code == 0, feed.answers[-1].json
    first, second = feed.of(TransitionId.BeginRun)
    assert first.json == second.json
    assert [bytes(one.data) for one in feed.of(L1)] == [b"\x07", b"\x08"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fex.n = 256", "cannot hold 256"),
        ("fex.n = -1", "cannot hold -1"),
        ("fex.n = 1.5", "whole numbers"),
        ("fex.n = 'x'", "one number"),
        ("fex.f = 1e39", "cannot hold"),
        ("fex.f = 1j", "one number"),
        ("fex.a = np.zeros((2, 2), np.int32)", "uint16 of rank 2"),
        ("fex.a = np.zeros(2, np.uint16)", "uint16 of rank 1"),
        ("fex.a = [[1]]", "a numpy array"),
        ("fex.a = np.zeros((2, 2), '>u2')", "uint16 of rank 2"),
        ("fex.t = 3", "is text"),
        ("fex.b = 1", "no field 'b'"),
        ("fex.n = 1; ds.add_data(fex)", "f, a, t"),
        ("ds.set_trigger(x=1)", "add_trigger"),
        ("ds.damage(evt, 8)", "without Corrupted"),
        ("ds.damage(evt, 'OutOfOder')", "OutOfOrder"),
        ("ds.damage(evt, user=3)", "8..15"),
        ("ds.damage(evt)", "nothing to mark the event with"),
        ("define(ds, z=(np.int8, 0))", "before the first event"),
        ("ds.reduce('s', np.zeros(3))", "before the first event. Declare the array once, before the loop"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(script: Script, line: str, words: str) -> None:
    answer = fails(
        script,
        f"""
fex = define(ds, n=(np.uint8, 0), f=(np.float32, 0), a=(np.uint16, 2), t=(str, 1))
for run in ds.runs():
    for evt in run.events():
        {line}
""",
    )
    assert answer.service == L1
    assert answer.status == 1
    assert words in answer.json["message"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("define(ds, a=(np.complex64, 0))", "cannot hold this type"),
        ("define(ds, a=(str, 0))", "rank 1"),
        ("define(ds, a=(int, 5))", "0..4"),
        ("define(ds, a=int)", "(type, rank)"),
        ("define(ds)", "no fields"),
        ("define(ds, a=(int, 0)); define(ds, b=(int, 0))", "other fields"),
        ("define(ds, a=(int, 0)); define(ds, a=(int, 0))", "twice"),
        (
            "ds.add_detector(DetectorDef('cam', 'x', ''), AlgDef('raw', 0, 0, 1), {'a': (int, 0)}, segment=1)",
            "already has",
        ),
        ("ds.reduce('a', np.zeros(3), 'mean')", "no operation"),
        ("ds.reduce('a', np.zeros(()), per_step=True)", "no array to leave out"),
        ("ds.add_trigger({'hits': (np.uint8, 1)})", "trigger word 'hits' is one number"),
        ("ds.add_trigger({'hits': str})", "rank 1"),
    ],
)
def test_wrong_declarations_fail_the_configure(script: Script, line: str, words: str) -> None:
    answer = fails(script, line + "\nfor run in ds.runs():\n    list(run.events())\n")
    assert answer.service == TransitionId.Configure
    assert words in answer.json["message"]


def test_arrays_of_a_step_are_handed_over_only_where_they_were_changed(script: Script) -> None:
    feed = passes(
        script,
        """
for run in ds.runs():
    one = run.reduce("one", np.ones((3, 2), np.uint32), per_step=True)
    low = run.reduce("low", np.ones((2, 2), np.int16), "min", per_step=True)
    for evt in run.events():
        one[2, 1] += 1
""",
    )
    (end_step,), (end_run,) = feed.of(TransitionId.EndStep), feed.of(TransitionId.EndRun)
    table = table_of(feed)
    for answer, shapes, values in (
        (end_step, ((3, 2), (0, 2)), [0, 0, 0, 0, 0, 2]),
        (end_run, ((0, 2), (0, 2)), []),
    ):
        (add,) = decode_block(answer.desc, answer.data, table)["adds"]
        assert add[1] == shapes
        assert np.frombuffer(add[2], np.uint32).tolist() == values
        assert [one["per_step"] for one in answer.json["reduce"]] == [True, True]


def test_reduced_arrays_that_no_transition_holds_fail_at_once_with_what_to_say(script: Script) -> None:
    answer = fails(
        script,
        """
for run in ds.runs():
    run.reduce("large", np.zeros((70, 1 << 20), np.uint8))
    list(run.events())
""",
        info=replace(INFO, transition_bufsize=64 << 20),
    )
    assert answer.service == TransitionId.BeginRun
    assert "73,400,320 bytes, and a transition has room for 67,108,864" in answer.json["message"]
    assert "-k trBufSize=73M" in answer.json["message"]
    assert answer.json["traceback"] == ""


def test_reduced_arrays_are_handed_over_at_end_step_and_begin_again(script: Script) -> None:
    feed = passes(
        script,
        """
total = ds.reduce("total", np.ones((2, 3), np.uint32))
low = ds.reduce("low", np.zeros((), np.int16), "min")
high = ds.reduce("high", np.zeros(1, np.float32), "max")
assert total.sum() == 0 and low == 32767 and high[0] == -np.inf
for run in ds.runs():
    for evt in run.events():
        total += 1 + evt.index
        low[...] = min(low, evt.index)
        high[0] = evt.index
    assert total.sum() == 0
""",
    )
    (names,) = feed.answers[0].json["names"]
    assert (names["role"], names["alg"]) == ("reduce", "reduce")
    (end_step,), (end_run,) = feed.of(TransitionId.EndStep), feed.of(TransitionId.EndRun)
    assert [one["op"] for one in end_step.json["reduce"]] == ["sum", "min", "max"]
    assert (
        end_step.data == np.full(6, 3, np.uint32).tobytes() + np.int16(0).tobytes() + np.float32(1).tobytes()
    )
    assert end_run.data[:26] == np.zeros(6, np.uint32).tobytes() + np.int16(32767).tobytes()


def test_too_much_data_is_an_overflow_and_the_next_event_is_good(script: Script) -> None:
    feed = passes(
        script,
        """
fex = define(ds, a=(np.uint8, 1))
for run in ds.runs():
    for evt in run.events():
        fex.a = np.zeros(90_000 if evt.index == 0 else 10, np.uint8)
        ds.add_data(fex)
        ds.remove_data("cam", "raw")
""",
        bound=80_000,
    )
    first, second = feed.of(L1)
    assert (first.status, first.desc) == (2, b"")
    assert (second.status, second.data) == (0, bytes(10))


def _stream(
    fields: dict[str, tuple[object, int]], bound: int = 1 << 24
) -> tuple[ListFeed, Stream, Verbs, object]:
    """A stream with an event in hand and a container to add to it."""
    from drp.script._added import AddedData

    feed = ListFeed([Builder(1).event(0)] * 3, bound=bound)
    stream = Stream(FeedLink(feed), None)
    assert stream.advance() == L1
    typed = tuple((name, data_type(name, one), rank) for name, (one, rank) in fields.items())
    declaration = Declaration("cam", "epixhr", "", 0, "fex", (0, 0, 1), typed)
    return feed, stream, Verbs(stream), AddedData(declaration, 0)


NUMBERS = [
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.float32,
    np.float64,
]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_arrays_in_any_memory_order_arrive_by_content(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4))
    values = [
        data.draw(arrays(kind, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
        for kind in kinds
    ]
    feed, stream, verbs, container = _stream({f"f{k}": (one.dtype, one.ndim) for k, one in enumerate(values)})
    given_values = []
    for k, one in enumerate(values):
        way = data.draw(st.integers(0, 4))
        shown = [one, np.asfortranarray(one), one[::-1], one[..., ::2], one.T.copy().T][way]
        given_values.append(shown)
        setattr(container, f"f{k}", shown)
    verbs.add_data(container)
    stream.advance()
    (answer,) = feed.answers
    assert answer.data == b"".join(np.ascontiguousarray(one).tobytes() for one in given_values)
    shapes = answer.desc[16 + 16 :]
    for k, one in enumerate(given_values):
        found = np.frombuffer(shapes[20 * k : 20 * k + 20], np.uint32)
        assert tuple(found) == (*one.shape, *(0,) * (5 - one.ndim))


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(NUMBERS), value=st.one_of(st.integers(-(1 << 70), 1 << 70), st.floats()))
def test_a_scalar_is_stored_exactly_or_refused(kind: type, value: float) -> None:
    feed, stream, verbs, container = _stream({"x": (kind, 0)})
    dtype = np.dtype(kind)
    try:
        container.x = value
    except FieldRangeError:
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                assert np.isinf(dtype.type(value))
        else:
            assert not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
        return
    except FieldError:
        assert isinstance(value, float)
        assert dtype.kind != "f"
        assert not value.is_integer()
        return
    verbs.add_data(container)
    stream.advance()
    stored = np.frombuffer(feed.answers[0].data, dtype)[0]
    if dtype.kind == "f":
        assert stored == dtype.type(value) or np.isnan(value)
    else:
        assert int(stored) == value


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=30), drops=st.integers(0, 3))
def test_many_adds_of_any_size_stand_in_order(sizes: list[int], drops: int) -> None:
    feed, stream, verbs, container = _stream({"x": (np.uint8, 1)})
    for turn in range(2):
        for k, size in enumerate(sizes):
            container.x = np.full(size, k + turn, np.uint8)
            verbs.add_data(container)
        stream.advance()
    table = NamesTable([_names()])
    for turn, answer in enumerate(feed.answers):
        block = decode_block(answer.desc, answer.data, table)
        assert [bytes(one[2]) for one in block["adds"]] == [
            bytes([k + turn]) * size for k, size in enumerate(sizes)
        ]


def _names():
    from xtc import Alg, Field, Names

    return Names(1, "epixhr", "cam", "", 0, Alg("fex", (0, 0, 1)), (Field("x", DataType.UINT8, 1),))


@pytest.mark.parametrize("verb", ["add_data", "remove_data"])
def test_a_slow_update_cannot_be_edited(verb: str) -> None:
    builder = Builder(1)
    feed = ListFeed([builder.configure(), *builder.run(1, slow_every=1)])
    session = Session(FeedLink(feed), INFO, [])
    while session.advance() != TransitionId.SlowUpdate:
        if session.stream.service == TransitionId.Configure:
            session.configure()
    data = AddedData(Declaration("cam", "t", "i", 0, "fex", (0, 0, 1), (("x", DataType.UINT8, 0),)), 0)
    data.x = 1
    arguments = (data,) if verb == "add_data" else ("cam", "raw")
    with pytest.raises(ScriptError, match="a SlowUpdate is recorded as it came"):
        getattr(Verbs(session.stream), verb)(*arguments)

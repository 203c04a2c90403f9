"""Answers to transitions: one out of many, or an error that names who differs."""

import json
from typing import Any

import numpy as np
import pytest

from drp.core.errors import WorkerError
from drp.shm._block import encode_block
from drp.sink.answer import EMPTY, Answer, Reduced, RunTotal, combine, merge_declared, read_answer


def item(alg: str, *fields: tuple[str, str, int], role: str | None = None) -> dict[str, Any]:
    return {
        "det": "cam",
        "dettype": "epix",
        "detid": "",
        "segment": 0,
        "alg": alg,
        "version": [0, 0, 1],
        "node_id": None,
        "names_id": None,
        "fields": [list(field) for field in fields],
        "role": role,
    }


FEX = item("fex", ("x", "UINT16", 0))
SUMS = item("reduce", ("image", "INT32", 2), ("low", "FLOAT", 0), role="reduce")
LISTED = [
    {"name": "image", "op": "sum", "dtype": "INT32", "shape": [2, 2]},
    {"name": "low", "op": "min", "dtype": "FLOAT", "shape": []},
]
CUBE = item("reduce", ("cube", "UINT8", 4), role="reduce")
CUBE_LISTED = [{"name": "cube", "op": "sum", "dtype": "UINT8", "shape": [0] + [0xFFFFFFFF] * 3}]
IMAGE = np.arange(4, dtype=np.int32).reshape(2, 2)


def block(message: dict[str, Any] | None = None, **edits: Any) -> tuple[bytes, bytes]:
    return encode_block(json=json.dumps(message).encode() if message is not None else b"", **edits)


def sums_add(image: np.ndarray[Any, Any], low: float) -> tuple[int, list[tuple[int, ...]], bytes]:
    return (1, [image.shape], image.tobytes() + np.float32(low).tobytes())


def test_no_block_is_the_empty_answer() -> None:
    assert read_answer(b"", b"") is EMPTY


def test_declarations_edits_and_reduced_arrays_are_told_apart() -> None:
    desc, data = block(
        {"names": [FEX, SUMS], "reduce": LISTED},
        adds=[(0, [], b"ab"), sums_add(IMAGE, 2.5)],
        drops=[5],
        user=9,
    )
    answer = read_answer(desc, data)
    assert [one.names.alg.name for one in answer.declared] == ["fex", "reduce"]
    assert answer.adds == ((0, (), b"ab"),)
    assert (answer.drops, answer.user, answer.reduce_index) == ((5,), 9, 1)
    assert [(one.name, one.op) for one in answer.reduced] == [("image", "sum"), ("low", "min")]
    assert answer.reduced[0].values.tolist() == IMAGE.tolist()
    assert answer.block() == encode_block(adds=[(0, [], b"ab")], drops=[5], user=9)


def test_names_known_before_can_be_added_to() -> None:
    known = read_answer(*block({"names": [FEX]})).declared
    answer = read_answer(*block(adds=[(0, [], b"ab")]), known)
    assert answer.edits
    assert answer.declared == ()


def test_a_declaration_made_again_keeps_its_number() -> None:
    first = read_answer(*block({"names": [FEX, SUMS]})).declared
    again = read_answer(*block({"names": [SUMS]}), first).declared
    assert merge_declared(first, again) == first


@pytest.mark.parametrize(
    ("desc", "data"),
    [
        (b"short", b""),
        block({"names": [1]}),
        block({"names": [item("fex", ("x", "UINT99", 0))]}),
        block({"names": [item("fex", (f"x{k}", "UINT8", 0)) for k in range(1)] * 2000}),
        encode_block(json=b"[1]"),
        encode_block(json=b"[" * 100_000),
        encode_block(json=b"\xff\xfe"),
        block({"names": 5}),
        block({"reduce": [3]}),
        block({"skip": [3]}),
        block({"skip": "all"}),
        encode_block(json=b"{not json"),
        encode_block(adds=[(0, [], b"ab")]),
        (b"\0" * 12 + b"\xff\xff\xff\xff", b""),
        block({"names": [FEX, SUMS]}, adds=[sums_add(IMAGE, 0)]),
        block({"names": [FEX, SUMS], "reduce": [{"name": "image", "op": "mean"}]}, adds=[sums_add(IMAGE, 0)]),
        block({"names": [CUBE], "reduce": CUBE_LISTED}, adds=[(0, [(0, *[0xFFFFFFFF] * 3)], b"")]),
    ],
)
def test_what_cannot_be_read_is_the_error_of_that_worker(desc: bytes, data: bytes) -> None:
    with pytest.raises(WorkerError) as caught:
        read_answer(desc, data, worker=3)
    assert caught.value.worker == 3


def test_equal_answers_make_one() -> None:
    answer = read_answer(*block({"names": [FEX]}, adds=[(0, [], b"ab")]))
    assert combine({2: answer, 0: answer, 1: answer}) == answer
    assert combine({}) == EMPTY


def test_the_worker_that_differs_is_named_with_what_differs() -> None:
    first = read_answer(*block({"names": [FEX]}))
    other = read_answer(*block({"names": [item("roi", ("x", "UINT16", 0))]}))
    with pytest.raises(WorkerError, match=r"workers 0 and 4 .* different Names") as caught:
        combine({0: first, 4: other, 2: first})
    assert caught.value.worker == 4
    assert caught.value.expected.startswith("cam fex ")
    assert caught.value.found.startswith("cam roi ")
    assert "x UINT16 rank 0" in caught.value.found
    with pytest.raises(WorkerError, match="different user"):
        combine({0: Answer(user=8), 1: Answer(user=9)})
    with pytest.raises(WorkerError, match="different skip_calib_load"):
        combine({0: read_answer(*block({"skip": ["cam"]})), 1: EMPTY})


def reduced(image: list[int], low: float) -> tuple[Reduced, ...]:
    return (
        Reduced("image", "sum", np.array(image, np.int16)),
        Reduced("low", "min", np.array(low, np.float32)),
    )


def test_reduced_arrays_are_merged_and_keep_their_dtype() -> None:
    answers = {
        worker: Answer(reduced=reduced([worker, 30_000], 5 - worker), reduce_index=1) for worker in range(3)
    }
    answers[3] = EMPTY
    merged = combine(answers)
    assert merged.reduce_index == 1
    assert merged.reduced[0].values.tolist() == [3, np.int32(90_000).astype(np.int16)]
    assert merged.reduced[0].values.dtype == np.int16
    assert merged.reduced[1].values == 3.0


def of_step(*values: int, name: str = "s") -> tuple[Reduced, ...]:
    return (Reduced(name, "sum", np.array(values, np.int32), per_step=True),)


def test_arrays_of_a_step_that_nobody_changed_have_no_elements_and_those_of_the_run_neither() -> None:
    empty, full = Answer(reduced=of_step(), reduce_index=1), Answer(reduced=of_step(1, 2), reduce_index=1)
    for answers, expected in (
        ((empty, full, empty), [1, 2]),
        ((full, empty), [1, 2]),
        ((empty, full, full), [2, 4]),
        ((empty, empty), []),
    ):
        copies = {
            at: Answer(reduced=of_step(*one.reduced[0].values), reduce_index=1)
            for at, one in enumerate(answers)
        }
        assert combine(copies).reduced[0].values.tolist() == expected
    total = RunTotal()
    for step in (full, empty, full):
        total.add(step)
    assert total.total[0].values.shape == (0,)
    with pytest.raises(WorkerError, match="different arrays"):
        combine({0: full, 1: Answer(reduced=of_step(1))})


def test_no_number_is_taken_for_an_array_that_may_be_empty() -> None:
    listed = [{**one, "per_step": True} for one in LISTED]
    answer = read_answer(*block({"names": [FEX, SUMS], "reduce": listed}, adds=[sums_add(IMAGE, 1)]))
    assert [one.per_step for one in answer.reduced] == [True, False]


def test_reduced_arrays_of_different_shape_are_an_error() -> None:
    with pytest.raises(WorkerError, match="different arrays"):
        combine({0: Answer(reduced=reduced([1], 1)), 1: Answer(reduced=reduced([1, 2], 1))})


def test_the_total_of_a_run_is_over_its_steps() -> None:
    total = RunTotal()
    for step in range(3):
        total.add(Answer(reduced=reduced([step, 1], -step), reduce_index=4))
    total.add(EMPTY)
    assert total.index == 4
    assert [one.values.tolist() for one in total.total] == [[3, 3], -2.0]
    total.begin_run()
    assert total.total == ()


def test_an_answer_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(WorkerError, match="too long"):
        read_answer(bytes(16) + b"[" * (4 << 20), b"")


@pytest.mark.parametrize(
    "wrong",
    [
        {"segment": float("inf")},
        {"version": [float("nan"), 0, 0]},
        {"fields": [["x", "UINT16", 0]] * 5000},
        {"role": "reduce", "fields": [["x", "CHARSTR", 1]]},
        {"alg": "\ud800"},
    ],
    ids=["infinite", "not a number", "too many fields", "a sum of texts", "half a surrogate"],
)
def test_a_declaration_that_cannot_be_is_an_error_of_the_worker(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkerError):
        read_answer(*block({"names": [FEX | wrong], "reduce": []}), worker=3)

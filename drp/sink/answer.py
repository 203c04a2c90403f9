"""The answer of a worker to a transition: read, checked, and made one out of those of all workers.

What workers say about a transition must be equal, but for the arrays they reduce. Nobody here knows rings
or files; a block comes as its descriptor and its data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.errors import WorkerError
from drp.shm._block import BlockError, NamesTable, decode_block, encode_block
from drp.sink.declare import MAX_DECLARED, Declared
from xtc.codes import DTYPES

OPERATIONS = {"sum": np.add, "min": np.minimum, "max": np.maximum}
MAX_BRIEF = 500
WORDS = {
    "declared": "Names",
    "adds": "added data",
    "drops": "removed data",
    "user": "user damage",
    "skipped": "skip_calib_load",
}
HEADER = struct.Struct("<IIHBBI")
MAX_DESC_BYTES = 4 << 20  # as in drp.shm._layout
Array = npt.NDArray[np.generic]
Add = tuple[int, Sequence[Sequence[int]], bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class Reduced:
    """The partial result of one reduced array: `op` is sum, min or max; `values` is C-contiguous, of
    the declared dtype. `per_step`: without elements where nothing was changed, and for the run.
    """

    name: str
    op: str
    values: Array
    per_step: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One worker's answer. `declared` are the Names new in it; `adds`, `drops`, `damage` and `user`
    edit the transition, `adds` without the reduced arrays, which are `reduced` (their names_index in
    `reduce_index`). `truncated`: it did not fit, and nothing of it is there. `skipped`: the detectors whose
    constants the script does without.
    """

    declared: tuple[Declared, ...] = ()
    adds: tuple[Add, ...] = ()
    drops: tuple[int, ...] = ()
    damage: int = 0
    user: int = 0
    reduced: tuple[Reduced, ...] = ()
    reduce_index: int | None = None
    truncated: bool = False
    skipped: tuple[str, ...] = ()

    @property
    def edits(self) -> bool:
        """Whether the transition is recorded otherwise than it came."""
        return bool(self.adds or self.drops or self.damage or self.user)

    def block(self) -> tuple[bytes, bytes]:
        """Return descriptor and data of the edits alone."""
        return encode_block(drops=self.drops, adds=self.adds, damage=self.damage, user=self.user)


EMPTY = Answer()
TRUNCATED = Answer(truncated=True)


def merge_declared(known: Sequence[Declared], new: Sequence[Declared]) -> tuple[Declared, ...]:
    """Return all declarations of a Configure; one that is declared again keeps its names_index."""
    out = list(known)
    out += [one for one in new if one not in known]
    return tuple(out)


def read_answer(
    desc: bytes, data: bytes | memoryview, known: Sequence[Declared] = (), *, worker: int | None = None
) -> Answer:
    """Read and check the block of a transition; `known` is what was declared on this Configure before.

    Reduced arrays are views of `data`, which must not change any more. Raises WorkerError, naming `worker`, where the block or
    its JSON is not what it must be.
    """
    if not desc:
        return EMPTY
    if len(desc) > MAX_DESC_BYTES:
        raise WorkerError(
            "the descriptor of an answer is too long",
            worker=worker,
            expected=f"at most {MAX_DESC_BYTES} bytes",
            found=len(desc),
        )
    try:
        message = _message(desc)
        declared = tuple(Declared.from_json(item) for item in message["names"])
        skipped = tuple(message["skip"])
        names = merge_declared(known, declared)
        block = decode_block(desc, data, NamesTable(one.names for one in names))
    except (BlockError, ValueError, RecursionError) as error:
        raise WorkerError(f"the answer to a transition cannot be read: {error}", worker=worker) from error
    except WorkerError as error:
        raise WorkerError(error.what, worker=worker, expected=error.expected, found=error.found) from error
    adds = block["adds"]
    index = next((i for i, one in enumerate(names) if one.role == "reduce"), None)
    reduced: tuple[Reduced, ...] = ()
    if index is not None and adds and adds[-1][0] == index:
        reduced = _reduced(names[index], adds[-1], message["reduce"], worker)
        adds = adds[:-1]
    own = tuple((number, shapes, bytes(values)) for number, shapes, values in adds)
    return Answer(
        declared,
        own,
        block["drops"],
        block["damage"],
        block["user"],
        reduced,
        index if reduced else None,
        skipped=skipped,
    )


def _message(desc: bytes) -> Mapping[str, list[Any]]:
    """Return the lists `names`, `reduce` (of objects) and `skip` of the JSON, empty where it has none."""
    size = HEADER.unpack_from(desc.ljust(HEADER.size, b"\0"))[-1]
    text = desc[HEADER.size : HEADER.size + size]
    message = json.loads(text) if text else {}
    kinds: dict[str, type] = {"names": dict, "reduce": dict, "skip": str}
    return {key: _items(message, key, kind) for key, kind in kinds.items()}


def _items(message: object, key: str, kind: type) -> list[Any]:
    found = message.get(key, []) if isinstance(message, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise ValueError(f"its JSON holds no list of {kind.__name__} {key!r}")
    if len(found) > MAX_DECLARED:
        raise ValueError(f"its JSON holds more than {MAX_DECLARED} {key!r}")
    return found


def _reduced(
    declared: Declared, add: Add, listed: Sequence[Mapping[str, Any]], worker: int | None
) -> tuple[Reduced, ...]:
    fields = declared.names.fields
    ops = {str(item.get("name")): str(item.get("op")) for item in listed}
    of_steps = {str(item.get("name")) for item in listed if item.get("per_step") is True}
    if any(ops.get(one.name) not in OPERATIONS for one in fields):
        raise WorkerError(
            "reduced arrays without an operation", worker=worker, expected=sorted(OPERATIONS), found=ops
        )
    _, shapes, data = add
    out = []
    at = 0
    left = iter(shapes)
    for one in fields:
        dtype = DTYPES[one.dtype]
        shape = tuple(next(left)) if one.rank else ()
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        values = np.frombuffer(data[at : at + size], dtype).reshape(shape)
        out.append(Reduced(one.name, ops[one.name], values, one.name in of_steps and bool(values.ndim)))
        at += size
    return tuple(out)


def combine(answers: Mapping[int, Answer]) -> Answer:
    """Return the one answer that all workers gave, reduced arrays merged in the order of the workers'
    numbers. Where that of one did not fit there is none.

    Raises WorkerError naming two workers that differ, and in what. No answers make the empty one.
    """
    if not answers:
        return EMPTY
    if any(one.truncated for one in answers.values()):
        return TRUNCATED
    first, *others = sorted(answers)
    result = answers[first]
    for worker in others:
        _same(first, result, worker, answers[worker])
    reduced = merge_reduced(
        [answers[worker].reduced for worker in (first, *others) if answers[worker].reduced]
    )
    index = next((one.reduce_index for one in answers.values() if one.reduce_index is not None), None)
    return replace(result, reduced=reduced, reduce_index=index)


def _same(first: int, a: Answer, worker: int, b: Answer) -> None:
    for what in ("declared", "adds", "drops", "damage", "user", "skipped"):
        expected, found = getattr(a, what), getattr(b, what)
        if expected != found:
            told = differences(expected, found)
            raise WorkerError(
                f"workers {first} and {worker} answer a transition with different {WORDS.get(what, what)}",
                worker=worker,
                expected=told[0],
                found=told[1],
                hint="Names, added data and damage of a transition must not depend on the worker.",
            )


def differences(expected: object, found: object) -> tuple[str, str]:
    """Return two values of an answer in words; of declarations only those that the other has not."""
    return _brief(expected, found), _brief(found, expected)


def _brief(value: object, other: object) -> str:
    if not isinstance(value, tuple) or not all(isinstance(one, Declared) for one in value):
        return repr(value)[:MAX_BRIEF]
    own = [one for one in value if not isinstance(other, tuple) or one not in other]
    return ("; ".join(str(one) for one in own or value) or "none")[:MAX_BRIEF]


def merge_reduced(parts: Sequence[Sequence[Reduced]]) -> tuple[Reduced, ...]:
    """Merge partial results array by array, into the arrays of the first part where they may be written; integers wrap as
    numpy's do. Raises WorkerError where names or shapes differ.
    """
    if not parts:
        return ()
    merged = list(parts[0])
    for part in parts[1:]:
        if len(part) != len(merged) or not all(_alike(a, b) for a, b in zip(merged, part, strict=True)):
            raise WorkerError(
                "workers reduce different arrays",
                expected=[(one.name, one.op, one.values.shape) for one in merged],
                found=[(one.name, one.op, one.values.shape) for one in part],
            )
        for at, (a, b) in enumerate(zip(merged, part, strict=True)):
            if not (a.values.size and b.values.size):
                merged[at] = a if a.values.size else b
                continue
            into = a.values if a.values.flags.writeable else np.empty(a.values.shape, a.values.dtype)
            OPERATIONS[a.op](a.values, b.values, out=into)
            merged[at] = replace(a, values=into)
    return tuple(merged)


def _alike(a: Reduced, b: Reduced) -> bool:
    """Say whether two parts can be merged: of one shape, or one without elements where that may be."""
    if (a.name, a.op, a.per_step) != (b.name, b.op, b.per_step):
        return False
    empty = a.per_step and 0 in (len(a.values), len(b.values))
    return a.values.shape == b.values.shape or (empty and a.values.shape[1:] == b.values.shape[1:])


class RunTotal:
    """The reduced arrays of a run: sum, minimum or maximum of what its steps gave. `index`: their
    names_index, or None. The arrays of the first step become those of the run.
    """

    def __init__(self) -> None:
        self.begin_run()

    def begin_run(self) -> None:
        """Forget the run before."""
        self.total: tuple[Reduced, ...] = ()
        self.index: int | None = None

    def add(self, answer: Answer) -> None:
        """Add what a step, or the rest after the last one, gave."""
        if answer.reduced:
            own = tuple(
                replace(one, values=one.values[:0]) if one.per_step else one for one in answer.reduced
            )
            self.total = merge_reduced([part for part in (self.total, own) if part])
            self.index = answer.reduce_index

"""Arrays that are merged over workers: each worker accumulates its own, hands it over at EndStep and EndRun, and begins again.

Who collects merges them. Nothing here knows of links or files.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drp.script._added import AddedData
from drp.script.declare import DATA_TYPES, Declaration
from drp.script.errors import DeclarationError, FieldError, NoRoomError, UnknownNameError, near_misses
from drp.script.info import DrpInfo

Op = Literal["sum", "min", "max"]
Array = NDArray[Any]
ALG = "reduce"
VERSION = (0, 0, 1)
LOOK = 1 << 16
BESIDE_BYTES = 1 << 20
"""What is left in a transition for all else that is added to it."""


def identity(dtype: np.dtype[Any], op: str) -> Any:
    """Return what changes nothing when merged: 0, or the largest or smallest number of the type."""
    if op == "sum":
        return dtype.type(0)
    if dtype.kind == "f":
        return dtype.type(np.inf if op == "min" else -np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.max if op == "min" else limits.min)


class Reductions:
    """The reduced arrays of one worker."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Op, Array]] = {}
        self._per_step: set[str] = set()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._at_configure: set[str] = set()
        self._data: AddedData | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    def register(
        self, name: str, array: Array, op: Op, *, at_configure: bool, per_step: bool = False
    ) -> Array:
        """Keep `array` under `name`, set to the identity of `op`; raise DeclarationError."""
        if op not in get_args(Op):
            raise UnknownNameError(
                f"reduce {name!r}: no operation {op!r}", hint=near_misses(str(op), get_args(Op))
            )
        if name in self._entries:
            raise DeclarationError(f"reduce {name!r} is declared twice")
        if not at_configure and self._at_configure:
            raise DeclarationError(
                f"reduce {name!r}: others were declared before ds.runs()", hint="Declare all of them there."
            )
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous or not array.flags.writeable:
            raise DeclarationError(
                f"reduce {name!r}", expected="a writable C-contiguous numpy array", found=type(array).__name__
            )
        if array.dtype not in DATA_TYPES or array.ndim > 4:
            raise DeclarationError(
                f"reduce {name!r}: xtc2 cannot hold it", found=f"{array.dtype} of rank {array.ndim}"
            )
        if per_step and not array.ndim:
            raise DeclarationError(
                f"reduce {name!r}: one number is no array to leave out", hint="Leave per_step out."
            )
        self._entries[name] = (op, array)
        if per_step:
            self._per_step.add(name)
        self._shapes[name] = array.shape
        if at_configure:
            self._at_configure.add(name)
        array[...] = identity(array.dtype, op)
        return array

    def begin_run(self) -> None:
        """Forget what an earlier run declared, and start at the identity."""
        if not self._at_configure:
            self._entries.clear()
            self._per_step.clear()
            self._data = None
        self.reset()

    def reset(self) -> None:
        """Set every array to its identity."""
        for op, array in self._entries.values():
            array[...] = identity(array.dtype, op)

    def declaration(self, info: DrpInfo) -> Declaration:
        """Return the Names: one field per array, in the order they were registered.

        Raises NoRoomError where a transition has no room for them.
        """
        size = sum(array.nbytes for _, array in self._entries.values())
        room = info.transition_bufsize
        if room and size > room - min(BESIDE_BYTES, room // 4):
            raise NoRoomError(
                f"the arrays of reduce come to {size:,} bytes, and a transition has room for {room:,}",
                hint=f"Start drp with -k trBufSize={(size + 2 * BESIDE_BYTES >> 20) + 1}M.",
            )
        fields = tuple(
            (name, DATA_TYPES[array.dtype], array.ndim) for name, (_, array) in self._entries.items()
        )
        return Declaration(
            info.det_name, info.det_type, info.det_id, info.det_segment, ALG, VERSION, fields, role="reduce"
        )

    def describe(self) -> list[dict[str, Any]]:
        """Return the JSON of what there is."""
        return [
            {
                "name": name,
                "op": op,
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "per_step": name in self._per_step,
            }
            for name, (op, array) in self._entries.items()
        ]

    @property
    def declared(self) -> bool:
        """Whether the Names are declared."""
        return self._data is not None

    def bind(self, data: AddedData) -> None:
        """Set the container of the declared Names."""
        self._data = data

    def filled(self) -> AddedData | None:
        """Return the container with the arrays as they stand, or None where there are none; those `per_step` that nobody changed without elements.

        Raises FieldError for one that was resized.
        """
        if self._data is None:
            return None
        for name, (op, array) in self._entries.items():
            if array.shape != self._shapes[name]:
                raise FieldError(
                    f"reduce {name!r} has another shape than when it was declared",
                    expected=self._shapes[name],
                    found=array.shape,
                    hint="What workers and steps give is merged: declare it as large as it can be.",
                )
            given = array[:0] if name in self._per_step and not _changed(array, op) else array
            setattr(self._data, name, given if array.ndim else array[()])
        return self._data


def _changed(array: Array, op: str) -> bool:
    """Say whether an array has anything but the identity of `op`."""
    unchanged, flat = identity(array.dtype, op), array.reshape(-1)
    return any(bool((flat[at : at + LOOK] != unchanged).any()) for at in range(0, flat.size, LOOK))

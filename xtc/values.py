"""Values into bytes: one field's value as Data and Shape, checked against what its Names say, never wrapped
or cut.

The way back is `xtc._dgram`. It knows types and ranks; where the bytes go is decided by `encode_shapes_data`
at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from xtc import codes
from xtc.errors import XtcError
from xtc.kinds import DataType, TypeId
from xtc.names import Field, Names, to_bytes
from xtc.records import XTC_BYTES, XtcHeader

MAX_DIM = 0xFFFFFFFF
_FLOATS = (DataType.FLOAT, DataType.DOUBLE)
_SHAPE_FILL = (0,) * codes.MAX_DIMS
_TEXT_STEP = 4


def encode_value(field: Field, value: object) -> tuple[bytes | memoryview, tuple[int, ...]]:
    """Return the bytes of `value` in C order and its dims, () for a scalar.

    A scalar field takes a number of its kind and range (an integer field also a float without fraction), a
    text field str or bytes without NUL, an array field an array of its dtype and rank in any memory order, or
    nested lists that fit it exactly. Raises XtcError where the value does not fit: nothing wraps around, is
    rounded to an integer, or is cut.
    """
    if field.dtype == DataType.CHARSTR:
        return _encode_text(field, value)
    if field.rank == 0:
        return _encode_scalar(field, value), ()
    array = _as_array(field, value)
    if any(dim > MAX_DIM for dim in array.shape):
        raise _misfit(field, "a dim is too large", "at most 2^32-1", array.shape)
    return array.reshape(-1).view(np.uint8).data if array.size else b"", array.shape


def encode_shapes_data(
    names: Names, values: Mapping[str, object] | Sequence[object], *, damage: int = 0
) -> bytes:
    """Return the whole ShapesData of `values`: by field name (whole or, for an enum value, its label), or in
    field order.

    Raises XtcError where a field has no value, a value no field, or a value does not fit its field. Shapes
    come before Data, and are there, empty, without arrays too, as the reference's CreateData writes them.
    """
    shapes, data = [], []
    for field, value in zip(names.fields, _in_order(names, values), strict=True):
        try:
            raw, dims = encode_value(field, value)
        except XtcError as error:
            raise error.within(f"{names.detname}.{names.alg.name}, segment {names.segment}") from None
        data.append(raw)
        if field.rank:
            shapes.append(codes.SHAPE.pack(*(dims + _SHAPE_FILL)[: codes.MAX_DIMS]))
    shapes_bytes = XTC_BYTES + codes.SHAPE.size * len(shapes)
    data_bytes = XTC_BYTES + sum(len(raw) for raw in data)
    return b"".join(
        (
            XtcHeader(
                names.names_id, damage, TypeId.ShapesData, XTC_BYTES + shapes_bytes + data_bytes
            ).encode(),
            XtcHeader(0, 0, TypeId.Shapes, shapes_bytes).encode(),
            *shapes,
            XtcHeader(0, 0, TypeId.Data, data_bytes).encode(),
            *data,
        )
    )


def _in_order(names: Names, values: Mapping[str, object] | Sequence[object]) -> Sequence[object]:
    if not isinstance(values, Mapping):
        if len(values) != len(names.fields):
            raise XtcError("not one value per field", expected=len(names.fields), found=len(values))
        return values
    left = set(values)
    out = []
    for field in names.fields:
        key = field.name if field.name in values else field.label
        if key not in values:
            raise XtcError(
                f"field {field.name!r} has no value",
                expected=[one.name for one in names.fields],
                found=sorted(values),
            )
        out.append(values[key])
        left.discard(key)
    if left:
        raise XtcError(
            "values for fields that are not there",
            expected=[one.name for one in names.fields],
            found=sorted(left),
        )
    return out


def _encode_text(field: Field, value: object) -> tuple[bytes, tuple[int, ...]]:
    raw = to_bytes(value) if isinstance(value, str) else value
    if not isinstance(raw, bytes):
        raise _misfit(field, "text is expected", "str or bytes", type(value).__name__)
    if b"\0" in raw:
        raise _misfit(field, "a text cannot hold NUL", "no NUL", repr(value))
    size = (len(raw) // _TEXT_STEP + 1) * _TEXT_STEP
    return raw.ljust(size, b"\0"), (size,)


def _encode_scalar(field: Field, value: object) -> bytes:
    dtype = codes.DTYPES[field.dtype]
    if isinstance(value, np.ndarray):
        if value.ndim:
            raise _misfit(field, "the rank is wrong", 0, value.ndim)
        value = value[()]
    if field.dtype in _FLOATS:
        return _encode_float(field, dtype, value)
    number = _as_integer(field, value)
    signed = dtype.kind == "i"
    try:
        return number.to_bytes(dtype.itemsize, "little", signed=signed)
    except OverflowError:
        raise _misfit(field, "the value is out of range", field.dtype.name, number) from None


def _as_integer(field: Field, value: object) -> int:
    if isinstance(value, np.bool) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return int(value)
    if not isinstance(value, int | np.integer):
        raise _misfit(field, "an integer is expected", field.dtype.name, repr(value))
    return int(value)


def _encode_float(field: Field, dtype: np.dtype[np.generic], value: object) -> bytes:
    if not isinstance(value, int | float | np.integer | np.floating | np.bool):
        raise _misfit(field, "a number is expected", field.dtype.name, repr(value))
    try:
        number = float(value)
    except OverflowError:
        raise _misfit(field, "the value is out of range", field.dtype.name, repr(value)) from None
    with np.errstate(over="ignore"):
        stored = np.array(number).astype(dtype)
    if math.isinf(stored[()]) and not math.isinf(number):
        raise _misfit(field, "the value is out of range", field.dtype.name, repr(value))
    return stored.tobytes()


def _as_array(field: Field, value: object) -> npt.NDArray[np.generic]:
    dtype = codes.DTYPES[field.dtype]
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind != dtype.kind or array.dtype.itemsize != dtype.itemsize:
            raise _misfit(field, "the dtype is wrong", dtype, array.dtype)
    elif isinstance(value, list | tuple):
        array = _from_lists(field, value, dtype)
    else:
        raise _misfit(field, "an array is expected", f"{dtype} of rank {field.rank}", type(value).__name__)
    if array.ndim != field.rank:
        raise _misfit(field, "the rank is wrong", field.rank, array.ndim)
    return np.ascontiguousarray(array, dtype=dtype)


def _from_lists(
    field: Field, value: Sequence[object], dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """Make an array of nested lists, each element checked like a scalar of the same type."""
    try:
        elements = np.array(value, dtype=object)
    except ValueError:
        raise _misfit(field, "the lists make no array", f"rank {field.rank}", repr(value)[:80]) from None
    scalar = replace(field, rank=0)
    raw = b"".join(_encode_scalar(scalar, one) for one in elements.flat)
    return np.frombuffer(raw, dtype=dtype).reshape(elements.shape)


def _misfit(field: Field, what: str, expected: object, found: object) -> XtcError:
    return XtcError(f"field {field.name!r}: {what}", expected=expected, found=found)

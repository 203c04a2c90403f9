"""JSON into XTC2: one Configure with one Names and its values, by the typing rules of the DAQ's Json2Xtc.

The input says the type of every value in `:types:`, a tree like that of the values; nothing is guessed. Field
order is that of the reference: dictionaries of enums first, then values depth first with object keys in byte
order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtc.codes import DTYPES
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId
from xtc.names import Alg, Field, Names, check_alphabet
from xtc.records import encode_dgram
from xtc.values import encode_shapes_data

JSON_NAMES_ID = 1 << 8
CONSUMED = frozenset({"alg:RO", "detName:RO", "detType:RO", "detId:RO", "doc:RO", ":types:"})
_FLOATS = (DataType.FLOAT, DataType.DOUBLE)
_MAX_DEPTH = 64
_MAX_DIGITS = 20  # of the largest UINT64, and of the smallest INT64 with its sign


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One field with its value."""

    field: Field
    value: object


def json_to_dgram(text: str, *, names_id: int = JSON_NAMES_ID, segment: int = 0) -> bytes:
    """Return the Configure dgram (time 0) that holds the JSON object `text`; raise XtcError saying which
    value is at fault.
    """
    names, values = json_to_names(text, names_id=names_id, segment=segment)
    return encode_dgram(TransitionId.Configure, 0, [names.encode(), encode_shapes_data(names, values)])


def json_to_names(
    text: str, *, names_id: int = JSON_NAMES_ID, segment: int = 0
) -> tuple[Names, list[object]]:
    """Return the Names of the JSON object `text` and the value of each field."""
    tree = _parse(text)
    missing = sorted(CONSUMED - set(tree))
    if missing:
        raise XtcError(
            "the JSON object lacks mandatory keys",
            expected=", ".join(sorted(CONSUMED)),
            found=f"no {', '.join(missing)}",
        )
    alg = _object("alg:RO", tree["alg:RO"])
    types = _object(":types:", tree[":types:"])
    enums = {
        name: _object(f":enum:.{name}", one)
        for name, one in _object(":enum:", types.get(":enum:", {})).items()
    }
    leaves = [
        *_dictionaries(enums),
        *_walk({key: tree[key] for key in set(tree) - CONSUMED}, types, enums, "", 0),
    ]
    names = Names(
        names_id=names_id,
        dettype=_text("detType:RO", tree["detType:RO"]),
        detname=_text("detName:RO", tree["detName:RO"]),
        detid=_text("detId:RO", tree["detId:RO"]),
        segment=segment,
        alg=Alg(_text("alg:RO.alg:RO", alg.get("alg:RO")), _version(alg.get("version:RO"))),
        fields=tuple(leaf.field for leaf in leaves),
    )
    check_alphabet(names)
    return names, [leaf.value for leaf in leaves]


def _parse(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(
            text,
            object_pairs_hook=_no_twice,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise XtcError(
            "this is no JSON", found=f"{error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise XtcError("the JSON is nested too deep", expected=f"at most {_MAX_DEPTH}") from None
    return _object("the JSON", tree)


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [key for key, _ in pairs]
        raise XtcError(
            "a key occurs twice in one object", found=sorted({key for key in keys if keys.count(key) > 1})
        )
    return out


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise XtcError("an integer has too many digits", expected="64 bits", found=f"{digits[:40]}...")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise XtcError("a number is too large", expected="at most that of a DOUBLE", found=digits[:40])
    return number


def _no_constant(name: str) -> float:
    raise XtcError("JSON has no such number", found=name)


def _dictionaries(enums: Mapping[str, Mapping[str, Any]]) -> Iterator[_Leaf]:
    for name in sorted(enums, key=_byte_order):
        for label in sorted(enums[name], key=_byte_order):
            number = enums[name][label]
            if isinstance(number, bool) or not isinstance(number, int):
                raise _misfit(f":enum:.{name}.{label}", "an integer", number)
            yield _Leaf(Field(f"{label}:{name}", DataType.ENUMDICT), number)


def _walk(
    value: Any, kind: Any, enums: Mapping[str, Mapping[str, Any]], path: str, depth: int
) -> Iterator[_Leaf]:
    """Yield the leaves below `value`, whose type tree is `kind`."""
    if depth > _MAX_DEPTH:
        raise XtcError("the JSON is nested too deep", expected=f"at most {_MAX_DEPTH}", found=path)
    if isinstance(value, dict):
        kinds = _object(f"the type of {path or 'the whole'}", kind)
        for key in sorted(value, key=_byte_order):
            inner = f"{path}.{key}" if path else key
            if key not in kinds:
                raise XtcError("a value has no type in :types:", found=inner)
            yield from _walk(value[key], kinds[key], enums, inner, depth + 1)
    elif isinstance(value, list) and isinstance(kind, dict):
        for index, item in enumerate(value):
            yield from _walk(item, kind, enums, f"{path}_{index}", depth + 1)
    elif isinstance(kind, list):
        yield _array(path, value, kind)
    else:
        yield _scalar(path, value, kind, enums)


def _scalar(path: str, value: Any, kind: Any, enums: Mapping[str, Mapping[str, Any]]) -> _Leaf:
    if not isinstance(kind, str):
        raise _misfit(path, "a type name in :types:", kind)
    if kind in enums:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _misfit(path, f"an integer for the enum {kind}", value)
        return _Leaf(Field(f"{path}:{kind}", DataType.ENUMVAL), value)
    dtype = _data_type(path, kind)
    if dtype == DataType.CHARSTR:
        return _Leaf(Field(path, dtype, 1), _text(path, value))
    return _Leaf(Field(path, dtype), _number(path, value, dtype))


def _array(path: str, value: Any, kind: list[Any]) -> _Leaf:
    name, dims = (kind[0], kind[1:]) if kind else ("", [])
    dtype = _data_type(path, name)
    if dtype in (DataType.CHARSTR, DataType.ENUMVAL, DataType.ENUMDICT):
        raise XtcError(
            "the type of an array is not one that readers take",
            expected="a number type",
            found=f"{path}: {name}",
        )
    if not dims or not all(isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0 for dim in dims):
        raise _misfit(path, '["TYPE", d0, d1...] in :types:', kind)
    if not isinstance(value, list) or len(value) != math.prod(dims):
        raise _misfit(path, f"a flat list of {math.prod(dims)} numbers", value)
    numbers = [_number(path, item, dtype) for item in value]
    stored = DTYPES[dtype]
    limits = None if dtype in _FLOATS else np.iinfo(np.dtype(stored.str))
    if limits is not None and any(not limits.min <= item <= limits.max for item in numbers):
        raise _misfit(path, f"{dtype.name}, {limits.min}..{limits.max}", value)
    with np.errstate(over="ignore"):
        flat = np.array(numbers, dtype=stored)
    try:
        array = flat.reshape(dims)
    except ValueError:  # no elements, and other dims beyond all arrays
        raise _misfit(path, "dims that an array can have", kind) from None
    if limits is None and not np.isfinite(array).all():
        raise _misfit(path, f"numbers in the range of {dtype.name}", value)
    return _Leaf(Field(path, dtype, len(dims)), array)


def _number(path: str, value: Any, dtype: DataType) -> int | float:
    if dtype in _FLOATS:
        if not isinstance(value, float):
            raise _misfit(path, f"a {dtype.name} with a fraction or exponent", value)
        return value
    if isinstance(value, bool) and dtype == DataType.UINT8:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _misfit(path, f"an integer for {dtype.name}", value)
    return value


def _data_type(path: str, name: Any) -> DataType:
    if not isinstance(name, str) or name not in DataType.__members__:
        expected = f"one of {', '.join(DataType.__members__)}, or an enum of :types:/:enum:"
        raise XtcError("a type name is unknown", expected=expected, found=f"{path}: {name!r}")
    return DataType[name]


def _version(value: Any) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3 or not all(type(part) is int for part in value):
        raise _misfit("alg:RO.version:RO", "[major, minor, micro]", value)
    return value[0], value[1], value[2]


def _object(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _misfit(path, "an object", value)
    return value


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _misfit(path, "a string", value)
    return value


def _misfit(path: str, expected: str, found: object) -> XtcError:
    return XtcError(
        f"{path}: the JSON value does not fit its type", expected=expected, found=repr(found)[:120]
    )


def _byte_order(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")

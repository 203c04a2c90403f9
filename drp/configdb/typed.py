"""Typed JSON: a tree of values, and beside it under `:types:` a tree of the type of each. LCLS's configuration database holds it.

Keys that end in `:RO` are not for users to change; five of them at the top say what it is a configuration of. A type is that of xtc2 (`UINT32`), an
enum of `:types:/:enum:`, or `["UINT8", d0, d1]` for an array, whose values are a flat list. It knows no store and no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.configdb.errors import ConfigStoreError
from xtc import XtcError
from xtc.codes import DTYPES
from xtc.from_json import json_to_names
from xtc.kinds import DataType

TYPES, ENUMS, READ_ONLY = ":types:", ":enum:", ":RO"
REFERENCE = "_cfgTypeRef"
HEADERS = ("detType:RO", "detName:RO", "detId:RO", "doc:RO", "alg:RO")
MAX_BYTES = 16 << 20
MAX_LIST = 4096
_ALG_TYPES = {"alg:RO": "CHARSTR", "doc:RO": "CHARSTR", "version:RO": ["INT32", 3]}
_FLOATS = ("FLOAT", "DOUBLE")
_NUMBERS = {
    kind.name: np.dtype(one.str)
    for kind, one in DTYPES.items()
    if kind not in (DataType.CHARSTR, DataType.ENUMVAL, DataType.ENUMDICT)
}
_NAMES_OF = {dtype: name for name, dtype in _NUMBERS.items()}


Value = int | float | str | NDArray[Any] | Sequence[Any]


class TypedConfig:
    """A configuration that is being built, with the calls of LCLS's `cdict`.

    Names are paths with dots: `set("expert.group0.rate", 3, "UINT32")`; a number in a path is an index into a list of objects.
    """

    def __init__(self, content: Mapping[str, Any] | None = None) -> None:
        """Begin with nothing, or with the typed JSON `content`, of which a copy is taken. Raises ConfigStoreError where that is none."""
        self._values: dict[str, Any] = {}
        self._types: dict[str, Any] = {}
        if content is None:
            self.setInfo("", "", detId="", doc="")
            self.setAlg("config", [0, 0, 0])
            return
        check_typed(content)
        self._values = {key: deepcopy(value) for key, value in content.items() if key != TYPES}
        self._types = deepcopy(content[TYPES])

    def set(self, name: str, value: Value, type: str = "INT32", override: bool = False) -> None:
        """Set one value: a number, a text, or an array (numpy's dtype is its type; a list of numbers has type `type`).

        What has a type keeps it, unless `override`. Raises ConfigStoreError for a value that does not fit its type.
        """
        path = _split(name)
        values, types = self._values, self._types
        for part, following in zip(path, [*path[1:], ""], strict=True):
            if following == "":
                break
            values, types = _step(values, types, part, following, name)
        last = path[-1]
        if isinstance(last, int):
            raise ConfigStoreError("an index is not the name of a value", place=name)
        new, kind = self._typed(name, value, type)
        old = types.get(last)
        if old is not None and old != kind and not override:
            if (
                not isinstance(old, str)
                or isinstance(kind, list)
                or (old == "CHARSTR") != (kind == "CHARSTR")
            ):
                raise ConfigStoreError(
                    f"has type {old}, not {kind}", place=name, hint="Give override=True to change it."
                )
            new, kind = self._typed(name, value, old)
        values[last], types[last] = new, kind

    def define_enum(self, name: str, values: Mapping[str, int]) -> None:
        """Define an enum, to be the type of values: label to number."""
        if not values or not all(
            isinstance(label, str) and type(number) is int for label, number in values.items()
        ):
            raise ConfigStoreError("an enum has labels and whole numbers", place=name)
        self._types.setdefault(ENUMS, {})[name] = dict(values)

    def setInfo(
        self,
        detType: str | None = None,
        detName: str | None = None,
        detSegm: int | None = None,
        detId: str | None = None,
        doc: str | None = None,
    ) -> None:
        """Say what it is a configuration of; None leaves what is there."""
        name = detName if detName is None or detSegm is None else f"{detName}_{detSegm}"
        for key, text in zip(HEADERS, (detType, name, detId, doc), strict=False):
            if text is not None:
                self._values[key] = text
                self._types[key] = "CHARSTR"

    def setAlg(self, alg: str, version: Sequence[int] = (0, 0, 0), doc: str = "") -> None:
        """Say what alg it is, and of which version."""
        self._values["alg:RO"] = {"alg:RO": alg, "doc:RO": doc, "version:RO": [int(part) for part in version]}
        self._types["alg:RO"] = deepcopy(_ALG_TYPES)

    def get(self, name: str) -> Any:
        """Return one value: numbers and texts as they are, an array with its shape and dtype. None where there is none."""
        found: Any = self._values
        kind: Any = self._types
        for part in _split(name):
            try:
                found = found[part]
                kind = kind if isinstance(part, int) else kind[part]
            except (KeyError, IndexError, TypeError):
                return None
        if isinstance(kind, list):
            return np.array(found, _NUMBERS[kind[0]]).reshape(kind[1:])
        return deepcopy(found)

    def typed_json(self) -> dict[str, Any]:
        """Return the whole as typed JSON. Raises ConfigStoreError where it is none."""
        content = {**deepcopy(self._values), TYPES: deepcopy(self._types)}
        check_typed(content)
        return content

    def _typed(self, name: str, value: Value, kind: str) -> tuple[Any, Any]:
        """Return a value as JSON has it, and its type."""
        if isinstance(value, str):
            return value, "CHARSTR"
        enum = self._types.get(ENUMS, {}).get(kind)
        if isinstance(value, Sequence):
            value = _array(name, value, kind)
        if isinstance(value, np.ndarray):
            if value.dtype not in _NAMES_OF:
                raise ConfigStoreError(f"an array of {value.dtype} has no type of xtc2", place=name)
            return value.ravel().tolist(), [_NAMES_OF[value.dtype], *value.shape]
        if enum is not None:
            if int(value) not in enum.values():
                raise ConfigStoreError(
                    f"{value} is no value of the enum {kind}", place=name, hint=f"It has {enum}."
                )
            return int(value), kind
        return _number(name, value, kind), kind


def check_typed(content: object, place: str = "") -> None:
    """Raise ConfigStoreError where `content` is no typed JSON that can stand in a Configure; it says which value is at fault.

    A detector's name may be empty: whoever puts it into a Configure knows whose it is.
    """
    if isinstance(content, dict) and content.get("detName:RO") == "":
        content = {**content, "detName:RO": "unnamed"}
    try:
        text = json.dumps(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigStoreError(f"is no JSON: {error}", place=place) from None
    if len(text) > MAX_BYTES:
        raise ConfigStoreError(f"is larger than {MAX_BYTES} bytes", place=place)
    try:
        json_to_names(text)
    except XtcError as error:
        raise ConfigStoreError(f"is no typed JSON: {error}", place=place) from None


def normalise(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed JSON in which every FLOAT and DOUBLE is a float: others write 1 for 1.0."""
    types = content.get(TYPES, {})
    return {
        key: value if key == TYPES else _floats(value, _kind(types, key)) for key, value in content.items()
    }


def merge(content: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return `reference` with what `content` has in its place, types and enums included; `_cfgTypeRef` itself is left out.

    Raises ConfigStoreError where the two are of different versions.
    """
    ours, theirs = (one.get("alg:RO", {}).get("version:RO") for one in (content, reference))
    if ours != theirs:
        raise ConfigStoreError(f"its alg has version {ours}, that of the configuration it refers to {theirs}")
    out = _merged(reference, content)
    for tree in (out, out[TYPES]):
        tree.pop(REFERENCE, None)
    return out


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = deepcopy(dict(base))
    for key, value in over.items():
        old = out.get(key)
        out[key] = (
            _merged(old, value)
            if isinstance(value, Mapping) and isinstance(old, Mapping)
            else deepcopy(value)
        )
    return out


def _floats(value: Any, kind: Any) -> Any:
    if isinstance(value, dict):
        return {key: _floats(item, _kind(kind, key)) for key, item in value.items()}
    if isinstance(value, list):
        inner = kind[0] if isinstance(kind, list) and kind else kind
        return [_floats(item, inner) for item in value]
    return float(value) if kind in _FLOATS and type(value) is int else value


def _kind(types: Any, key: str) -> Any:
    return types.get(key) if isinstance(types, Mapping) else None


def _split(name: str) -> list[str | int]:
    parts: list[str | int] = [int(part) if part.isdecimal() else part for part in name.split(".")]
    if not all(part != "" for part in parts) or isinstance(parts[0], int):
        raise ConfigStoreError(f"{name!r} is no path of names")
    return parts


def _step(values: Any, types: Any, part: str | int, following: str | int, name: str) -> tuple[Any, Any]:
    """Go one name down in both trees, making what is not there."""
    empty: Any = [] if isinstance(following, int) else {}
    if isinstance(part, int):
        if part > min(len(values), MAX_LIST):
            raise ConfigStoreError(f"has no element {part} yet: the next is {len(values)}", place=name)
        if part == len(values):
            values.append(empty)
        inner = values[part]
    else:
        inner = values.setdefault(part, empty)
        types = types.setdefault(part, {})
    if type(inner) is not type(empty) or not isinstance(types, dict):
        raise ConfigStoreError("goes through what is a value", place=name)
    return inner, types


def _array(name: str, value: Sequence[Any], kind: str) -> NDArray[Any]:
    if kind not in _NUMBERS:
        raise ConfigStoreError(f"a list cannot be of type {kind}", place=name)
    try:
        return np.array(value, _NUMBERS[kind])
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigStoreError(f"does not fit {kind}: {error}", place=name) from None


def _number(name: str, value: Any, kind: str) -> int | float:
    if kind not in _NUMBERS:
        raise ConfigStoreError(f"a number cannot be of type {kind}", place=name)
    if kind in _FLOATS:
        return float(value)
    limits = np.iinfo(_NUMBERS[kind])
    if int(value) != value or not limits.min <= value <= limits.max:
        raise ConfigStoreError(f"{value} does not fit {kind}, {limits.min}..{limits.max}", place=name)
    return int(value)

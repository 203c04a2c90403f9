"""The questions that LCLS's clients put to a collection: a JSON object of names and values or comparisons, as MongoDB has them.

Only the comparisons below are understood; anything else is refused, nothing is evaluated, and size and depth are bounded.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from calib.errors import ServiceError

MAX_QUERY_CHARS = 8192
MAX_CONDITIONS = 32
MAX_CHOICES = 256
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_OBJECT_ID = re.compile(r"ObjectId\(['\"]?([0-9a-fA-F]{24})['\"]?\)\Z")
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}
_OTHERS = ("$eq", "$ne", "$in", "$exists")

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Condition:
    """What one field of a document must satisfy."""

    field: str
    comparison: str
    value: Plain | tuple[Plain, ...]

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Say whether a document satisfies it; values of different kinds are never in order, as in MongoDB."""
        found = document.get(self.field)
        if self.comparison in _ORDERS:
            return _comparable(found, self.value) and _ORDERS[self.comparison](found, self.value)
        if self.comparison == "$exists":
            return (self.field in document) == bool(self.value)
        if isinstance(self.value, tuple):
            return any(_same(found, one) for one in self.value)
        return _same(found, self.value) == (self.comparison == "$eq")


def parse_query(text: str) -> list[Condition]:
    """Return the conditions of a query string, all of which must hold. Raises ServiceError."""
    if len(text) > MAX_QUERY_CHARS:
        raise ServiceError(f"the query is longer than {MAX_QUERY_CHARS} characters")
    try:
        query = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ServiceError(
            "the query is no JSON", hint='Such as {"ctype": "pedestals", "run": {"$lte": 7}}'
        ) from None
    return conditions(query)


def conditions(query: object) -> list[Condition]:
    """Return the conditions of a query that has been read already. Raises ServiceError."""
    if not isinstance(query, dict):
        raise ServiceError("the query is no JSON object")
    found = [one for field, value in query.items() for one in _field(field, value)]
    if len(found) > MAX_CONDITIONS:
        raise ServiceError(f"the query has more than {MAX_CONDITIONS} conditions")
    return found


def _field(field: str, value: object) -> list[Condition]:
    if not _NAME.match(field):
        raise ServiceError(f"{field[:80]!r} is no name of a field that can be asked for")
    if not isinstance(value, dict):
        return [Condition(field, "$eq", _plain(field, value))]
    return [_comparison(field, name, one) for name, one in value.items()]


def _comparison(field: str, name: str, value: object) -> Condition:
    if name not in _ORDERS and name not in _OTHERS:
        known = ", ".join((*_ORDERS, *_OTHERS))
        raise ServiceError(f"{field}: {name[:80]!r} is not understood", hint=f"Understood are {known}.")
    if name != "$in":
        return Condition(field, name, _plain(field, value))
    if not isinstance(value, list) or len(value) > MAX_CHOICES:
        raise ServiceError(f"{field}: $in takes a list of at most {MAX_CHOICES} values")
    return Condition(field, name, tuple(_plain(field, one) for one in value))


def _plain(field: str, value: object) -> Plain:
    if isinstance(value, str):
        given = _OBJECT_ID.match(value)
        return given[1].lower() if given else value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ServiceError(f"{field}: a value is text, a number, true, false or null")


def _comparable(left: object, right: object) -> bool:
    numbers = (int, float)
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, numbers) and isinstance(right, numbers):
        return True
    return isinstance(left, str) and isinstance(right, str)


def _same(left: object, right: object) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return left == right


def _no_constant(name: str) -> object:
    raise ValueError(name)

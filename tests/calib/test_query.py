"""The queries that a service understands, and those it refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib import ServiceError
from calib.service.query import MAX_QUERY_CHARS, conditions, parse_query

DOCUMENT = {"_id": "6b01b4200100000000000001", "ctype": "pedestals", "run": 7, "run_end": "end", "flag": True}


def holds(query: object) -> bool:
    return all(one.holds(DOCUMENT) for one in parse_query(json.dumps(query)))


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"ctype": "pedestals"},
        {"ctype": "pedestals", "run": {"$lte": 7}},
        {"run": {"$gt": 6, "$lt": 8}},
        {"run": 7.0},
        {"run": {"$in": [1, 7]}},
        {"run": {"$ne": 8}},
        {"nothing": None},
        {"nothing": {"$exists": False}},
        {"ctype": {"$exists": True}},
        {"_id": "ObjectId(6b01b4200100000000000001)"},
        {"_id": "ObjectId('6B01B4200100000000000001')"},
        {"_id": "6b01b4200100000000000001"},
    ],
)
def test_what_fits_is_found(query: object) -> None:
    assert holds(query)


@pytest.mark.parametrize(
    "query",
    [
        {"ctype": "pixel_rms"},
        {"run": {"$lte": 6}},
        {"run": "7"},
        {"run": {"$gt": "6"}},
        {"run_end": {"$gte": 3}},
        {"nothing": {"$lt": 3}},
        {"flag": 1},
        {"flag": {"$gt": 0}},
        {"run": {"$in": []}},
    ],
)
def test_what_does_not_fit_is_not_found(query: object) -> None:
    assert not holds(query)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "[1]",
        "7",
        '{"run": NaN}',
        '{"run": ' + "9" * 5000 + "}",
        '{"$where": "sleep(1)"}',
        '{"$or": [{"run": 1}]}',
        '{"run": {"$where": "1"}}',
        '{"run": {"$regex": "(a+)+$"}}',
        '{"run": {"$not": {"$gt": 3}}}',
        '{"run": {"$in": 7}}',
        '{"run": {"$in": [[1]]}}',
        '{"run": [1]}',
        '{"a.b": 1}',
        '{"run": {"$gt": {"$gt": 1}}}',
        "[" * 8000,
        '{"run": ' * 1000,
        " " * (MAX_QUERY_CHARS + 1),
        json.dumps({f"field{number}": 1 for number in range(100)}),
        json.dumps({"run": {"$in": list(range(1000))}}),
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ServiceError):
        parse_query(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$in", "$lte", "run", "ctype", "$where"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_query_is_answered_or_refused(query: object) -> None:
    try:
        found = conditions(query)
    except ServiceError:
        return
    assert all(isinstance(one.holds(DOCUMENT), bool) for one in found)

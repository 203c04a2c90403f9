"""What a service says of its constants, read from any JSON at all."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from calib import ServiceError
from calib.service.remote import RemoteDetector, read_detectors, read_documents

GOOD: dict[str, Any] = {
    "_id": "6450604c3a7ab9e8b9dc63b4",
    "experiment": "exp",
    "run": 5,
    "run_end": "end",
    "ctype": "pedestals",
    "version": "V1",
    "comment": "",
    "id_data": "6450604a3a7ab9e8b9dc63b2",
    "data_type": "ndarray",
    "data_dtype": "float32",
    "data_shape": "(3, 2, 4, 5)",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
SHAPES = st.text(alphabet="()[], 0123456789-_eE.", max_size=30)
CHANGED = st.builds(
    lambda change, shape: GOOD | change | ({} if shape is None else {"data_shape": shape}),
    st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=3),
    st.none() | SHAPES,
)


@given(st.lists(CHANGED | JSON, max_size=4) | JSON)
def test_any_documents_are_read_or_left_out(documents: object) -> None:
    try:
        found = read_documents(documents, "cdb_exp", RemoteDetector("jungfrau_000001", ("a", "b")), "exp")
    except ServiceError:
        return
    for one in found:
        assert len(one.data_id) == 24
        assert one.run >= 0
        assert one.size_bytes is None or 0 < one.size_bytes <= 1 << 29


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["long", "short", "serials"]), JSON, max_size=3) | JSON, max_size=4
    )
    | JSON
)
def test_any_names_are_read_or_left_out(documents: object) -> None:
    try:
        found = read_detectors(documents, "jungfrau")
    except ServiceError:
        return
    assert all(isinstance(serial, str) for one in found for serial in one.serials)


def test_serials_are_given_or_in_the_long_name() -> None:
    names = [
        {"long": "jungfrau_a-1_b-2", "short": "jungfrau_000001"},
        {"long": "x", "short": "s", "serials": ["c_3"]},
    ]
    assert [one.serials for one in read_detectors(names, "jungfrau")] == [("a-1", "b-2"), ("c_3",)]
    assert read_detectors([{"long": "other_a", "short": "other_000001"}], "jungfrau") == []

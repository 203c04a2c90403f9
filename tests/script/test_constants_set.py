"""Which constants a run calls for, and what a script gets of them: by panel serial, with what is wrong as a text; the source is the test's."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from calib import Constant, ConstantsMissing, DetectorId, StoreError
from calib.broadcast import pack, unpack
from drp.core.errors import ConstantsError
from drp.script.constants import OfflineConstants, current
from drp.script.constants_set import TOLD, Lookup, as_set, check_required, find, from_set, in_memory, look_up
from drp.script.errors import CalibrationError
from xtc import Alg, Config, DataType, Dgram, Field, Names, TransitionId, encode_dgram, encode_shapes_data

SHAPE = (4, 6)


def raw(index: int, serial: str, segment: int, det: str = "cam", rank: int = 2) -> Names:
    fields = (Field("raw", DataType.UINT16, rank),)
    return Names(1 << 8 | index, "testcam", det, serial, segment, Alg("raw", (0, 1, 0)), fields)


CONFIG = Names(
    1 << 8 | 50,
    "testcam",
    "cam",
    "b",
    1,
    Alg("config", (2, 0, 0)),
    (Field("user.gain", DataType.INT32), Field("user.bias", DataType.INT32)),
)
NAMES = (raw(1, "b", 3), raw(2, "a", 1), raw(3, "x", 0, "digitizer", 1), CONFIG)


def dgrams(gain: int | None = None) -> tuple[Config, Dgram, bytes]:
    """A Configure, and a BeginRun that sets the gain anew."""
    data = encode_dgram(
        TransitionId.Configure, 10, [*(one.encode() for one in NAMES), encode_shapes_data(CONFIG, [3, 5])]
    )
    config = Config(Dgram(data))
    parts = [] if gain is None else [encode_shapes_data(CONFIG, [gain, 5])]
    return config, Dgram(data, config=config), encode_dgram(TransitionId.BeginRun, 20, parts)


def lookup(gain: int | None = None) -> Lookup:
    return look_up(*dgrams(gain), "tst001", 7)


class Shelf:
    """A source whose pedestals are what the test says, for panels a and b."""

    def __init__(self, pedestal: float = 2.0, *, url: str = "shelf", without: Collection[str] = ()) -> None:
        self.pedestal, self.url, self.without = pedestal, url, without
        self.asked: list[tuple[DetectorId, str | None, int]] = []
        self.error: Exception | None = None
        self.closed = 0

    def find(
        self, detector: DetectorId, experiment: str | None, run: int, *, ctypes: Collection[str] | None = None
    ) -> dict[str, Constant]:
        self.asked.append((detector, experiment, run))
        if self.error is not None:
            raise self.error
        value = np.full((len(detector.serials), *SHAPE), self.pedestal, np.float32)
        found = {
            "pedestals": Constant.make("pedestals", value, detector.serials, version="v3", run=5),
            "pixel_gain": Constant.make("pixel_gain", np.ones_like(value), detector.serials),
            "geometry": Constant.make("geometry", "# where it is"),
        }
        return {
            name: one for name, one in found.items() if name not in self.without and name in (ctypes or found)
        }

    def close(self) -> None:
        self.closed += 1


def test_only_panels_with_images_are_looked_for_by_serial_in_segment_order() -> None:
    shelf = Shelf()
    find(shelf, lookup())
    assert shelf.asked == [(DetectorId("cam", "testcam", ("a", "b")), "tst001", 7)]


def test_configuration_is_that_in_force_at_begin_run() -> None:
    assert dict(lookup().setups["cam"].panels[0].config) == {"user.gain": 3, "user.bias": 5}
    assert dict(lookup(gain=9).setups["cam"].panels[0].config) == {"user.gain": 9, "user.bias": 5}


def test_a_run_without_a_number_asks_for_the_latest() -> None:
    assert look_up(*dgrams(), None, None).run == 0


def test_the_digest_is_that_of_the_values_and_the_key_also_of_the_configuration() -> None:
    first = find(Shelf(), lookup())
    elsewhere = find(Shelf(url="another"), lookup())
    assert first.digest == elsewhere.digest and first.key == elsewhere.key
    assert find(Shelf(2.5), lookup()).digest != first.digest
    other_gain = find(Shelf(), lookup(gain=9))
    assert other_gain.digest == first.digest
    assert other_gain.key != first.key


def test_what_workers_read_out_of_a_set_is_what_offline_has_in_memory() -> None:
    found = find(Shelf(), lookup())
    plan = pack(*as_set(found))
    buffer = bytearray(plan.size_bytes)
    plan.write(buffer)
    shared, own = from_set(unpack(buffer), lookup()), in_memory(found)
    assert shared.keys() == own.keys() == {"cam"}
    for one in (shared["cam"], own["cam"]):
        assert one.trouble == ""
        assert one.constants["geometry"] == "# where it is"
        assert one.records["pedestals"]["version"] == "v3" and one.records["pedestals"]["run"] == 5
        arrays = [*one.derived.values(), *(v for v in one.constants.values() if isinstance(v, np.ndarray))]
        assert not any(array.flags.writeable for array in arrays)
    assert shared["cam"].derived.keys() == own["cam"].derived.keys()
    for name, array in own["cam"].derived.items():
        assert np.array_equal(shared["cam"].derived[name], array)
    assert shared["cam"].records == own["cam"].records


@pytest.mark.parametrize("without", [("pedestals",), ("pedestals", "pixel_gain", "geometry")])
def test_what_is_missing_is_a_text_and_an_error_only_where_required(without: tuple[str, ...]) -> None:
    found = find(Shelf(without=without), lookup())
    one = in_memory(found)["cam"]
    assert "cam" in one.trouble and one.derived == {}
    with pytest.raises(ConstantsError, match=r"--require-constants.*cam"):
        check_required({"cam": one.trouble}, found.source)


def test_a_panel_that_nobody_knows_is_a_text_and_another_error_of_the_source_is_an_error() -> None:
    shelf = Shelf()
    shelf.error = ConstantsMissing("pedestals of panel 'b' are missing", where="cam")
    assert "panel 'b'" in in_memory(find(shelf, lookup()))["cam"].trouble
    shelf.error = StoreError("locked")
    with pytest.raises(StoreError):
        find(shelf, lookup())


def test_detectors_that_a_set_has_not_are_left_out() -> None:
    plan = pack(*as_set(find(Shelf(), lookup())))
    buffer = bytearray(plan.size_bytes)
    plan.write(buffer)
    assert from_set(unpack(buffer), Lookup({}, None, 0)) == {}


class Stage:
    """As much of a session and its setup as constants need."""

    def __init__(self, constants: OfflineConstants | None) -> None:
        self.constants = constants
        self.config, self.dgram, self.begin_run = dgrams()

    def begin(self) -> None:
        assert self.constants is not None
        self.constants.begin_run(self, memoryview(self.begin_run), "tst001", 7, 20)  # type: ignore[arg-type]


def of(stage: Stage) -> Any:
    session: Any = stage
    return current(session)


def test_without_a_source_the_error_says_what_to_do() -> None:
    with pytest.raises(CalibrationError, match=r"--calib URL, or set DRP_CALIB"):
        of(Stage(None))


def test_offline_a_source_is_asked_only_when_somebody_calibrates_and_once_for_a_run() -> None:
    shelf = Shelf()
    stage = Stage(OfflineConstants(lambda: shelf))
    with pytest.raises(CalibrationError, match="in a run only"):
        of(stage)
    stage.begin()
    assert shelf.asked == []
    assert of(stage)["cam"].records["pedestals"]["version"] == "v3"
    assert of(stage)["cam"] is of(stage)["cam"]
    assert len(shelf.asked) == shelf.closed == 1
    stage.begin()
    assert of(stage) and len(shelf.asked) == 2


def test_offline_what_the_user_says_of_the_run_goes_before_what_the_file_says() -> None:
    shelf = Shelf()
    stage = Stage(OfflineConstants(lambda: shelf, eager=True, experiment="mine", run=3))
    stage.begin()
    assert shelf.asked[0][1:] == ("mine", 3)


def test_offline_a_source_that_fails_is_an_error_of_the_script() -> None:
    shelf = Shelf()
    shelf.error = StoreError("the database is locked", where="store.db")
    stage = Stage(OfflineConstants(lambda: shelf, eager=True))
    with pytest.raises(CalibrationError, match=r"store\.db: the database is locked"):
        stage.begin()
    assert shelf.closed == 1


def test_offline_required_constants_fail_at_begin_run() -> None:
    stage = Stage(OfflineConstants(lambda: Shelf(without=("pedestals",)), required=True))
    with pytest.raises(ConstantsError, match="pedestals"):
        stage.begin()


def test_what_is_recorded_names_every_constant() -> None:
    record = find(Shelf(), lookup()).record()
    assert record.keys() == {"digest", "source", "constants"}
    told = json.loads(record["constants"])
    assert all(set(one) == set(TOLD) for by_ctype in told.values() for one in by_ctype.values())
    assert {"id", "digest", "put_digest"} < set(TOLD)

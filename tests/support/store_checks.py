"""What every store must do, whatever database it is kept in: each check is called with a way to open the same empty store."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calib import Constant, ConstantsMissing, DetectorId, StoreError
from calib.store import Store

Opener = Callable[[], Store]
FOUR = DetectorId("cam", "jungfrau", ("w", "x", "y", "z"))
PIXELS = np.arange(3 * 4 * 2 * 5, dtype=np.float32).reshape(3, 4, 2, 5)


def pedestals(
    add: float = 0, *, run: int = 1, run_end: int | None = None, experiment: str = "exp"
) -> Constant:
    return Constant.make(
        "pedestals", PIXELS + np.float32(add), FOUR.serials, run=run, run_end=run_end, experiment=experiment
    )


def what_is_put_is_found_bit_for_bit(opened: Opener) -> None:
    constants = [
        replace(pedestals(), version="V1", comment="dunkel \u2603", created=1234.5),
        Constant.make(
            "pixel_status", np.full((3, 4, 2, 5), 2**63, np.uint64), FOUR.serials, experiment="exp"
        ),
        Constant.make("geometry", "IP 0\n\u00e9", experiment="exp"),
    ]
    with opened() as store:
        store.put(FOUR, constants)
    with opened() as store:
        found = store.find(FOUR, "exp", 5)
    assert set(found) == {"pedestals", "pixel_status", "geometry"}
    for put in constants:
        got = found[put.ctype]
        assert np.array_equal(got.value, put.value)
        assert (got.digest, got.serials, got.experiment) == (put.digest, put.serials, "exp")
    assert found["pedestals"].value.dtype == np.float32  # type: ignore[union-attr]
    assert not found["pedestals"].value.flags.writeable  # type: ignore[union-attr]
    assert found["pedestals"].created == 1234.5
    assert (found["pedestals"].version, found["pedestals"].comment) == ("V1", "dunkel \u2603")


def panels_are_found_by_serial(opened: Opener) -> None:
    with opened() as store:
        store.put(FOUR, [pedestals()])
        part = store.find(DetectorId("elsewhere", "jungfrau", ("z", "x")), "exp", 5)["pedestals"]
        assert np.array_equal(part.value, PIXELS[:, [3, 1]])
        with pytest.raises(ConstantsMissing, match="'new'"):
            store.find(DetectorId("cam", "jungfrau", ("x", "new")), "exp", 5)
        assert store.find(DetectorId("cam", "epix10ka", ("x",)), "exp", 5) == {}


def nothing_is_replaced_and_the_latest_valid_wins(opened: Opener) -> None:
    with opened() as store:
        store.put(FOUR, [pedestals(1, run=1), pedestals(2, run=10, run_end=20), pedestals(3, run=1)])
        for run, add in ((1, 3), (10, 2), (20, 2), (21, 3), (0, 3)):
            assert store.find(FOUR, "exp", run)["pedestals"].value.flat[0] == add  # type: ignore[union-attr]
        assert [record.run for record in store.history(name="cam", ctype="pedestals")] == [1, 10, 1]


def types_that_an_experiment_lacks_come_from_the_detector(opened: Opener) -> None:
    with opened() as store:
        rms = Constant.make("pixel_rms", PIXELS, FOUR.serials, experiment="before", run=900)
        store.put(FOUR, [rms, pedestals(7, experiment=""), pedestals(8)])
        found = store.find(FOUR, "exp", 5)
        assert found["pixel_rms"].experiment == "before"
        assert found["pedestals"].value.flat[0] == 8  # type: ignore[union-attr]
        assert store.find(FOUR, None, 5)["pedestals"].value.flat[0] == 8  # type: ignore[union-attr]


def equal_payloads_are_kept_once_and_go_with_the_last(opened: Opener) -> None:
    with opened() as store:
        first, second = store.put(FOUR, [pedestals(run=1), pedestals(run=2)])
        assert first.digest == second.digest
        store.remove([first.id])
        assert np.array_equal(store.get(second.id).value, PIXELS)
        store.remove([second.id])
        assert store.history() == []
        with pytest.raises(StoreError, match="id"):
            store.get(second.id)
        (third,) = store.put(FOUR, [pedestals()])
        assert third.id > second.id


def removing_is_all_or_nothing(opened: Opener) -> None:
    with opened() as store:
        (kept,) = store.put(FOUR, [pedestals()])
        with pytest.raises(StoreError, match="999999"):
            store.remove([kept.id, 999999])
        assert store.get(kept.id).digest == kept.digest


def a_put_is_all_or_nothing(opened: Opener) -> None:
    with opened() as store:
        wrong = replace(pedestals(), experiment="not/a/name")
        with pytest.raises(StoreError, match="not/a/name"):
            store.put(FOUR, [pedestals(), wrong])
        assert store.history() == []
        assert store.detectors() == []


def detectors_are_numbered_by_type(opened: Opener) -> None:
    text = Constant.make("geometry", "x")
    with opened() as store:
        for serials in (("a",), ("b",), ("a", "b"), ("b",)):
            store.put(DetectorId("cam", "jungfrau", serials), [text])
        store.put(DetectorId("quad", "epix10ka", ("a",)), [text])
        assert [one.short_name for one in store.detectors()] == [
            "jungfrau_000001",
            "jungfrau_000002",
            "jungfrau_000003",
            "epix10ka_000001",
        ]


def a_name_of_several_detectors_is_refused(opened: Opener) -> None:
    text = Constant.make("geometry", "x")
    with opened() as store:
        store.put(DetectorId("cam", "jungfrau", ("a",)), [text])
        assert store.find(DetectorId("cam", ""), None, 1)["geometry"].value == "x"
        store.put(DetectorId("cam", "jungfrau", ("b",)), [text])
        with pytest.raises(ConstantsMissing) as failure:
            store.find(DetectorId("cam", ""), None, 1)
        assert "jungfrau_000001" in str(failure.value)
        assert store.find(DetectorId("jungfrau_000002", ""), None, 1)["geometry"].value == "x"


def a_payload_comes_in_parts_too(opened: Opener) -> None:
    large = np.random.default_rng(1).random((5, 1, 1024, 1024), np.float32)
    one = DetectorId("cam", "jungfrau", ("a",))
    with opened() as store:
        (record,) = store.put(one, [Constant.make("pedestals", large, one.serials)])
        parts = list(store.payload(record.id))
        assert len(parts) > 1
        assert b"".join(parts) == large.tobytes()


def many_threads_read_and_write_at_once(opened: Opener) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with opened() as store:
                for run in range(1, 6):
                    store.put(FOUR, [pedestals(number, run=run, experiment=f"exp{number}")])
                    got = store.find(FOUR, f"exp{number}", run)["pedestals"].value
                    assert np.array_equal(got, PIXELS + np.float32(number))
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with opened() as store:
        assert len(store.history()) == 20
        assert len(store.detectors()) == 1


def what_cannot_be_kept_is_refused(opened: Opener) -> None:
    refused = [
        (DetectorId("cam", "jungfrau"), pedestals(), "serial"),
        (DetectorId("cam", "jungfrau", ("w", "x")), pedestals(), "panels"),
        (DetectorId("../cam", "jungfrau", FOUR.serials), pedestals(), "name"),
        (FOUR, replace(pedestals(), experiment="x" * 65), "experiment"),
        (FOUR, replace(pedestals(), comment="x" * 5000), "too long"),
        (FOUR, replace(pedestals(), comment="a\0b"), "NUL"),
        (FOUR, replace(pedestals(), experiment="detnames"), "experiment"),
        (FOUR, replace(pedestals(), experiment="jungfrau_000001"), "experiment"),
        (FOUR, replace(pedestals(), created=float("nan")), "time"),
        (FOUR, replace(pedestals(), created=1e20), "time"),
        (FOUR, replace(pedestals(), run=2**40), "run"),
        (DetectorId("cam", "jungfrau", ("a\0b",)), Constant.make("geometry", "x"), "serial"),
    ]
    with opened() as store:
        for detector, constant, reason in refused:
            with pytest.raises(StoreError, match=re.escape(reason)):
                store.put(detector, [constant])
        assert store.history() == []


CHECKS: list[Callable[[Opener], None]] = [
    what_is_put_is_found_bit_for_bit,
    panels_are_found_by_serial,
    nothing_is_replaced_and_the_latest_valid_wins,
    types_that_an_experiment_lacks_come_from_the_detector,
    equal_payloads_are_kept_once_and_go_with_the_last,
    removing_is_all_or_nothing,
    a_put_is_all_or_nothing,
    detectors_are_numbered_by_type,
    a_name_of_several_detectors_is_refused,
    a_payload_comes_in_parts_too,
    many_threads_read_and_write_at_once,
    what_cannot_be_kept_is_refused,
]

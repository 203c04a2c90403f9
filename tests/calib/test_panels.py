"""Which constants are whose: run ranges, and panels by serial number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib import Constant, ConstantsMisshapen, ConstantsMissing, DetectorId, detector_in, for_panels
from calib.panels import choose, latest_valid
from xtc import Config, Reader

FOUR = ("w", "x", "y", "z")
PIXELS = np.arange(3 * 4 * 2 * 5, dtype=np.float32).reshape(3, 4, 2, 5)


@dataclass(frozen=True)
class Put:
    """A constant as the rule sees it."""

    run: int
    run_end: int | None = None
    experiment: str = "exp"
    created: float = 1.0
    ctype: str = "pedestals"
    panels: tuple[str, ...] = FOUR


def at(run: int, *puts: Put, experiment: str | None = "exp") -> Put | None:
    return latest_valid(puts, experiment, run).get("pedestals")


def test_the_range_that_begins_last_wins() -> None:
    old, new = Put(1), Put(10)
    assert at(9, old, new) is old
    assert at(10, new, old) is new
    assert at(500, old, new) is new


def test_of_two_that_begin_together_the_narrower_wins_and_then_the_newer() -> None:
    wide, narrow, again = Put(5, None, created=9.0), Put(5, 7), Put(5, None, created=10.0)
    assert at(6, wide, narrow, again) is narrow
    assert at(8, wide, narrow, again) is again


def test_of_two_put_in_the_same_moment_the_later_put_wins() -> None:
    first, second = Put(5), Put(5)
    assert at(6, first, second) is second


def test_a_range_holds_its_last_run_and_no_more() -> None:
    old, ranged = Put(1), Put(10, 20)
    assert [at(run, old, ranged) for run in (9, 10, 20, 21)] == [old, ranged, ranged, old]


def test_the_experiment_goes_before_the_detector_however_old_it_is() -> None:
    own, other = Put(1, created=1.0), Put(1, experiment="later", created=99.0)
    assert at(5, own, other) is own
    assert at(5, other, own, experiment="third") is other


def test_a_type_that_the_experiment_lacks_is_the_newest_of_the_detector() -> None:
    early, late = Put(300, experiment="a", created=1.0), Put(2, experiment="b", created=2.0)
    assert at(5, early, late) is late
    assert at(5, late, early, experiment=None) is late


def test_what_begins_only_later_is_used_only_as_the_detectors() -> None:
    future, other = Put(50, created=1.0), Put(1, experiment="b", created=2.0)
    assert at(5, future, other) is other
    assert at(5, future) is future


def test_run_0_uses_what_is_valid_after_all_runs() -> None:
    old, closed, newer = Put(3), Put(80, 90), Put(40)
    assert at(0, old, closed, newer) is newer
    assert at(0, old, Put(10, 9999), closed) != old


def test_run_0_uses_the_range_that_begins_last_where_all_have_ended() -> None:
    first, last = Put(3, 10, created=9.0), Put(11, 20)
    assert at(0, first, last, Put(1, experiment="b", created=99.0)) is last


def test_types_are_chosen_one_by_one_and_only_those_asked_for() -> None:
    puts = [Put(1), Put(1, ctype="pixel_rms"), Put(1, ctype="geometry")]
    assert set(latest_valid(puts, "exp", 5)) == {"pedestals", "pixel_rms", "geometry"}
    assert set(latest_valid(puts, "exp", 5, ctypes={"geometry"})) == {"geometry"}


@given(
    st.lists(
        st.builds(
            Put,
            run=st.integers(0, 30),
            run_end=st.none() | st.integers(30, 60),
            created=st.floats(0, 9),
            experiment=st.sampled_from(["exp", "other"]),
        ),
        max_size=8,
    ),
    st.integers(1, 50),
)
def test_what_is_chosen_is_valid_wherever_anything_is(puts: list[Put], run: int) -> None:
    valid = [
        put
        for put in puts
        if put.experiment == "exp" and put.run <= run and (put.run_end is None or run <= put.run_end)
    ]
    chosen = at(run, *puts)
    assert (chosen is None) == (not puts)
    if valid:
        assert chosen in valid
        assert chosen.run == max(put.run for put in valid)


def test_pixels_come_from_any_detector_that_has_the_panels_but_geometry_from_the_very_one() -> None:
    whole = [Put(5, ctype=ctype) for ctype in ("pedestals", "geometry")]
    pair = [Put(1, ctype=ctype, panels=("x", "z")) for ctype in ("pedestals", "geometry")]
    chosen = choose(whole + pair, DetectorId("det", "jungfrau", ("x", "z")), "exp", 7)
    assert chosen == {"pedestals": whole[0], "geometry": pair[1]}


def test_a_panel_that_no_constants_hold_is_named() -> None:
    with pytest.raises(ConstantsMissing, match="'new'"):
        choose([Put(1)], DetectorId("det", "jungfrau", ("x", "new")), "exp", 7)


def test_a_detector_of_other_panels_has_no_constants() -> None:
    assert choose([Put(1)], DetectorId("det", "jungfrau", ("p", "q")), "exp", 7) == {}


def test_panels_are_taken_by_serial_and_given_in_the_order_asked() -> None:
    whole = Constant.make("pedestals", PIXELS, FOUR)
    part = for_panels(whole, ("z", "x"))
    assert part.serials == ("z", "x")
    assert np.array_equal(part.value, PIXELS[:, [3, 1]])
    assert part.digest == Constant.make("pedestals", PIXELS[:, [3, 1]], ("z", "x")).digest
    assert not part.value.flags.writeable


def test_the_same_panels_in_the_same_order_are_not_copied() -> None:
    whole = Constant.make("pedestals", PIXELS, FOUR)
    assert for_panels(whole, FOUR) is whole
    assert for_panels(whole, ()) is whole


def test_a_panel_of_several_asics_keeps_them_together() -> None:
    value = np.arange(2 * 8 * 2 * 2, dtype=np.float32).reshape(2, 8, 2, 2)
    part = for_panels(Constant.make("pedestals", value, ("a", "b")), ("b", "a"))
    assert np.array_equal(part.value, value[:, [4, 5, 6, 7, 0, 1, 2, 3]])


def test_taking_a_panel_that_is_not_there_names_it() -> None:
    with pytest.raises(ConstantsMissing, match=r"pedestals of panel 'q' .* 'w', 'x'"):
        for_panels(Constant.make("pedestals", PIXELS, FOUR), ("w", "q"))


def test_asking_one_serial_twice_is_refused() -> None:
    with pytest.raises(ConstantsMisshapen, match="'w'"):
        for_panels(Constant.make("pedestals", PIXELS, FOUR), ("w", "w"))


def test_text_is_of_the_whole_detector() -> None:
    text = Constant.make("geometry", "IP 0", FOUR)
    assert for_panels(text, ("w",)) is text


def test_a_detector_is_read_from_a_configure(xtc2_data: Path) -> None:
    config = Config(next(iter(Reader(xtc2_data / "test_epix_calib.xtc2"))))
    detector = detector_in(config, "epixquad")
    assert (detector.dettype, len(detector.serials)) == ("epix10ka", 4)
    assert detector.serials[2].startswith("3926196238-0175552257-")
    with pytest.raises(ConstantsMissing, match="epixquadhw"):
        detector_in(config, "epixsquare")

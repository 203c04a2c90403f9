"""`det.raw.calib`, `det.raw.image` and their kin, on files: what they give, whose the arrays are, and what is said where constants are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import split, write_run

from calib import CalibError, Constant, DetectorId
from calib.detectors import correction_type
from calib.geometry import Geometry
from calib.store import open_store
from drp import DataSource
from drp.script.constants import offline_constants
from drp.script.errors import CalibrationError, ScriptError
from drp.script.offline import run_offline
from drp.sink.recorder import Output
from drp.source.simconstants import constants_of, detector_of, geometry_of
from drp.source.simoptions import parse
from drp.source.truth import SimTruth

KIND = "epixhr,segments=2,photons=0.3,frames=4"
EVENTS = 4


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lit run of two panels."""
    return write_run(tmp_path_factory.mktemp("lit") / "lit.xtc2", f"sim:{KIND}", EVENTS)


@pytest.fixture(scope="module")
def truth() -> SimTruth:
    return SimTruth(parse(KIND))


Put = Callable[..., str]


def the(ctype: str, truth: SimTruth) -> Any:
    """The true constant of a type."""
    return next(one.value for one in constants_of(truth) if one.ctype == ctype)


@pytest.fixture
def put(tmp_path: Path, truth: SimTruth) -> Put:
    """Put true constants of the ctypes named (all by default), some of them changed, in a store of the test's."""

    def made(*ctypes: str, **changed: Any) -> str:
        url = str(tmp_path / "calib.db")
        detector = detector_of(truth)
        constants = [one for one in constants_of(truth) if not ctypes or one.ctype in ctypes]
        constants = [one for one in constants if one.ctype not in changed]
        constants += [Constant.make(name, value, detector.serials) for name, value in changed.items()]
        with open_store(url, create=True) as store:
            store.put(detector, constants)
        return url

    return made


@pytest.fixture(autouse=True)
def no_store_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRP_CALIB", raising=False)


def events(path: Path, url: str | None, skip: Any = None, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (detector, event) of a file."""
    for run in DataSource(files=path, calib=url, skip_calib_load=skip).runs():
        det = run.Detector("epixhr", **options)
        for evt in run.events():
            yield det, evt


def by_hand(truth: SimTruth, frame: int) -> np.ndarray:
    """Return the energies of a frame, from the truth alone."""
    raw = truth.raw(frame)
    low = raw >> 15 == 1
    zero = np.where(low, truth.pedestals[1], truth.pedestals[0])
    gain = np.where(low, truth.gains[1], truth.gains[0])
    return ((raw & 0x3FFF) - zero) / gain


def test_calib_gives_energies_of_all_segments(lit: Path, put: Put, truth: SimTruth) -> None:
    for det, evt in events(lit, put()):
        found = det.raw.calib(evt)
        assert (found.dtype, found.shape) == (np.float32, truth.shape)
        assert np.allclose(found, by_hand(truth, evt.index), rtol=1e-5, atol=1e-3)


def test_the_array_is_one_buffer_unless_a_copy_is_asked_for(lit: Path, put: Put) -> None:
    seen, copies = [], []
    mine = np.empty((2, 144, 768), np.float32)
    for det, evt in events(lit, put()):
        seen.append(det.raw.calib(evt))
        copies.append(det.raw.calib(evt, copy=True))
        assert det.raw.calib(evt, out=mine) is mine
        assert np.array_equal(mine, copies[-1])
    assert all(one is seen[0] for one in seen)
    assert len({id(one) for one in copies}) == EVENTS
    assert not np.array_equal(copies[0], copies[1])


def test_an_image_leaves_the_array_that_calib_gave_alone(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put()))
    found = det.raw.calib(evt)
    found[...] = -1
    assert det.raw.image(evt).max() > 0
    assert (found == -1).all()


def test_constants_are_the_panels_own_wherever_they_sit(lit: Path, tmp_path: Path, truth: SimTruth) -> None:
    url = str(tmp_path / "calib.db")
    detector = detector_of(truth)
    turned = DetectorId("other", detector.dettype, detector.serials[::-1])
    with open_store(url, create=True) as store:
        for one in constants_of(truth):
            if not isinstance(one.value, str):
                store.put(turned, [Constant.make(one.ctype, one.value[:, ::-1], turned.serials)])
    for det, evt in events(lit, url):
        assert np.allclose(det.raw.calib(evt), by_hand(truth, evt.index), rtol=1e-5, atol=1e-3)


def test_psanas_names_give_the_constants(lit: Path, put: Put, truth: SimTruth) -> None:
    det, _ = next(events(lit, put()))
    medium, low = 4, 6
    assert np.array_equal(det.raw._pedestals()[[medium, low]], truth.pedestals)
    assert np.array_equal(det.raw._gain()[[medium, low]], truth.gains)
    assert np.allclose(det.raw._gain_factor()[[medium, low]], 1 / truth.gains)
    assert np.array_equal(det.raw._rms()[[medium, low]], truth.rms)
    assert not det.raw._status().any()
    assert det.raw._common_mode() is None
    assert det.raw._mask_calib() is None
    assert det.raw._mask().shape == truth.shape
    assert det.raw.correction().shape == truth.shape
    assert det.raw._segment_numbers == [0, 1]
    assert set(det.raw._calibconst) >= {"pedestals", "pixel_gain", "geometry"}
    x, y, _ = det.raw._pixel_coords()
    assert np.allclose(x, truth.positions_um[1])
    assert np.allclose(y, truth.positions_um[0])
    rows, cols = det.raw._pixel_coord_indexes()
    assert (rows.shape, cols.shape) == (truth.shape, truth.shape)


def test_image_lies_as_the_geometry_says(lit: Path, put: Put, truth: SimTruth) -> None:
    geometry = geometry_of(truth)
    for det, evt in events(lit, put()):
        image = det.raw.image(evt)
        assert np.array_equal(image, geometry.image(det.raw.calib(evt)))
        drawn = det.raw.image(evt, nda=np.ones(truth.shape), vbase=-5.0)
        assert {float(one) for one in np.unique(drawn)} == {-5.0, 1.0}


def test_without_a_geometry_the_default_one_is_drawn(lit: Path, put: Put, truth: SimTruth) -> None:
    det, evt = next(events(lit, put("pedestals", "pixel_gain")))
    assert det.raw.image(evt).shape != geometry_of(truth).image(truth.rms[0]).shape
    assert det.raw.image(evt).size >= truth.rms[0].size


def test_a_given_array_is_drawn_without_any_constants(lit: Path) -> None:
    det, evt = next(events(lit, None))
    assert det.raw.image(evt, nda=np.ones((2, 144, 768))).max() == 1


def test_options_of_the_mask_are_those_of_the_detector(lit: Path, put: Put) -> None:
    url = put()
    det, evt = next(events(lit, url, edges=True, edge_rows=3, edge_cols=2))
    found = det.raw.calib(evt)
    assert not found[:, :3].any()
    assert not found[:, :, :2].any()
    assert found[:, 3:-3, 2:-2].all(axis=(1, 2)).any() or found[:, 3:-3, 2:-2].any()
    assert det.raw._mask(edges=True, edge_rows=1, edge_cols=1)[0, 1, 1] == 1


def test_calib_true_applies_the_pixel_mask_as_in_psana(lit: Path, put: Put, truth: SimTruth) -> None:
    mask = np.ones(truth.shape, np.uint8)
    mask[1, 5, 7] = 0
    url = put(pixel_mask=mask)
    det, evt = next(events(lit, url))
    assert det.raw.calib(evt)[1, 5, 7] != 0
    det, evt = next(events(lit, url, calib=True))
    assert det.raw.calib(evt)[1, 5, 7] == 0


def test_an_unknown_option_is_said_to_have_no_effect(
    lit: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    det, evt = next(events(lit, put(), neighbours=True))
    with caplog.at_level(logging.WARNING):
        assert det.raw.calib(evt) is not None
    assert "neighbours" in caplog.text
    assert "neighbors" in caplog.text


def test_a_wrong_option_of_calib_is_an_error(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put()))
    with pytest.raises(CalibError, match="cmpar"):
        det.raw.calib(evt, cmpar=(7, 1, 10, 10))
    with pytest.raises(CalibError, match="out is"):
        det.raw.calib(evt, out=np.empty(3, np.float32))


def test_options_that_mean_nothing_are_told_in_a_sentence(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put()))
    for cmpars in (7, (7, 8, 100), ([7], 1, 100)):
        for call in (det.raw.calib, det.raw.image):
            with pytest.raises(CalibError, match="are no parameters of common mode"):
                call(evt, cmpars=cmpars)
    with pytest.raises(CalibError, match="gain_range_inds=1 is no list"):
        det.raw._mask(gain_range_inds=1)
    with pytest.raises(CalibrationError, match="rad='wide' is no whole number"):
        next(events(lit, put(), neighbors=True, rad="wide", calib=True))


def test_raw_of_ones_own_can_be_calibrated(lit: Path, put: Put, truth: SimTruth) -> None:
    det, evt = next(events(lit, put()))
    found = det.raw.calib(evt, nda_raw=truth.raw(2))
    assert np.allclose(found, by_hand(truth, 2), rtol=1e-5, atol=1e-3)


def test_each_common_mode_has_its_own_buffer(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put()))
    plain, corrected = det.raw.calib(evt), det.raw.calib(evt, cmpars=(7, 7, 100, 10))
    assert plain is not corrected
    assert not np.array_equal(plain, corrected)


def test_without_a_store_the_first_call_says_how_to_name_one(lit: Path) -> None:
    det, evt = next(events(lit, None))
    assert det.raw.raw(evt) is not None
    with pytest.raises(CalibrationError, match="--calib URL"):
        det.raw.calib(evt)
    with pytest.raises(CalibrationError, match="--calib URL"):
        det.raw.image(evt)


def test_what_is_missing_is_listed_with_where_it_was_looked_for(lit: Path, put: Put) -> None:
    url = put("pedestals", "geometry")
    det, evt = next(events(lit, url))
    with pytest.raises(CalibrationError, match="pixel_gain"):
        det.raw.calib(evt)
    with pytest.raises(CalibrationError, match="pixel_gain") as caught:
        next(events(lit, url, calib=True))
    assert url in str(caught.value)
    assert "00cafe0000" in str(caught.value)
    assert det.raw._pedestals() is not None


def test_constants_of_another_shape_are_not_used(lit: Path, put: Put) -> None:
    url = put(pedestals=np.zeros((7, 2, 100, 100), np.float32))
    det, evt = next(events(lit, url))
    with pytest.raises(CalibrationError, match="100, 100"):
        det.raw.calib(evt)


def test_what_gives_no_numbers_is_told_once_with_counts(
    lit: Path, put: Put, truth: SimTruth, caplog: pytest.LogCaptureFixture
) -> None:
    pedestals = the("pedestals", truth).copy()
    pedestals[4, 0, :2] = np.nan
    for det, evt in events(lit, put(pedestals=pedestals)):
        assert np.isnan(det.raw.calib(evt)[0, :2]).any()
    (told,) = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert "epixhr: pedestals AML_M is NaN in 1,536 of 221,184 pixels (calib gives NaN)" in told
    caplog.clear()


def test_constants_that_leave_nothing_to_use_fail_where_they_must_be_there(
    lit: Path, put: Put, truth: SimTruth, caplog: pytest.LogCaptureFixture
) -> None:
    url = put(pixel_status=np.ones_like(the("pixel_status", truth)))
    det, evt = next(events(lit, url))
    assert not det.raw.calib(evt).any()
    assert "0 of 221,184 pixels can be used" in caplog.text
    with pytest.raises(CalibrationError, match=r"calib=True.* 0 of 221,184 pixels can be used"):
        next(events(lit, url, calib=True))
    det, evt = next(events(lit, url, calib=True, status=False))
    assert det.raw.calib(evt).any()
    with pytest.raises(CalibrationError, match="0 of 221,184 pixels can be used"):
        next(events(lit, put(), calib=True, umask=np.zeros(truth.shape)))
    caplog.clear()


GEOMETRIES = {
    "nan": (lambda truth: geometry_of(truth).text().replace(" 0 ", " nan ", 3), "nan"),
    "other_shape": (lambda truth: Geometry.default_for("jungfrau", 2).text(), "512 x 1024 pixels"),
    "too_few": (lambda truth: Geometry.default_for("epixhr1x4", 1).text(), "its last panel is number 0"),
    "turned": (
        lambda truth: Geometry.from_panels("MTRX:768:144:100:100", [(0, 0, 0), (0, 1e5, 0)]).text(),
        "768 x 144 pixels",
    ),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_geometry_that_cannot_be_drawn_is_told_and_an_error_of_one_kind(
    lit: Path, put: Put, truth: SimTruth, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    make, words = GEOMETRIES[name]
    url = put(geometry=make(truth))
    det, evt = next(events(lit, url))
    assert det.raw.calib(evt) is not None
    assert "epixhr: the geometry cannot be used (image will raise)" in caplog.text
    assert words in caplog.text
    for ask in (
        lambda: det.raw.image(evt),
        lambda: det.raw.image(evt, nda=np.ones(truth.shape)),
        lambda: det.raw.image(evt, mapmode=0),
        det.raw._pixel_coords,
    ):
        with pytest.raises(CalibrationError, match="cannot be drawn: geometry of epixhr") as caught:
            ask()
        assert words in str(caught.value)
    with pytest.raises(CalibrationError, match=r"calib=True.*the geometry cannot be used"):
        next(events(lit, url, calib=True))
    caplog.clear()


def test_a_geometry_of_more_panels_is_that_of_the_whole_detector(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put(geometry=Geometry.default_for("epixhr1x4", 20).text())))
    assert det.raw.image(evt).shape == Geometry.default_for("epixhr1x4", 20).plan().shape


@pytest.mark.parametrize("skip", ["all", ["epixhr"], "epixhr"])
def test_constants_that_are_skipped_are_not_looked_for(lit: Path, skip: Any) -> None:
    det, evt = next(events(lit, "/nowhere/at/all.db", skip))
    assert det.raw.raw(evt) is not None
    with pytest.raises(CalibrationError, match="skip_calib_load"):
        det.raw.calib(evt)


def test_a_name_to_be_skipped_that_is_not_there_is_told_with_near_misses(
    lit: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    det, evt = next(events(lit, put(), ["epixhrr", "all_of_them"]))
    assert det.raw.calib(evt) is not None
    assert "no detector 'epixhrr' in this run. Did you mean 'epixhr'?" in caplog.text
    assert "no detector 'all_of_them' in this run. There are 'epixhr'" in caplog.text
    caplog.clear()


def test_what_is_recorded_without_constants_needs_no_store(lit: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource(skip_calib_load='all').runs():\n    list(run.events())\n"
    )
    missing = offline_constants("/nowhere/at/all.db", eager=True)
    done = run_offline([str(script)], [lit], Output(tmp_path / "out"), constants=missing)
    assert (done.failed, done.failures, done.events) == (0, (), EVENTS)


def test_another_detector_may_be_skipped(lit: Path, put: Put) -> None:
    det, evt = next(events(lit, put(), ["jungfrau"]))
    assert det.raw.calib(evt) is not None


def test_the_store_may_be_named_by_the_environment(
    lit: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRP_CALIB", put())
    det, evt = next(events(lit, None))
    assert det.raw.calib(evt) is not None


def test_an_event_that_lacks_a_segment_gives_none(lit: Path, put: Put, tmp_path: Path) -> None:
    dgrams = split(lit.read_bytes())
    first = next(at for at, one in enumerate(dgrams) if one[11] & 0xF == 12)
    bare = bytearray(dgrams[first][:24])
    bare[20:24] = (12).to_bytes(4, "little")
    path = tmp_path / "gap.xtc2"
    path.write_bytes(b"".join([*dgrams[:first], bytes(bare), *dgrams[first + 1 :]]))
    found = [(det.raw.calib(evt) is None, det.raw.image(evt) is None) for det, evt in events(path, put())]
    assert found == [(True, True), *[(False, False)] * (EVENTS - 1)]
    det, _ = next(events(lit, put()))
    assert det.raw.calib(None) is None


def test_an_event_that_is_gone_is_an_error(lit: Path, put: Put) -> None:
    stream = events(lit, put())
    _, old = next(stream)
    det, _ = next(stream)
    with pytest.raises(ScriptError):
        det.raw.calib(old)


def test_data_that_are_no_frames_cannot_be_calibrated(tmp_path: Path, put: Put) -> None:
    path = write_run(tmp_path / "wave.xtc2", "sim:digitizer:16", 2)
    for run in DataSource(files=path, calib=put()).runs():
        det = run.Detector("digitizer")
        for evt in run.events():
            assert det.raw.waveform(evt) is not None
            with pytest.raises(CalibrationError, match=r"frames|images"):
                det.raw.calib(evt)


VIEWS = """
import numpy as np
from drp import DataSource
kept = []
for run in DataSource().runs():
    det = run.Detector("epixhr", calib=True)
    for evt in run.events():
        assert all(np.isnan(one).all() for one in kept), "not poisoned"
        kept.append(det.raw.calib(evt))
        kept.append(det.raw.image(evt))
        assert not np.isnan(kept[-2]).any() and not np.isnan(kept[-1]).all()
        own = det.raw.calib(evt, copy=True)
        kept[-2][...] = 5
    assert not np.isnan(own).any()
"""


def test_checked_views_are_spoilt_when_the_script_has_moved_on(lit: Path, put: Put, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(VIEWS)
    done = run_offline([str(script)], [lit], check_views=True, constants=offline_constants(put()))
    assert (done.failed, done.failures, done.events) == (0, (), EVENTS)


def test_a_script_that_needs_constants_fails_where_there_are_none(
    lit: Path, put: Put, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(VIEWS)
    with pytest.raises(ScriptError, match="pedestals"):
        run_offline([str(script)], [lit], constants=offline_constants(put("geometry")))


def test_the_setup_of_a_detector_names_its_panels(lit: Path, truth: SimTruth) -> None:
    det, _ = next(events(lit, None))
    assert tuple(panel.serial for panel in det.setup.panels) == detector_of(truth).serials
    assert correction_type(det.setup).panel_shape == det.setup.panel_shape == (144, 768)

"""Dark runs from files: raw frames, or the sums that workers left in the file; the constants are the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sim_files import drp, split, write_run

from calib.dark import DarkBuilder, DarkConstants, Limits, read_steps
from calib.errors import CalibError
from drp.source import SourceOptions, open_source
from tests.conftest import ROOT
from xtc import Dgram, TransitionId, encode_dgram

DARK = ROOT / "fex_scripts" / "dark.py"
EVENTS = 12


def constants(*paths: Path, limits: Limits | None = None) -> DarkConstants:
    builder = DarkBuilder()
    for path in paths:
        for step in read_steps(path, limits=limits):
            builder.add(step)
    return builder.build()


@pytest.fixture(scope="module")
def dark_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark run of an epixhr of three panels."""
    folder = tmp_path_factory.mktemp("dark")
    return write_run(folder / "dark.xtc2", "sim:epixhr,segments=3,dark=on,frames=6", EVENTS)


def test_steps_carry_what_the_run_says_of_them(dark_run: Path) -> None:
    seen = [
        (step.number, step.experiment, step.run, step.arrays["frames"].tolist(), "AML" in step.note)
        for step in read_steps(dark_run)
    ]
    assert seen == [(0, "tstsim0001", 1, [6, 6, 6], True), (1, "tstsim0001", 1, [6, 6, 6], True)]


def test_pedestals_are_the_truth_within_the_noise(dark_run: Path) -> None:
    made = constants(dark_run)
    source = open_source("sim:epixhr,segments=3,dark=on,frames=1", SourceOptions(events=1))
    truth = source.truth  # type: ignore[attr-defined]
    for number, name in enumerate(("AML_M", "AML_L")):
        at = made.ranges.index(name)
        wrong = (made.values["pedestals"][at] - truth.pedestals[number]) / (truth.rms[number] / np.sqrt(6))
        assert abs(float(wrong.mean())) < 0.05
        assert float(wrong.std()) == pytest.approx(1, abs=0.05)
    assert made.missing == ("FH", "FM", "FL", "AHL_H", "AHL_L")


def recorded(folder: Path, *arguments: object) -> list[Path]:
    """Run the dark script and return the data files it recorded."""
    done = drp(*arguments, "-p", DARK, "-o", folder)
    assert done.returncode == 0, done.stderr
    return [path for path in sorted(folder.rglob("*.xtc2")) if ".smd." not in path.name]


def same(a: DarkConstants, b: DarkConstants) -> bool:
    return (
        a.serials == b.serials
        and a.values.keys() == b.values.keys()
        and all(a.values[name].tobytes() == b.values[name].tobytes() for name in a.values)
    )


def test_a_file_that_has_the_sums_is_not_summed_up_again(dark_run: Path, tmp_path: Path) -> None:
    keeping = drp("--offline", "--source", dark_run, "-p", f"{DARK} --keep-raw", "-o", tmp_path / "out")
    assert keeping.returncode == 0, keeping.stderr
    (path,) = (path for path in (tmp_path / "out").rglob("*.xtc2") if ".smd." not in path.name)
    again = drp("--offline", "--source", path, "-p", DARK)
    assert again.returncode != 0
    assert "has the sums of epixhr already: make constants of its file with `calib dark`" in again.stderr


def test_sums_that_a_script_recorded_offline_make_the_same_constants(dark_run: Path, tmp_path: Path) -> None:
    (path,) = recorded(tmp_path / "out", "--offline", "--source", dark_run)
    assert same(constants(dark_run), constants(path))
    assert path.stat().st_size < 4 * constants(dark_run).values["pedestals"].size * 28


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_sums_that_workers_share_make_the_same_constants(
    dark_run: Path, tmp_path: Path, workers: int
) -> None:
    (path,) = recorded(tmp_path / "out", "-W", workers, "--source", dark_run)
    assert same(constants(dark_run), constants(path))


def test_a_transition_too_small_for_the_sums_is_told_with_what_to_say(dark_run: Path, tmp_path: Path) -> None:
    done = drp("--offline", "-p", DARK, "--source", dark_run, "-o", tmp_path / "out", "-k", "trBufSize=8M")
    assert done.returncode == 1
    assert "trBufSize=2" in done.stderr


def test_limits_count_what_lies_outside(dark_run: Path) -> None:
    made = constants(dark_run, limits=Limits(lowest=2900))
    low = made.values["pixel_status"][made.ranges.index("AML_L")] & np.uint64(8)
    assert low.any()


def test_a_detector_that_is_not_there_is_named(dark_run: Path) -> None:
    with pytest.raises(CalibError, match=r"'jungfrau'.*There are: epixhr"):
        list(read_steps(dark_run, "jungfrau"))


def test_a_file_without_frames_is_told(tmp_path: Path) -> None:
    path = write_run(tmp_path / "wave.xtc2", "sim:digitizer:16", 3)
    with pytest.raises(CalibError, match="no detector with frames"):
        list(read_steps(path))


def test_events_that_lack_a_panel_are_left_out(dark_run: Path, tmp_path: Path) -> None:
    dgrams = split(dark_run.read_bytes())
    first = next(number for number, one in enumerate(dgrams) if one[11] & 0xF == TransitionId.L1Accept)
    bare = encode_dgram(TransitionId.L1Accept, Dgram(dgrams[first]).timestamp)
    path = tmp_path / "gap.xtc2"
    path.write_bytes(b"".join([*dgrams[:first], bare, *dgrams[first + 1 :]]))
    assert [step.arrays["frames"].tolist() for step in read_steps(path)] == [[5, 5, 5], [6, 6, 6]]

"""fabio as the judge of sparse frames: it opens what drp-sparse writes, and its full frames are the calibrated ones within the noise."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_runs import EVENTS, calibrated, events, reduced, simulated

from drp.cli.sparse import main as drp_sparse
from drp.fex import FexError, SparseWriter
from drp.fex.sparse_hdf5 import PEAKS

pytestmark = pytest.mark.real
FLOOR_KEV = 0.25
"""Noise of the simulated electronics, 3 ADU of 13.7 ADU/keV; of few pixels the deviation may come out smaller."""


@pytest.fixture(scope="module")
def fabio() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("h5py")
        return pytest.importorskip("fabio")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], Any, Path]:
    """A recorded run with every photon kept, the frames and the mask it was made with; what it was made of."""
    folder = tmp_path_factory.mktemp("sparse")
    source, store = simulated(folder)
    frames, mask = calibrated(source, store)
    return reduced(folder, "-W", 2, options="--adc-thresh 0 --exact"), frames, mask, folder


def test_its_full_frames_are_the_calibrated_ones_within_the_noise(
    fabio: Any, run: tuple[Path, list[Any], Any, Path], tmp_path: Path
) -> None:
    recorded, frames, mask, _ = run
    output = tmp_path / "sparse.h5"
    assert drp_sparse([str(recorded), "-o", str(output)]) == 0
    with fabio.open(str(output)) as image:
        assert image.nframes == EVENTS
        for number, (frame, event) in enumerate(zip(frames, events(recorded), strict=True)):
            full = image.getframe(number).data.reshape(frame.shape)
            assert np.array_equal(np.isnan(full), mask == 0)
            assert np.array_equal(full.ravel()[event["index"]], frame.ravel()[event["index"]])
            radius = image.mask.reshape(frame.shape)
            bins = np.rint(np.nan_to_num(radius)).astype(int)
            deviation = np.maximum(event["background_std"][bins], FLOOR_KEV)
            away = ((frame - full) / deviation)[mask != 0]
            assert abs(away.mean()) < 0.02
            assert away.std() < 1.1
            assert away.max() < 7  # of a pixel between two radii, whose mean is between theirs
            assert len(event["index"]) < 0.05 * frame.size


def test_its_command_makes_full_frames(
    fabio: Any, run: tuple[Path, list[Any], Any, Path], tmp_path: Path
) -> None:
    recorded, frames, _, _ = run
    output = tmp_path / "sparse.h5"
    assert drp_sparse([str(recorded), "-o", str(output)]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "fabio.app.densify", "-N", "0", str(output)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with fabio.open(str(tmp_path / "sparse_dense.h5")) as image:
        assert image.nframes == EVENTS
        bright = frames[0] > 100
        assert np.array_equal(image.data.reshape(frames[0].shape)[bright], frames[0][bright])


def test_hits_alone_and_what_the_command_refuses(
    fabio: Any, run: tuple[Path, list[Any], Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded, _, _, folder = run
    few = reduced(folder, "--offline", options="--min-pix-count 3")
    hits = [bool(event["is_hit"]) for event in events(few)]
    output = tmp_path / "hits.h5"
    assert drp_sparse([str(few), "-o", str(output), "--hits"]) == 0
    assert f"{sum(hits)} frames of {EVENTS} events" in capsys.readouterr().out
    before = output.read_bytes()
    for words, told in (
        ([str(recorded), "-o", str(output)], "is there already"),
        (
            [str(recorded), "-o", str(tmp_path / "a.h5"), "--detector", "other"],
            "radii of the pixels are in none",
        ),
        ([str(folder / "in.xtc2"), "-o", str(tmp_path / "a.h5")], "radii of the pixels are in none"),
        ([str(tmp_path / "none.xtc2"), "-o", str(tmp_path / "a.h5")], "none.xtc2"),
    ):
        assert drp_sparse(words) == 1
        assert told in capsys.readouterr().err
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["hits.h5"]
    assert drp_sparse([str(recorded), str(few), "-o", str(output), "--overwrite"]) == 0


def frame(bins: int, pixels: int) -> dict[str, Any]:
    return {
        "index": np.arange(pixels, dtype=np.uint32),
        "intensity": np.ones(pixels, np.float32),
        "background_avg": np.ones(bins, np.float32),
        "background_std": np.ones(bins, np.float32),
        "peaks": {name: np.ones(pixels, np.float32) for name in PEAKS},
        "is_hit": True,
    }


def test_a_file_of_what_does_not_fit_is_not_made(fabio: Any, tmp_path: Path) -> None:
    radius = np.zeros((1, 2, 2), np.float32)
    for frames, told in (
        ([], "no frame"),
        ([(3, 1), (4, 1)], "4 and 4 bins"),
        ([(3, 5)], "pixel 4 of a frame"),
    ):
        with pytest.raises(FexError, match=told), SparseWriter(tmp_path / "x.h5") as writer:
            for bins, pixels in frames:
                writer.add(**frame(bins, pixels))
            writer.finish(radius, 5.0)
    assert not list(tmp_path.iterdir())


def test_many_frames_of_many_peaks_are_all_there(fabio: Any, tmp_path: Path) -> None:
    import h5py

    counts = [number % 7 for number in range(150)]
    with SparseWriter(tmp_path / "x.h5") as writer:
        for pixels in counts:
            writer.add(**frame(3, pixels))
        writer.finish(np.zeros((1, 3, 3), np.float32), 5.0)
    with h5py.File(tmp_path / "x.h5") as file:
        entry = file["entry"]
        assert list(np.diff(entry["sparse_frames/frame_ptr"][:])) == counts
        assert list(entry["peaks/nPeaks"][:]) == counts
        assert list(entry["peaks/peakSNR"][:].sum(axis=1)) == counts

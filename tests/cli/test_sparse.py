"""drp-sparse: which of a file it reads, and what it does not take; what it writes is tried in tests/real/test_sparse_fabio.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.cli.sparse import convert, main
from drp.fex import FexError
from drp.fex.sparse_hdf5 import PEAKS
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

BINS = 3
RADIUS = np.arange(8, dtype=np.float32).reshape(1, 2, 4)


class Kept:
    """A writer that only keeps what it is given."""

    def __init__(self) -> None:
        self.added: list[dict[str, Any]] = []
        self.finished: list[Any] = []

    def add(self, index: Any, *_: Any, timestamp: int, is_hit: Any, peaks: Any) -> None:
        self.added.append({"index": list(index), "timestamp": timestamp, "is_hit": bool(is_hit)})

    def finish(self, radius: Any, cutoff: float) -> None:
        self.finished.append((radius.copy(), cutoff))


def event(index: list[int], *, hit: bool = True) -> dict[str, Any]:
    arrays = {"intensity": len(index), "background_avg": BINS, "background_std": BINS} | dict.fromkeys(
        PEAKS, 2
    )
    return {
        "index": np.array(index, np.uint32),
        **{name: np.ones(size, np.float32) for name, size in arrays.items()},
        "is_hit": np.uint8(hit),
    }


def common(radius: Any = RADIUS, cutoff: float = 5.0) -> dict[str, Any]:
    return {"bragg_radius": radius, "bragg_cutoff": np.array([cutoff])}


KINDS = {"f": DataType.FLOAT, "d": DataType.DOUBLE, "I": DataType.UINT32, "B": DataType.UINT8}


def written(
    path: Path, events: list[dict[str, Any]], ends: list[dict[str, Any]], names: tuple[str, ...] = ("cam",)
) -> Path:
    """A file of events, each for all detectors, and of steps' ends."""
    schemas: list[tuple[Names, dict[str, Any]]] = []
    dgrams: list[bytes] = []
    for number, name in enumerate(names):
        for alg, examples in (("bragg", events), ("reduce", ends)):
            for example in examples[:1]:
                fields = tuple(
                    Field(key, KINDS[np.asarray(value).dtype.char], np.ndim(value))
                    for key, value in example.items()
                )
                place = 1 << 8 | 1 + len(schemas)
                schemas.append(
                    (Names(place, "cam", name, f"serial-{number}", 0, Alg(alg, (0, 0, 1)), fields), example)
                )
    dgrams.append(encode_dgram(TransitionId.Configure, 10, [one.encode() for one, _ in schemas]))
    for service, alg, values in (
        (TransitionId.L1Accept, "bragg", events),
        (TransitionId.EndStep, "reduce", ends),
    ):
        for value in values:
            parts = [encode_shapes_data(one, value) for one, _ in schemas if one.alg.name == alg]
            dgrams.append(encode_dgram(service, 10 * len(dgrams) + 10, parts))
    path.write_bytes(b"".join(dgrams))
    return path


def test_frames_and_what_they_share_are_taken(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.xtc2", [event([1, 2]), event([], hit=False), event([7])], [common(), common()]
    )
    kept = Kept()
    assert convert([path], kept, None, hits=False) == 3  # type: ignore[arg-type]
    assert [one["index"] for one in kept.added] == [[1, 2], [], [7]]
    assert [one["timestamp"] for one in kept.added] == [20, 30, 40]
    ((radius, cutoff),) = kept.finished
    assert np.array_equal(radius, RADIUS)
    assert cutoff == 5.0
    kept = Kept()
    assert convert([path, path], kept, "cam", hits=True) == 6  # type: ignore[arg-type]
    assert [one["index"] for one in kept.added] == [[1, 2], [7]] * 2


@pytest.mark.parametrize(
    ("events", "ends", "names", "told"),
    [
        ([event([1])], [], ("cam",), "radii of the pixels are in none"),
        ([event([1])], [common(), common(RADIUS + 1)], ("cam",), "other radii or another --min-snr"),
        ([event([1])], [common(), common(cutoff=6.0)], ("cam",), "other radii or another --min-snr"),
        ([event([1])], [common()], ("cam", "dog"), r"frames of cam, dog.*--detector"),
        (
            [{"index": np.array([1], np.uint32)}],
            [common()],
            ("cam",),
            r"bragg of cam has no intensity, .*sparse_bragg",
        ),
        ([event([1]) | {"index": np.uint32(1)}], [common()], ("cam",), "has no index, or another kind"),
        ([event([1])], [common(RADIUS[0])], ("cam",), "reduce of cam has no bragg_radius"),
    ],
)
def test_what_is_no_sparse_run_is_told(
    tmp_path: Path, events: Any, ends: Any, names: tuple[str, ...], told: str
) -> None:
    path = written(tmp_path / "a.xtc2", events, ends, names)
    with pytest.raises(FexError, match=told):
        convert([path], Kept(), None, hits=False)  # type: ignore[arg-type]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.h5"
    output.write_text("mine")
    assert main(["none.xtc2", "-o", str(output)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert output.read_text() == "mine"

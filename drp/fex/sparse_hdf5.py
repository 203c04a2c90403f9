"""Sparse frames in an HDF5 file, laid out as pyFAI's `sparsify-Bragg` writes them: fabio opens it, and `densify_Bragg` makes full frames of it.

It knows the layout (NeXus: /entry/sparse_frames, /entry/peaks, /entry/sparsify) and h5py, which is imported where a file is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError
from drp.fex.frames import Floats

Array = npt.NDArray[Any]
CHUNK = 1 << 16
HELD = 64
"""Frames that are written at once."""
CREATOR = "pyFAI sparse frames, written by drp"
"""fabio knows such files by the beginning of this."""
PEAKS = ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity", "peakSNR")
"""What is kept of peaks, by the names of CXI files."""


class SparseWriter:
    """Writes one file: `add` each frame, then `finish`; a context, which removes a file that was not finished.

    A file that is there is replaced when the new one is whole. Raises FexError where h5py is not installed, OSError.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import h5py  # noqa: PLC0415 - only who writes files needs it
        except ImportError as error:
            raise FexError(f"{path} cannot be written: {error}", "pip install h5py") from error
        self._path = Path(path)
        self._partial = self._path.with_name(f"{self._path.name}.inprogress")
        self._file = h5py.File(self._partial, "w")
        self._entry = self._group(self._file, "entry", "NXentry")
        self._frames = self._group(self._entry, "sparse_frames", "NXdata")
        self._peaks = self._group(self._entry, "peaks", "NXdata")
        self._held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._bins = self._highest = -1
        self._end = self.frames = 0

    @staticmethod
    def _group(parent: Any, name: str, kind: str) -> Any:
        group = parent.create_group(name)
        group.attrs["NX_class"] = kind
        return group

    def __enter__(self) -> SparseWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(
        self,
        index: Array,
        intensity: Array,
        background_avg: Array,
        background_std: Array,
        *,
        peaks: Mapping[str, Array],
        is_hit: bool,
        timestamp: int = 0,
    ) -> None:
        """Add a frame: what SparseFrame says of it; `peaks` has the arrays PEAKS. They are copied."""
        if self._bins < 0:
            self._bins = len(background_avg)
        if not len(background_avg) == len(background_std) == self._bins or len(index) != len(intensity):
            raise FexError(
                f"frame {self.frames} has {len(background_avg)} and {len(background_std)} bins, {len(index)} indices and {len(intensity)} pixels; "
                f"those before had {self._bins} bins",
                "Write frames of one detector and geometry into a file",
            )
        self._highest = max(self._highest, int(index.max(initial=0)))
        self._end += len(index)
        self.frames += 1
        frame = {
            "index": np.array(index, np.uint32),
            "intensity": np.array(intensity, np.float32),
            "background_avg": np.array(background_avg, np.float32)[None],
            "background_std": np.array(background_std, np.float32)[None],
            "frame_ptr": np.array([self._end], np.uint64),
            "is_hit": np.array([is_hit], np.uint8),
            "timestamp": np.array([timestamp], np.uint64),
        }
        self._held.append((frame, {name: np.array(peaks[name], np.float32) for name in PEAKS}))
        if len(self._held) == HELD:
            self._flush()

    def finish(self, radius: Floats, cutoff: float) -> None:
        """Write what is of all frames and give the file its name.

        `radius`: of each pixel, (segments, rows, cols), negative where it is not used; `cutoff`: deviations above which a pixel was kept.
        """
        if not self.frames:
            raise FexError(f"{self._path} would have no frame in it")
        if self._highest >= radius.size:
            raise FexError(
                f"pixel {self._highest} of a frame is none of {radius.shape}",
                "Give the radii of that detector",
            )
        self._flush()
        flat = np.where(radius < 0, np.nan, radius).astype(np.float32).reshape(-1, radius.shape[-1])
        self._put(
            self._frames, "frame_ptr", np.concatenate([[0], self._frames["frame_ptr"][:]]).astype(np.uint64)
        )
        self._put(self._frames, "mask", flat)
        self._put(self._frames, "radius", np.arange(self._bins, dtype=np.float32))
        self._put(self._frames, "dummy", np.float32(np.nan))
        for name in ("mask", "radius"):
            self._frames[name].attrs["unit"] = "pixel"
        self._frames.attrs.update(signal="background_avg", axes=[".", "radius"])
        self._frames["errors"] = self._frames["background_std"]
        self._peaks.attrs["signal"] = "nPeaks"
        self._entry.attrs.update(default="sparse_frames", pyFAI_sparse_frames="/entry/sparse_frames")
        process = self._group(self._entry, "sparsify", "NXprocess")
        process["program"] = "drp"
        note = self._group(process, "configuration", "NXnote")
        note["type"] = "text/json"
        note["data"] = json.dumps({"sparsify": {"cutoff_pick": cutoff}})
        self._file.attrs.update(NX_class="NXroot", default="entry", creator=CREATOR)
        self._file.close()
        self._partial.replace(self._path)

    def _flush(self) -> None:
        """Write the frames that are held."""
        if not self._held:
            return
        frames, peaks = zip(*self._held, strict=True)
        for name in frames[0]:
            self._append(self._frames, name, np.concatenate([one[name] for one in frames]))
        counts = np.array([len(one[PEAKS[0]]) for one in peaks], np.int32)
        self._append(self._peaks, "nPeaks", counts)
        for name in PEAKS:
            rows = np.zeros((len(peaks), int(counts.max())), np.float32)
            for row, one in zip(rows, peaks, strict=True):
                row[: len(one[name])] = one[name]
            self._append(self._peaks, name, rows)
        self._held.clear()

    def _append(self, group: Any, name: str, rows: Array) -> None:
        """Append rows to a dataset, which becomes as wide as they are if it is not."""
        wide = rows.shape[1:]
        if name not in group:
            chunk = (CHUNK,) if not wide else (HELD, max(1, *wide))
            group.create_dataset(
                name,
                (0, *wide),
                rows.dtype,
                maxshape=(None,) * rows.ndim,
                chunks=chunk,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
        data = group[name]
        size = len(data)
        data.resize((size + len(rows), *(max(one) for one in zip(data.shape[1:], wide, strict=True))))
        data[(slice(size, None), *(slice(one) for one in wide))] = rows

    @staticmethod
    def _put(group: Any, name: str, value: Any) -> None:
        """Write a dataset whole, in place of one of that name."""
        if name in group:
            del group[name]
        group.create_dataset(name, data=value, **({"compression": "gzip"} if np.ndim(value) > 1 else {}))

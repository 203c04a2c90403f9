"""What finders in waveforms take: raw samples or calibrated ones, as their kernels are compiled for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError

RAW_TYPES = (np.dtype(np.uint16), np.dtype(np.float32))


class Samples:
    """Arrays of one shape, uint16 or float32. What is not in C order, or lies at odd addresses, as data of a file may, is copied."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._copies = {dtype: np.zeros(shape, dtype) for dtype in RAW_TYPES}

    def view(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a read-only view of `raw`, or of a copy that lasts until the next; FexError where it is of another kind."""
        if raw.shape != self.shape or raw.dtype not in RAW_TYPES:
            raise FexError(f"the samples are {raw.dtype} {raw.shape}", f"Give uint16 or float32 {self.shape}")
        if not (raw.flags.c_contiguous and raw.flags.aligned):
            copy = self._copies[raw.dtype]
            np.copyto(copy, raw)
            raw = copy
        view = raw.view()
        view.flags.writeable = False
        return view

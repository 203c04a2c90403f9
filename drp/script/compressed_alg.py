"""An alg whose data are compressed frames, as `drp.fex.Compressor` makes them: it is known by its fields, and gives arrays and images back.

Nothing here knows a codec. Numba and the libraries that decode are asked for with the first event that is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.script.calibrated_alg import CalibratedAlg
from drp.script.errors import CompressedDataError, ScriptError
from xtc import DataType, Field

Array = NDArray[Any]
FIELDS = {
    "data": (DataType.UINT8, 1),
    "sizes": (DataType.UINT32, 1),
    "shape": (DataType.UINT32, 1),
    "dtype": (DataType.CHARSTR, 1),
    "codec": (DataType.CHARSTR, 1),
    "bound": (DataType.DOUBLE, 0),
}
"""Those of drp.fex.Compressor, which is not imported here: it needs numba."""


def is_compressed(fields: Iterable[Field]) -> bool:
    """Say whether an alg with these fields holds compressed frames."""
    return FIELDS.items() <= {one.name: (one.dtype, one.rank) for one in fields}.items()


class CompressedAlg(CalibratedAlg):
    """The part of an alg of compressed frames that gives them back."""

    _segment_numbers: list[int]

    def _holds_frames(self, _setup: object) -> bool:
        return True

    def array(self, evt: Any) -> Array | None:
        """Return the event decompressed: an array (segments, rows, cols) of its own, in the type it had; None where a segment is missing.

        Raises CompressedDataError where the bytes are damaged, or nothing here decodes them.
        """
        from drp.fex.compress import decompress  # noqa: PLC0415 - as the module says

        values = [self.__dict__[name](evt) for name in FIELDS]
        if any(one is None for one in values):
            return None
        parts = values if isinstance(values[0], dict) else [{0: one} for one in values]
        if any(len(one) != len(self._segment_numbers) for one in parts):
            return None
        try:
            frames = [decompress(*(one[number] for one in parts)) for number in parts[0]]
        except ValueError as error:
            raise CompressedDataError(
                f"{self._det_name}.{self._alg} of the event at {evt.timestamp}: {error}"
            ) from error
        if len({(one.dtype, one.shape[1:]) for one in frames}) > 1:
            raise CompressedDataError(
                f"{self._det_name}.{self._alg}: its segments have frames of several kinds"
            )
        return frames[0] if len(frames) == 1 else np.concatenate(frames)

    def segments(self, evt: Any, copy: bool | None = None) -> list[Array] | None:  # noqa: ARG002 - they always are copies
        """Return the raw segments decompressed; ScriptError where it is calibrated frames that were compressed."""
        found = self.array(evt)
        if found is not None and found.dtype.kind == "f":
            raise ScriptError(
                f"{self._det_name}.{self._alg} holds calibrated frames, no raw data",
                hint="calib(evt) gives them.",
            )
        return None if found is None else list(found)

    def calib(self, evt: Any, *args: Any, **options: Any) -> Any:
        """Return the calibrated event, float32 (segments, rows, cols): what was compressed, or raw data calibrated now, as `det.raw.calib`."""
        found = self.array(evt)
        if found is None:
            return None
        if found.dtype.kind != "f":
            return super().calib(evt, *args, **{"nda_raw": found} | options)
        if args or options:
            raise ScriptError(
                f"{self._det_name}.{self._alg} was calibrated before it was compressed",
                hint="Leave all options out.",
            )
        return found

    def image(self, evt: Any, nda: Array | None = None, *args: Any, **options: Any) -> Any:
        """Return the image of the calibrated event, or of `nda`, float32 (rows, cols), as `det.raw.image`."""
        if nda is None:
            nda = self.array(evt)
            if nda is None:
                return None
            if nda.dtype.kind != "f":
                nda = None  # it is decompressed again, by what calibrates with all options
        return super().image(evt, nda, *args, **options)

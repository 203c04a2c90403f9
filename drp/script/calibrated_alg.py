"""What an alg of a detector has beside its fields where its data are frames: calibrated arrays, images, and psana's names of the constants.

What calibrates is made when it is first asked for, so that a script that only reads pays nothing. Nothing here knows constants or corrections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drp.script.errors import CalibrationError

if TYPE_CHECKING:
    from drp.script.calibrated import Calibration

    MakeCalibration = Callable[[Any], Calibration]


class CalibratedAlg:
    """The part of AlgInterface that calibrates; `_make`, which the run sets, makes what does the work."""

    _det_name: str
    _alg: str
    _make: MakeCalibration | None = None
    _made: Calibration | None = None

    def calib(self, evt: Any, *args: Any, **options: Any) -> Any:
        """Return the calibrated event, float32 (segments, rows, cols); None where a segment is missing.

        The array is valid until the script asks for the next event, unless `copy=True` or `out=`; see `Calibration.calib`. Raises
        CalibrationError where there are no constants: raw is never passed off as calibrated.
        """
        return self._calibration().calib(evt, *args, **options)

    def calib_segments(self, evt: Any, *args: Any, **options: Any) -> Any:
        """Return the calibrated event as an iterable that calibrates one segment, float32 (rows, cols), after the other; None where one is missing.

        What an algorithm of `drp.fex` takes in place of the array of `calib`; see `Calibration.calib_segments`.
        """
        return self._calibration().calib_segments(evt, *args, **options)

    def correction(self) -> Any:
        """Return what calibrates events, a `calib.detectors.Correction`, for who does it elsewhere, as on a GPU; a step may need another."""
        return self._calibration().correction

    def mask(self, **options: Any) -> Any:
        """Return the mask in force, uint8 (segments, rows, cols), 1 where a pixel is used; with options of MaskOptions, one made of these."""
        return self._calibration().mask(**options)

    def rms(self) -> Any:
        """Return the constant pixel_rms, float32 (ranges, segments, rows, cols), ADU; None where there is none."""
        return self._calibration().constant("pixel_rms")

    def pixel_coords(self, **options: Any) -> Any:
        """Return x, y and z of each pixel in um, (segments, rows, cols) each; CalibrationError where there is no geometry."""
        return self._calibration().pixel_coords(**options)

    def image(self, evt: Any, *args: Any, **options: Any) -> Any:
        """Return the image of the calibrated event, or of `nda=`, float32 (rows, cols); see `Calibration.image`."""
        return self._calibration().image(evt, *args, **options)

    def _calibration(self) -> Calibration:
        if self._made is None:
            if self._make is None:
                raise CalibrationError(f"{self._det_name}.{self._alg} is of no run")
            self._made = self._make(self)
        return self._made

    # psana's names of what lies behind.

    _mask = mask
    _pixel_coords = pixel_coords

    def _rms(self, **_: Any) -> Any:
        return self.rms()

    def _pedestals(self, **_: Any) -> Any:
        return self._calibration().constant("pedestals")

    def _gain(self, **_: Any) -> Any:
        return self._calibration().constant("pixel_gain")

    def _gain_factor(self, **_: Any) -> Any:
        return self._calibration().gain_factor()

    def _status(self, **_: Any) -> Any:
        return self._calibration().constant("pixel_status")

    def _common_mode(self, **_: Any) -> Any:
        return self._calibration().constant("common_mode")

    def _mask_calib(self, **_: Any) -> Any:
        return self._calibration().constant("pixel_mask")

    def _pixel_coord_indexes(self, **options: Any) -> Any:
        return self._calibration().pixel_coord_indexes(**options)

    @property
    def _calibconst(self) -> dict[str, Any]:
        try:
            return self._calibration().calibconst()
        except CalibrationError:
            return {}

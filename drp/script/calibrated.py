"""Calibrated arrays, images and masks of a detector, as `det.raw.calib(evt)` and its kin give them; made once for a run.

It joins a detector's raw segments, its constants, its correction and its geometry, and keeps the buffers that results are written to: no
memory is taken per event. It knows neither rings nor stores. What it gives is valid until the script asks for the next event, unless the
script brings its own array (`out=`) or asks for one (`copy=True`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib import CalibError, GeometryError
from calib.detectors import CalibratedSegments, Correction, DetectorSetup, MaskOptions, correction_type
from calib.detectors.epix10ka import EpixMultiGain
from calib.detectors.epixuhr import EpixUhr
from calib.geometry import Geometry, ImagePlan
from calib.geometry.image import LARGEST, LAST, MEAN
from calib.soundness import soundness
from drp.script.constants import current
from drp.script.constants_set import DetectorConstants
from drp.script.errors import CalibrationError, near_misses
from drp.script.images import check_geometry, geometry_fault, geometry_of, panel_numbers, picked, plan_among

if TYPE_CHECKING:
    from drp.script.session import Session

Array = NDArray[Any]
Floats = NDArray[np.float32]
Segments = Callable[..., "list[Array] | None"]
VIEW_OPTIONS = frozenset(("pix_scale_size_um", "xy0_off_pix", "do_tilt", "cframe"))
DRAW_OPTIONS = frozenset(("mapmode", "fillholes", "vbase"))
CONFIGURED = (EpixMultiGain, EpixUhr)
"""The corrections whose tables depend on the configuration."""

log = logging.getLogger("drp.constants")


class Calibration:
    """One detector in one run. `options` are those of MaskOptions.

    `fault` says why there are no constants, "" where there are. Without them `calib` raises CalibrationError, and so does `image` unless it is
    given what to draw.
    """

    def __init__(
        self, setup: DetectorSetup, session: Session, segments: Segments, options: Mapping[str, Any]
    ) -> None:
        self.setup = setup
        self.fault = ""
        self._useless = ""
        self._told: set[str] = set()
        self._in_force = session.setup
        # A detector made after steps have changed the configuration has these to follow at once.
        self._followed = -1 if session.setup.stepped else session.setup.step_changes
        self._mask_options: MaskOptions | None = None
        self._stream = session.stream
        self._segments = segments
        self._constants: Mapping[str, Array | str] = {}
        self._records: Mapping[str, Mapping[str, Any]] = {}
        self._correction: Correction | None = None
        self._geometry: Geometry | None = None
        self._plan: ImagePlan | None = None
        self._buffers: dict[object, Array] = {}
        try:
            if session.skips_constants(setup.name):
                raise CalibrationError("skip_calib_load says to do without constants")
            self._load(current(session).get(setup.name), dict(options))
        except (CalibError, CalibrationError) as error:
            self.fault = str(error)

    def _load(self, found: DetectorConstants | None, options: dict[str, Any]) -> None:
        known = {one.name for one in fields(MaskOptions)}
        for name in options.keys() - known:
            log.warning(
                "Detector(%r): %s= has no effect. %s", self.setup.name, name, near_misses(name, known)
            )
        if found is None:
            raise CalibrationError("no constants were looked for, as its data are no images")
        self.setup, self._constants, self._records = found.setup, found.constants, found.records
        if found.trouble:
            raise CalibrationError(found.trouble)
        self._useless = found.useless
        self._told.add(found.doubt.removeprefix(f"{found.setup.name}: "))
        if "pixel_mask" not in found.constants:
            options.pop("calib", None)
        kind = correction_type(found.setup)
        self._mask_options = MaskOptions.of(options)
        self._correction = kind(found.setup, found.constants, found.derived, self._mask_options)
        self._plan = plan_among(found.derived)

    def require(self) -> None:
        """Raise CalibrationError where there are no constants, or none that anything can be calibrated and drawn with."""
        if self.fault or self._correction is None or self._mask_options is None:
            raise self._missing()
        if not self._useless and self._mask_options.default:
            return
        # The mask of this detector may leave more pixels than the default one, or fewer.
        sound = soundness(self.setup, self._constants, self._correction.tables_in_use)
        geometry = geometry_fault(self.setup, self._constants.get("geometry"), self._correction.shape[1:])
        wrong = [text for text in (str(sound) if not sound.usable else "", geometry) if text]
        if wrong:
            raise CalibrationError(
                f"{self._name} is asked for with calib=True, and its constants are of no use: {'; '.join(wrong)}",
                hint="Put others with `calib put`, or leave calib=True out.",
            )

    def _missing(self) -> CalibrationError:
        return CalibrationError(
            f"{self._name} cannot be calibrated: {self.fault.rstrip('.')}",
            hint=f"{self._name}.raw(evt) gives the data as recorded.",
        )

    @property
    def _name(self) -> str:
        return f"{self.setup.name}.{self.setup.alg}"

    @property
    def correction(self) -> Correction:
        """The correction; raises CalibrationError where there are no constants."""
        if self._correction is None:
            raise self._missing()
        if self._followed != self._in_force.step_changes:
            self._correction = self._follow(self._correction)
        return self._correction

    def _follow(self, correction: Correction) -> Correction:
        """Return the correction for the configuration of the step: tables of our own where a step of a gain scan has changed it."""
        self._followed = self._in_force.step_changes
        kind = type(correction)
        if not issubclass(kind, CONFIGURED):
            return correction
        setup = self._in_force.with_steps(self.setup)
        derived = kind.derive(setup, self._constants)
        doubt = str(soundness(setup, self._constants, derived))
        if doubt and doubt not in self._told:
            self._told.add(doubt)
            log.warning("%s, configured as in this step: %s", self.setup.name, doubt)
        return kind(setup, self._constants, derived, self._mask_options)

    @property
    def geometry(self) -> Geometry:
        """The detector's geometry: the constant, else the default of its type. Raises CalibrationError where there is neither, or it is of no use."""
        if self._geometry is None:
            shape = self.setup.panel_shape if self._correction is None else self._correction.shape[1:]
            try:
                geometry = geometry_of(self.setup, self._constants.get("geometry"))
                check_geometry(self.setup, geometry, shape)
            except GeometryError as error:
                raise CalibrationError(f"{self._name} cannot be drawn: {error}") from error
            self._geometry = geometry
        return self._geometry

    def calib(
        self,
        evt: Any,
        cmpars: Sequence[float] | None = None,
        *,
        nda_raw: Array | None = None,
        out: Floats | None = None,
        copy: bool | None = None,
        **psana: Any,
    ) -> Floats | None:
        """Return the calibrated event, float32 (segments, rows, cols), in keV where there are gains; None where a segment is missing.

        The array is one buffer for each `cmpars`, overwritten at the next event. With `copy` it is the script's own, with `out` (float32, that shape,
        C order) that is filled. `cmpars` is the common mode (algorithm, mode, largest correction, fewest pixels); `nda_raw` is calibrated in
        place of the event's own data. Raises CalibrationError where there are no constants, CalibError for what does not fit.
        """
        correction = self.correction
        raw = self._segments(evt, copy=False) if nda_raw is None else nda_raw
        if raw is None:
            return None
        own = self._stream.copy_views if copy is None else copy
        into = out
        if cmpars is not None:
            cmpars = tuple(cmpars) if isinstance(cmpars, Iterable) else (cmpars,)
        if into is None and not own:
            into = self._buffer(("calib", str(cmpars)), correction.shape)
        done = correction.calib(raw, out=into, cmpars=cmpars, **psana)
        if own or out is not None:
            return done
        lent: Floats = self._stream.lend(done)
        return lent

    def calib_segments(
        self, evt: Any, cmpars: Sequence[float] | None = None, *, nda_raw: Array | None = None
    ) -> CalibratedSegments | None:
        """Return the calibrated event as an iterable of its segments, float32 (rows, cols), with the values of `calib`; None where one is missing.

        A segment is calibrated when it is asked for, into the buffer of the one before: what passes over an event once, as the algorithms of
        `drp.fex` do, is quicker by it. Each pass calibrates anew, so several algorithms may be given the same. It reads
        the raw data of the event: like those it is not to be kept for the next one. Arguments and errors are those of `calib`.
        """
        correction = self.correction
        raw = self._segments(evt, copy=False) if nda_raw is None else nda_raw
        if raw is None:
            return None
        if cmpars is not None:
            cmpars = tuple(cmpars) if isinstance(cmpars, Iterable) else (cmpars,)
        return correction.segments(raw, cmpars=cmpars)

    def image(
        self,
        evt: Any,
        nda: Array | None = None,
        value_for_missing_segments: float | None = None,
        *,
        out: Floats | None = None,
        copy: bool | None = None,
        **options: Any,
    ) -> Array | None:
        """Return the image of the calibrated event, or of `nda` (segments, rows, cols), float32 (rows, cols); None where a segment is missing.

        Options are psana's: of the image (mapmode, fillholes, vbase, pix_scale_size_um, xy0_off_pix, do_tilt, cframe) and of `calib`. Buffers
        and errors are as in `calib`; CalibrationError also where there is no geometry of this detector, CalibError for data and options that do
        not fit.
        """
        drawn = {name: options.pop(name) for name in (VIEW_OPTIONS | DRAW_OPTIONS) & options.keys()}
        if nda is None:
            correction = self.correction
            raw = self._segments(evt, copy=False)
            if raw is None:
                return None
            nda = correction.calib(raw, out=self._buffer("to draw", correction.shape), **options)
        own = self._stream.copy_views if copy is None else copy
        key = ("image", tuple(sorted(drawn.items())), value_for_missing_segments)
        into = out if out is not None or own else self._buffers.get(key)
        by_plan = value_for_missing_segments is None and drawn.keys() <= DRAW_OPTIONS
        if self._plan is not None and by_plan and drawn.get("mapmode", LAST) in (LAST, LARGEST, MEAN):
            done: Array = self._plan.apply(nda, out=into, **drawn)
        else:
            done = self.geometry.image(
                nda,
                segments=picked(self.setup, self.geometry),
                value_for_missing_segments=value_for_missing_segments,
                out=into,
                **drawn,
            )
        if own or out is not None:
            return done
        if done.dtype == np.float32:
            self._buffers[key] = done
        lent: Array = self._stream.lend(done)
        return lent

    def _buffer(self, key: object, shape: tuple[int, ...]) -> Floats:
        found = self._buffers.get(key)
        if found is None:
            found = self._buffers[key] = np.empty(shape, np.float32)
        return found

    # psana's further names; each array is of the segments of this drp, in their order.

    def mask(self, **options: Any) -> NDArray[np.uint8]:
        """Return the mask in force, uint8, 1 where a pixel is used; with options of MaskOptions, one made of these."""
        return self.correction.mask(**options)

    def constant(self, ctype: str) -> Any:
        """Return a constant as it was put, None where there is none."""
        return self._constants.get(ctype)

    def gain_factor(self) -> Floats | None:
        """Return 1 / gain, 0 where the gain is 0; None where there are no gains."""
        gain = self.constant("pixel_gain")
        if gain is None:
            return None
        factor: Floats = np.divide(1, gain, out=np.zeros_like(gain), where=gain != 0)
        return factor

    def calibconst(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """Return {ctype: (value, what is known of it: id, version, experiment, run, run_end, digest, put_digest)}."""
        return {
            ctype: (value, dict(self._records.get(ctype, {}))) for ctype, value in self._constants.items()
        }

    def pixel_coords(self, *, all_segs: bool = False, **options: Any) -> tuple[Array, Array, Array]:
        """Return x, y, z of each pixel in um, (segments, rows, cols) each; `all_segs`: of the whole detector."""
        return self.geometry.pixel_coords(segments=None if all_segs else panel_numbers(self.setup), **options)

    def pixel_coord_indexes(self, *, all_segs: bool = False, **options: Any) -> tuple[Array, Array]:
        """Return row and column of each pixel in the image."""
        return self.geometry.pixel_indexes(
            segments=None if all_segs else panel_numbers(self.setup), **options
        )

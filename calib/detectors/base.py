"""What all corrections share: tables made once from constants, and the calibration of events with them.

A correction is made in two steps. `derive` turns constants into the tables that kernels read, once per drp; they hold the default mask, and
may lie in memory that many processes share. A `Correction` is what one process calibrates events with; only with a mask of its own does
it need tables of its own. Nothing here knows where constants come from or what an event is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from calib.detectors import _kernels, commonmode
from calib.detectors._lanes import WIDTH
from calib.detectors.arrays import Array, Floats, read_only
from calib.detectors.commonmode import CommonMode, Scratch
from calib.detectors.facts import Coding, DetectorSetup
from calib.detectors.mask import Constants, Mask, MaskOptions, combine
from calib.detectors.photons import count_photons, warm_up
from calib.detectors.piecewise import CalibratedSegments
from calib.errors import CalibError, ConstantsMisshapen, ConstantsMissing

UNUSED_OPTIONS = frozenset(("cversion", "loop_banks", "perpix", "size_blk", "mbits", "logmet_init"))
"""psana's arguments of calib that say how to compute, not what: accepted and without effect."""


SINGLE_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.float32))
"""Raw pixels of one range that kernels are compiled for; others become float32 first."""


class Correction:
    """Calibrates the events of one detector: `calib`. It makes nothing per event where `out` is given.

    `constants` by ctype, arrays (ranges, segments, rows, cols) with the segments of `setup`; `derived` is what `derive` made of them.
    Raises ConstantsMissing and ConstantsMisshapen.
    """

    needed: ClassVar[tuple[str, ...]] = ("pedestals",)
    used: ClassVar[tuple[str, ...]] = (
        "pedestals",
        "pixel_gain",
        "pixel_status",
        "status_extra",
        "pixel_mask",
    )
    panel_shape: ClassVar[tuple[int, int]] = (0, 0)
    parts: ClassVar[int] = 1
    """How many calibrated segments one segment of the data acquisition holds."""
    ranges: ClassVar[tuple[int, int | None]] = (1, 1)
    """How few and how many gain ranges its constants have; None: any number."""
    asics: ClassVar[tuple[int, int]] = (1, 1)
    """The grid of ASICs in a segment, (rows, cols)."""
    coding: ClassVar[Coding | None] = None
    """None: one range, and pixels of any number type."""
    banks: ClassVar[tuple[int, int] | None] = None
    """Into how many parts rows and columns of a segment are divided for common mode; None: it has no such correction."""
    always_of_level: ClassVar[bool] = False
    """Whether common mode counts pixels of `level` only, whatever its algorithm."""

    def __init__(
        self,
        setup: DetectorSetup,
        constants: Constants,
        derived: Mapping[str, Array],
        options: MaskOptions | None = None,
    ) -> None:
        self.setup = setup
        self._constants = constants
        self._options = options or MaskOptions()
        if not self._options.default:
            derived = self._derive(setup, constants, self._options)
        self.shape = self._check_derived(setup, derived)
        rows, cols = self.shape[1:]
        pixels = rows * cols
        self._mask: Mask = read_only(derived["mask"].reshape(self.shape))
        self._tables = read_only(derived["tables"].reshape(self.shape[0], -1, 2 * pixels))
        coding = self.coding or Coding(0)
        self._planes = read_only(np.array(coding.planes, np.int8))
        self._of_thread = threading.local()
        self._level: Array | None = None
        self._mask_level: Array | None = None
        if self.banks is not None:
            self._level = read_only(derived["level"].reshape(self.shape[0], pixels))
            self._counting = int(np.bitwise_or.reduce(self._level, axis=None))
            self._scratch()
        self._default_common_mode = self._common_mode_of_constants()
        self._bits = (
            np.uint16(coding.data_mask),
            np.uint16(coding.range_mask),
            np.uint16(coding.range_shift),
        )

    @classmethod
    def derive(cls, setup: DetectorSetup, constants: Constants) -> dict[str, Array]:
        """Return what kernels read, with the default mask: `tables` float32 (segments, planes, rows, cols, 2), the last axis what is subtracted and
        what then multiplies, and `mask` uint8 (segments, rows, cols).

        A detector with common mode has `level` too: a bit for each plane whose pixels count for it, uint8 (segments, rows, cols).
        """
        return cls._derive(setup, constants, MaskOptions())

    @classmethod
    def _derive(cls, setup: DetectorSetup, constants: Constants, options: MaskOptions) -> dict[str, Array]:
        missing = [one for one in cls.needed if one not in constants]
        if missing:
            raise ConstantsMissing(
                f"no {', '.join(missing)} for this {setup.dettype}",
                where=setup.name,
                hint=f"Put them with `calib put`; there are {', '.join(sorted(constants)) or 'none'}",
            )
        shape = cls.segments_shape(setup, constants)
        offset, factor = cls.tables(setup, constants, shape)
        mask = combine(options, shape, cls.asics, constants)
        # Data bits are left where they are, and what is subtracted is moved there: exact, as it is a power of two.
        moved = np.float32(1 << (cls.coding.data_shift if cls.coding else 0))
        tables = np.empty((*offset.shape, 2), np.float32)
        np.multiply(offset, moved, out=tables[..., 0])
        np.divide(factor, moved, out=tables[..., 1])
        tables[np.broadcast_to(mask[:, None] == 0, offset.shape)] = 0
        derived: dict[str, Array] = {"tables": tables, "mask": mask}
        if cls.banks is not None:
            derived["level"] = cls.level_planes(setup, shape) * mask
        return derived

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return what to subtract and the factor (keV/ADU), without mask: new float32 (segments, planes, rows, cols), C order."""
        raise NotImplementedError

    @classmethod
    def level_planes(cls, setup: DetectorSetup, shape: tuple[int, int, int]) -> Array:
        """Return the planes (bit 0 is plane 0) whose pixels count for common mode, uint8 `shape`, without mask."""
        del setup
        return np.ones(shape, np.uint8)

    @classmethod
    def segments_shape(cls, setup: DetectorSetup, constants: Constants) -> tuple[int, int, int]:
        """Return (segments, rows, cols) of a calibrated event."""
        rows, cols = setup.panel_shape if all(setup.panel_shape) else cls.panel_shape
        if not rows:
            rows, cols = np.shape(np.asarray(constants["pedestals"]))[-2:]
        return len(setup.panels) * cls.parts, rows, cols

    @property
    def tables_in_use(self) -> dict[str, Array]:
        """What events are calibrated with: `tables` and `mask` as `derive` gives them, with this one's mask; read-only."""
        return {"mask": self._mask, "tables": self._tables.reshape(self.shape[0], -1, *self.shape[1:], 2)}

    @property
    def common_mode(self) -> CommonMode | None:
        """The common mode that `calib` corrects where it is given no cmpars; None: none."""
        return self._default_common_mode

    def mask(self, **options: Any) -> Mask:
        """Return 1 for each pixel that is used, 0 for the others, uint8 (segments, rows, cols).

        With options (those of MaskOptions) a new mask of these options is made; without, the one in force is returned, read-only.
        """
        if not options:
            return self._mask
        return combine(MaskOptions.of(options), self.shape, self.asics, self._constants)

    def calib(
        self,
        segments: Sequence[Array] | Array,
        *,
        out: Floats | None = None,
        cmpars: Sequence[float] | None = None,
        **psana_kw: Any,
    ) -> Floats:
        """Return the calibrated event, float32 (segments, rows, cols) in keV; `out`, C order, is filled and returned where it is given.

        `segments`: the raw array of each segment as recorded, in segment order, or one array of them all. `cmpars`: common mode
        (algorithm, mode, largest correction in ADU, fewest pixels), None for what the detector's constants say. A masked pixel and one with
        an invalid range code are 0. Raises CalibError where shapes, types or options do not fit.
        """
        if psana_kw and not UNUSED_OPTIONS.issuperset(psana_kw):
            wrong = ", ".join(sorted(set(psana_kw) - UNUSED_OPTIONS))
            raise CalibError(
                f"calib has no option {wrong}", where=self.setup.name, hint="Masks go to Detector(...)"
            )
        out = self._room(out)
        flat = out.reshape(self.shape[0], -1)
        self._correct(self._flat(segments), flat, cmpars)
        return out

    def segments(
        self, segments: Sequence[Array] | Array, *, cmpars: Sequence[float] | None = None
    ) -> CalibratedSegments:
        """Return the event as what calibrates one segment after the other into a small buffer, for algorithms that pass over it once.

        Arguments and errors are those of `calib`. The buffer is this thread's, and the next event's: take one event at a time.
        """
        own = self._of_thread
        if not hasattr(own, "segment"):
            own.segment = np.empty(self.shape[1:], np.float32)
        return CalibratedSegments(self, self._flat(segments), self._wanted(cmpars), own.segment)

    def lay_out(self, segments: Sequence[Array] | Array, out: Array) -> None:
        """Copy an event's raw pixels, checked and in the order of calibrated ones, to `out` (segments, pixels), for who calibrates elsewhere.

        `out` is uint16 where there is a `coding`, else float32, to which other types are cast. Raises CalibError as `calib` does.
        """
        for first, pixels in self._flat(segments):
            np.copyto(out[first : first + len(pixels)], pixels, casting="unsafe")

    def photons(
        self,
        segments: Sequence[Array] | Array,
        photon_kev: float,
        *,
        threshold: float = 0.5,
        out: npt.NDArray[np.uint16] | None = None,
        **calib_options: Any,
    ) -> npt.NDArray[np.uint16]:
        """Return how many photons of one energy each pixel of an event holds, uint16 (segments, rows, cols); options are those of `calib`.

        As `count_photons` of what `calib` returns; nothing is made per event where `out` is given.
        """
        own = self._of_thread
        if not hasattr(own, "calibrated"):
            own.calibrated = np.empty(self.shape, np.float32)
        calibrated = self.calib(segments, out=own.calibrated, **calib_options)
        return count_photons(calibrated, photon_kev, threshold=threshold, out=out)

    def _correct(self, raw: list[tuple[int, Array]], out: Floats, cmpars: Sequence[float] | None) -> None:
        """Fill `out` from raw arrays, each with the number of its first segment and of shape (segments, pixels)."""
        wanted = self._wanted(cmpars)
        for first, pixels in raw:
            self._correct_part(first, pixels, wanted, out[first : first + len(pixels)])

    def _wanted(self, cmpars: Sequence[float] | None) -> CommonMode | None:
        """Return the common mode to correct; raise CalibError where this detector has none."""
        wanted = self._default_common_mode if cmpars is None else CommonMode.of(cmpars)
        if wanted is not None and self.banks is None:
            raise CalibError(
                f"there is no common mode correction for {self.setup.dettype}",
                where=self.setup.name,
                hint="Give no cmpars",
            )
        return wanted

    def _correct_part(self, first: int, pixels: Array, wanted: CommonMode | None, out: Floats) -> None:
        """Calibrate segments from `first` on: `pixels` and `out` are (segments, pixels)."""
        if wanted is None:
            self._apply(first, pixels, out)
        else:
            self._apply_common_mode(first, pixels, wanted, out)

    def _common_mode_of_constants(self) -> CommonMode | None:
        """Return what is corrected where an event's calib is given no cmpars: the constant common_mode of types that use it."""
        if "common_mode" not in self.used or "common_mode" not in self._constants:
            return None
        values = np.asarray(self._constants["common_mode"]).reshape(-1).tolist()
        return CommonMode.of(values, f"the constant common_mode {values!r:.80} of {self.setup.name}")

    def _apply_common_mode(self, first: int, pixels: Array, wanted: CommonMode, out: Floats) -> None:
        level, counting = self._level, self._counting
        if level is None or (wanted.algorithm != commonmode.OF_LEVEL and not self.always_of_level):
            level, counting = self._all_level(), 0xFF
        room = self._scratch()
        # Rows alone need no more of their banks than are searched at a time.
        whole_banks = wanted.mode & 6 or self.shape[1] % WIDTH or room.rows < WIDTH
        part = slice(first, first + len(pixels))
        commonmode.correct(
            pixels,
            self._tables[part],
            level[part],
            counting,
            self._planes,
            self._bits,
            self.shape[2],
            room.rows if whole_banks else WIDTH,
            room.cols,
            wanted.mode,
            np.float32(wanted.limit),
            wanted.fewest,
            room.tile,
            room.turned,
            room.medians,
            room.usual,
            room.others,
            out,
        )

    def _scratch(self) -> Scratch:
        """Return this thread's room for common mode; made once."""
        own = self._of_thread
        if not hasattr(own, "scratch") and self.banks is not None:
            own.scratch = Scratch(
                self.shape[1] // self.banks[0], self.shape[2] // self.banks[1], self.banks[1]
            )
        scratch: Scratch = own.scratch
        return scratch

    def _all_level(self) -> Array:
        """Return `level` of the algorithms that count every pixel of the mask; made once."""
        if self._mask_level is None:
            self._mask_level = read_only((self._mask * np.uint8(0xFF)).reshape(self.shape[0], -1))
        return self._mask_level

    def _apply(self, first: int, pixels: Array, out: Floats) -> None:
        tables = self._tables[first : first + len(pixels)]
        if self.coding is None:
            _kernels.apply_single(pixels, tables, out)
        else:
            _kernels.apply_ranges(pixels, tables, self._planes, self._bits, out)

    def _pick(self, first: int, pixels: Array, index: npt.NDArray[np.int64], out: Floats) -> bool:
        """Calibrate the pixels at `index`, flat over all segments of the detector, without common mode; False where one is not in these."""
        tables = self._tables[first : first + len(pixels)]
        start = first * pixels.shape[1]
        if self.coding is None:
            return bool(_kernels.pick_single(pixels, tables, index, start, out))
        return bool(_kernels.pick_ranges(pixels, tables, self._planes, self._bits, index, start, out))

    def _room(self, out: Floats | None) -> Floats:
        if out is None:
            return np.empty(self.shape, np.float32)
        if not isinstance(out, np.ndarray):
            raise CalibError(f"out is a {type(out).__name__}, not an array", where=self.setup.name)
        if out.shape != self.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise CalibError(
                f"out is {out.dtype} {out.shape}, needed is float32 {self.shape} in C order",
                where=self.setup.name,
            )
        if not out.flags.writeable:
            raise CalibError("out cannot be written", where=self.setup.name)
        return out

    def _flat(self, segments: Sequence[Array] | Array) -> list[tuple[int, Array]]:
        """Return raw pixels as read-only (segments, pixels) arrays, each with the number of its first segment."""
        count, rows, cols = self.shape
        if isinstance(segments, np.ndarray):
            if segments.size == count * rows * cols:
                return [(0, self._pixels(segments, count))]
        elif not isinstance(segments, Sequence):
            raise CalibError(f"raw data are a {type(segments).__name__}, not arrays", where=self.setup.name)
        elif len(segments) == count // self.parts:
            return [(at * self.parts, self._pixels(one, self.parts)) for at, one in enumerate(segments)]
        found = segments.shape if isinstance(segments, np.ndarray) else f"{len(segments)} arrays"
        raise CalibError(f"raw data of {found} are not those of {self.shape}", where=self.setup.name)

    def _pixels(self, raw: Array, segments: int) -> Array:
        if not isinstance(raw, np.ndarray):
            raise CalibError(f"a raw segment is a {type(raw).__name__}, not an array", where=self.setup.name)
        rows, cols = self.shape[1:]
        size = segments * rows * cols
        fits = raw.size == size and (
            raw.ndim == 1 or raw.shape[-1] == rows * cols or raw.shape[-2:] == (rows, cols)
        )
        if not fits or (self.coding is not None and raw.dtype != np.uint16) or raw.dtype.kind not in "uif":
            what = "uint16" if self.coding is not None else "a number type"
            raise CalibError(
                f"a raw segment is {raw.dtype} {raw.shape}, expected is {what} {(segments, rows, cols)}",
                where=self.setup.name,
                hint="Rows and columns are exchanged" if raw.shape[-2:] == (cols, rows) else "",
            )
        if self.coding is None and raw.dtype not in SINGLE_TYPES:
            raw = raw.astype(np.float32)
        flags = raw.flags
        if not flags.c_contiguous or not flags.aligned:
            raw = np.require(raw, requirements=("C", "A"))
        flat = raw.reshape(segments, -1)
        return read_only(flat) if flags.writeable else flat

    @classmethod
    def _check_derived(cls, setup: DetectorSetup, derived: Mapping[str, Array]) -> tuple[int, int, int]:
        mask, tables = derived.get("mask"), derived.get("tables")
        planes = cls.coding.n_planes if cls.coding else 1
        if mask is None or tables is None or mask.ndim != 3:
            raise ConstantsMissing("the derived tables are not whole", where=setup.name)
        wanted = (mask.shape[0], planes, *mask.shape[1:], 2)
        if tables.shape != wanted or len(mask) != len(setup.panels) * cls.parts:
            raise ConstantsMisshapen(
                f"derived tables are {tables.shape}, needed are {wanted}", where=setup.name
            )
        return mask.shape[0], mask.shape[1], mask.shape[2]

    @classmethod
    def warm_up(cls) -> None:
        """Compile the kernels for all that events can pass; done before any event comes."""
        warm_up()
        tables = read_only(np.zeros((1, 1, 2), np.float32))
        out = np.empty((1, 1), np.float32)
        index = read_only(np.zeros(1, np.int64))
        if cls.coding is not None:
            bits = (np.uint16(0), np.uint16(0), np.uint16(0))
            raw = read_only(np.zeros((1, 1), np.uint16))
            planes = read_only(np.zeros(1, np.int8))
            _kernels.apply_ranges(raw, tables, planes, bits, out)
            _kernels.pick_ranges(raw, tables, planes, bits, index, 0, out[0])
            if cls.banks is not None:
                room = Scratch(WIDTH, WIDTH, 1)
                level = read_only(np.zeros((1, 1), np.uint8))
                found = (room.tile, room.turned, room.medians, room.usual, room.others, out)
                commonmode.correct(raw, tables, level, 1, planes, bits, 1, 1, 1, 1, np.float32(0), 1, *found)
            return
        for dtype in SINGLE_TYPES:
            raw = read_only(np.zeros((1, 1), dtype))
            _kernels.apply_single(raw, tables, out)
            _kernels.pick_single(raw, tables, index, 0, out[0])

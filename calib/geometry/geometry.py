"""Geometry: where the pixels of a detector are, and images of its data.

In psana's frame (`cframe=0`) x runs down the image's rows, y along its columns, and z against the beam. In the laboratory's
(`cframe=1`) z is along the beam and y up: (x, y, z) there is (-y, -x, -z) here. A geometry does not change; coordinates are computed each
time they are asked for, plans of images are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError
from calib.geometry.defaults import default_placements
from calib.geometry.image import ENTRIES, INTERPOLATED, LARGEST, LAST, MEAN, ImagePlan
from calib.geometry.interpolation import InterpolationPlan
from calib.geometry.segments import Segment
from calib.geometry.text import MOST_TEXT_BYTES, GeometryTextError, Placement, Problem, parse, write
from calib.geometry.tree import Coords, Leaf, build, to_top
from calib.geometry.view import Scale, View, ViewOptions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

_KEPT_PLANS = 4
_NEAR_UM = 1000.0
_BASE_UM = 1000.0


class Geometry:
    """The geometry of one detector. Panels are numbered from 0 in the order of their lines; arrays have them along the first axis."""

    def __init__(
        self,
        placements: Sequence[Placement],
        comments: Iterable[str] = (),
        *,
        where: str = "geometry",
        lines: Sequence[int] | None = None,
    ) -> None:
        """Build the tree of objects; `lines` are their lines in the text that `where` names.

        A positive distance of what stands on the interaction point (a parent whose name begins with IP) is made negative, as psana
        makes it. Raises GeometryTextError with everything that is wrong.
        """
        if not placements:
            raise GeometryTextError([Problem(0, "a geometry without objects", "")], where=where)
        self.placements = tuple(_against_the_beam(one) for one in placements)
        self.comments = tuple(comments)
        self.where = where
        leaves, problems = build(self.placements, lines or range(1, len(placements) + 1))
        if problems:
            raise GeometryTextError(problems, where=where)
        self._leaves: tuple[Leaf, ...] = leaves
        self._plans: dict[tuple[Any, ...], ImagePlan | InterpolationPlan] = {}

    @classmethod
    def from_text(cls, text: str, *, where: str = "geometry") -> Self:
        """Read a geometry text; `where` names it in errors. Raises GeometryTextError with every line that is wrong."""
        parsed, problems = parse(text)
        if problems:
            raise GeometryTextError(problems, where=where)
        return cls(parsed.placements, parsed.comments, where=where, lines=parsed.lines)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a file with a geometry text. Raises GeometryError where it cannot be read."""
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                text = file.read(MOST_TEXT_BYTES + 1)
        except OSError as error:
            raise GeometryError(
                error.strerror or str(error), where=str(path), hint="Name a geometry file."
            ) from error
        return cls.from_text(text, where=str(path))

    @classmethod
    def default_for(cls, dettype: str, n_segments: int) -> Self:
        """Return the default geometry of a detector type: its smallest size that has `n_segments` panels.

        `n_segments` is one more than the highest segment number. Raises GeometryError for a type without default, or too many panels.
        """
        placements, comments = default_placements(dettype, n_segments)
        return cls(placements, comments, where=f"default geometry of {dettype}")

    @classmethod
    def from_panels(
        cls,
        segment: str,
        panels: Iterable[Sequence[float]],
        *,
        name: str = "DETECTOR",
        distance_um: float = 0.0,
        rot_z: float = 0.0,
        comments: Iterable[str] = (),
    ) -> Self:
        """Make the geometry of a flat or tilted detector from the places of its panels, all of class `segment`.

        Each panel is x0, y0, z0 in um and then, as far as they are not 0, rot_z, rot_y, rot_x, tilt_z, tilt_y, tilt_x in degrees, in
        the detector's frame. The detector `name` stands `distance_um` behind the interaction point, turned by `rot_z`.
        """
        placements = [
            Placement(name, 0, segment, index, *map(float, panel)) for index, panel in enumerate(panels)
        ]
        placements.append(Placement("IP", 0, name, 0, z0=-abs(distance_um), rot_z=rot_z))
        return cls(placements, comments)

    def text(self) -> str:
        """Return the geometry text, which is read back to the same geometry, by psana too."""
        return write(self.placements, self.comments)

    def moved(self, name: str, index: int, **changes: float) -> Geometry:
        """Return a geometry with some of x0 ... tilt_x of one object set anew. Raises GeometryError where there is none."""
        if not any((one.name, one.index) == (name, index) for one in self.placements):
            listed = ", ".join(sorted({f"{one.name} {one.index}" for one in self.placements})[:8])
            raise GeometryError(
                f"there is no object {name} {index}", where=self.where, hint=f"There are {listed}."
            )
        known = [field.name for field in fields(Placement)[4:]]
        if not changes.keys() <= set(known):
            wrong = ", ".join(changes.keys() - set(known))
            raise GeometryError(
                f"an object has no {wrong}", where=self.where, hint=f"It has {', '.join(known)}."
            )
        placements = [
            Placement(**(asdict(one) | changes)) if (one.name, one.index) == (name, index) else one
            for one in self.placements
        ]
        return Geometry(placements, self.comments, where=self.where)

    @property
    def segment(self) -> Segment:
        """The class of the first panel, which gives the size of an image's bin."""
        return self._leaves[0].segment

    @property
    def segment_names(self) -> tuple[str, ...]:
        """The class of every panel."""
        return tuple(leaf.segment.name for leaf in self._leaves)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Panels, rows and columns."""
        return len(self._leaves), *self.segment.shape

    def pixel_coords(
        self, *, do_tilt: bool = True, cframe: int = 0, segments: Sequence[int] | None = None
    ) -> Coords:
        """Return x, y and z of every pixel's centre in um, float64 (panels, rows, cols) each.

        Without `do_tilt` the tilts of metrology are left out. `segments` picks panels by number, in that order.
        """
        picked = self._leaves if segments is None else [self._leaves[at] for at in self._numbers(segments)]
        shape = (len(picked), *self.segment.shape)
        x, y, z = np.empty(shape), np.empty(shape), np.empty(shape)
        for at, leaf in enumerate(picked):
            x[at], y[at], z[at] = to_top(leaf, leaf.segment.coords(), do_tilt)
        return (-y, -x, -z) if cframe > 0 else (x, y, z)

    def pixel_xy_at_z(
        self,
        zplane: float | None = None,
        *,
        do_tilt: bool = True,
        cframe: int = 0,
        segments: Sequence[int] | None = None,
    ) -> tuple[F64, F64]:
        """Return x and y in um where the lines from the interaction point to the pixels cross the plane at `zplane` um.

        Without `zplane` it is the mean z of all pixels. Nearer than 1 mm x and y are returned as they are.
        """
        x, y, z = self.pixel_coords(do_tilt=do_tilt, cframe=cframe)
        z0 = float(z.mean()) if zplane is None else float(zplane)
        if abs(z0) >= _NEAR_UM:
            beside = z == 0
            z[beside] = 1.0
            x[beside] = y[beside] = 0.0
            x, y = z0 * (x / z), z0 * (y / z)
        if segments is None:
            return x, y
        numbers = self._numbers(segments)
        return x[numbers], y[numbers]

    def pixel_indexes(
        self, *, segments: Sequence[int] | None = None, **view: Unpack[ViewOptions]
    ) -> tuple[I32, I32]:
        """Return each pixel's row and column in the image of the whole detector, int32 (panels, rows, cols) each.

        Raises GeometryError where the image would be larger than MOST_IMAGE_BINS.
        """
        rows, cols, _ = self._indexes(self._view(view))
        if segments is None:
            return rows, cols
        numbers = self._numbers(segments)
        return rows[numbers], cols[numbers]

    def image_place(self, x_um: float, y_um: float, **view: Unpack[ViewOptions]) -> tuple[float, float]:
        """Return row and column, in bins and parts of them, of a point of the frame, such as the beam's (0, 0); it may lie outside."""
        row, col = self._scale(self._view(view)).bins(np.array([float(x_um)]), np.array([float(y_um)]))
        return float(row[0]), float(col[0])

    def pixel_areas(self, *, segments: Sequence[int] | None = None) -> F64:
        """Return the pixels' areas, float64 (panels, rows, cols), in areas of an ordinary pixel: wide ones have more."""
        areas = np.stack([leaf.segment.areas() for leaf in self._leaves])
        return areas if segments is None else areas[self._numbers(segments)]

    def pixel_mask(self, *, segments: Sequence[int] | None = None, **widths: int) -> U8:
        """Return a mask, uint8 (panels, rows, cols), 0 at edges of panels and seams of ASICs; `widths` are those of `Segment.mask`."""
        mask = np.stack([leaf.segment.mask(**widths) for leaf in self._leaves])
        return mask if segments is None else mask[self._numbers(segments)]

    def plan(self, *, segments: Sequence[int] | None = None, **view: Unpack[ViewOptions]) -> ImagePlan:
        """Return how pixels of `segments` (all, without) become an image of the whole detector; the last few plans are kept."""
        numbers = None if segments is None else self._numbers(segments)
        seen = self._view(view)
        key = ("bins", numbers and tuple(numbers), seen)
        plan = self._plans.get(key)
        if not isinstance(plan, ImagePlan):
            rows, cols, shape = self._indexes(seen)
            if numbers is not None:
                rows, cols = rows[numbers], cols[numbers]
            plan = ImagePlan.of_indexes(rows, cols, shape)
            self._keep(key, plan)
        return plan

    def interpolation_plan(
        self, *, segments: Sequence[int] | None = None, **view: Unpack[ViewOptions]
    ) -> InterpolationPlan:
        """Return how the pixels around each bin of the image make its value (mapmode 4); as `plan` otherwise."""
        numbers = None if segments is None else self._numbers(segments)
        seen = self._view(view)
        key = ("between", numbers and tuple(numbers), seen)
        plan = self._plans.get(key)
        if not isinstance(plan, InterpolationPlan):
            scale = self._scale(seen)
            leaves = self._leaves if numbers is None else [self._leaves[at] for at in numbers]
            frames = [_frame(leaf, scale, seen.do_tilt) for leaf in leaves]
            plan = InterpolationPlan.of_panels([leaf.segment for leaf in leaves], frames, scale.shape)
            self._keep(key, plan)
        return plan

    def image(
        self,
        data: npt.NDArray[Any],
        *,
        segments: Sequence[int] | None = None,
        value_for_missing_segments: float | None = None,
        mapmode: int = LAST,
        fillholes: bool = True,
        vbase: float = 0.0,
        out: F32 | None = None,
        **view: Unpack[ViewOptions],
    ) -> npt.NDArray[Any]:
        """Return the image of `data`, float32 (rows, cols), as psana's `det.raw.image` makes it.

        `data` (panels, rows, cols) has the panels `segments`, or all of the detector. Where several pixels fall in a bin, `mapmode`
        takes the last (1, which is what psana draws by default), the largest (2) or the mean (3); 4 interpolates, 0 returns how many
        there are (uint16). `fillholes` gives
        empty bins among full ones the least of their four neighbours. What no pixel falls in is `vbase`; panels that are missing are,
        if given, `value_for_missing_segments`. `out` takes the image instead of a new array. Raises GeometryError for what does not
        fit.
        The image's plane is that of `view`.
        """
        if mapmode not in (ENTRIES, LAST, LARGEST, MEAN, INTERPOLATED):
            hint = "0: entries, 1: last, 2: largest, 3: mean, 4: interpolated."
            raise GeometryError(f"there is no mapmode {mapmode!r}", hint=hint)
        if value_for_missing_segments is not None and segments is not None:
            data, segments = self._completed(data, segments, value_for_missing_segments), None
        if mapmode == ENTRIES:
            return self.plan(segments=segments, **view).entries()
        if mapmode == INTERPOLATED:
            return self.interpolation_plan(segments=segments, **view).apply(data, vbase=vbase, out=out)
        plan = self.plan(segments=segments, **view)
        return plan.apply(data, mapmode=mapmode, fillholes=fillholes, vbase=vbase, out=out)

    def _completed(self, data: npt.NDArray[Any], segments: Sequence[int], value: float) -> F32:
        """Return data of all panels, those that are missing filled with a value."""
        numbers = self._numbers(segments)
        whole = np.full(self.shape, value, np.float32)
        try:
            whole[numbers] = np.asarray(data).reshape(len(numbers), *self.segment.shape)
        except ValueError:
            raise GeometryError(
                f"data of shape {np.shape(data)} are not of {len(numbers)} panels of {self.segment.shape}",
                where=self.where,
                hint="Pass data of the segments that were named.",
            ) from None
        return whole

    def _numbers(self, segments: Sequence[int]) -> list[int]:
        """Return panel numbers, each once and one of ours."""
        numbers = [int(number) for number in segments]
        wrong = sorted({number for number in numbers if not 0 <= number < len(self._leaves)})
        if wrong or not numbers or len(set(numbers)) < len(numbers):
            what = f"segments {numbers} of a geometry of {len(self._leaves)} panels"
            hint = (
                f"There is no {', '.join(map(str, wrong))}." if wrong else "Name each once, and at least one."
            )
            raise GeometryError(what, where=self.where, hint=hint)
        return numbers

    def _view(self, options: ViewOptions) -> View:
        return View.of(self.segment.scale_um, **options)

    def _scale(self, view: View) -> Scale:
        x, y, _ = self.pixel_coords(do_tilt=view.do_tilt, cframe=int(view.lab))
        return Scale(view, x, y, where=self.where)

    def _indexes(self, view: View) -> tuple[I32, I32, tuple[int, int]]:
        """Return row and column of every pixel, and the image's shape."""
        x, y, _ = self.pixel_coords(do_tilt=view.do_tilt, cframe=int(view.lab))
        scale = Scale(view, x, y, where=self.where)
        rows, cols = scale.bins(x, y)
        return rows.astype(np.int32), cols.astype(np.int32), scale.shape

    def _keep(self, key: tuple[Any, ...], plan: ImagePlan | InterpolationPlan) -> None:
        while len(self._plans) >= _KEPT_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[key] = plan


def _frame(leaf: Leaf, scale: Scale, do_tilt: bool) -> F64:
    """Return the affine way (2, 3) from um along a panel's columns and rows to bins: the image of 0, and of a step along each."""
    along_cols, along_rows = np.array([0.0, _BASE_UM, 0.0]), np.array([0.0, 0.0, _BASE_UM])
    x, y = (along_rows, along_cols) if leaf.segment.rows_along_x else (along_cols, along_rows)
    x, y, _ = to_top(leaf, (x, y, np.zeros(3)), do_tilt)
    frame: F64 = np.array(scale.bins(*((-y, -x) if scale.lab else (x, y))))
    frame[:, 1:] = (frame[:, 1:] - frame[:, :1]) / _BASE_UM
    return frame


def _against_the_beam(one: Placement) -> Placement:
    """Return a placement whose distance from the interaction point is negative, as z against the beam has it."""
    return replace(one, z0=-one.z0) if one.parent.startswith("IP") and one.z0 > 0 else one


def warm_up() -> None:
    """Compile what draws images, or load it from numba's cache, for all that is ever passed to it; before events flow."""
    geometry = Geometry.from_panels("MTRX:V2:2:2:1:1", [(0.0, 0.0, 0.0)])
    for mapmode in (LAST, LARGEST, MEAN, INTERPOLATED):
        geometry.image(np.zeros(geometry.shape, np.float32), mapmode=mapmode)

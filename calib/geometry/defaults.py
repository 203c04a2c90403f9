"""Default geometries: where the panels of each type and size of detector are when nobody has measured them.

Facts, the same as of psana's default geometries, kept as the few numbers they follow from; texts are generated. Which sizes there are
and which is taken is psana's rule too: the smallest that has a panel for every segment number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from calib.errors import GeometryError
from calib.geometry.text import Placement

Panels = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Camera:
    """One size of a detector: its name, the class of its panels and their places (x0, y0, z0, rot_z, rot_y, rot_x, tilt_z, tilt_y,
    tilt_x, as far as not 0), and its own place in the same manner; a panel that stands on the interaction point has no camera.
    """

    name: str
    segment: str
    panels: Panels
    place: tuple[float, ...]


def _through_middle(half: Sequence[tuple[float, float]], *rest: float) -> Panels:
    """Return panels of which the last lies opposite the first, the last but one opposite the second, and so on."""
    both = [*half, *((-x, -y) for x, y in reversed(half))]
    return tuple((x, y, 0.0, *rest) for x, y in both)


def _jungfrau16m() -> Panels:
    """32 panels in two halves of 4 x 4, two columns of each shifted, around a hole for the beam."""
    half = [
        (-114300.0 + 77925 * col, -146925.0 + 41250 * row + (5100 if col >= 2 else 0))
        for row in range(4)
        for col in range(4)
    ]
    return _through_middle(half)


def _epixhr20() -> Panels:
    """20 panels in two columns of ten, with a gap in the middle of each."""
    return tuple(
        (40000.0 * right, 15000.0 * up * step) for right in (1, -1) for up in (1, -1) for step in range(1, 6)
    )


_UPRIGHT = (0.0, 0.0, -10000.0, 90.0)
_FAR = (0.0, 0.0, -100000.0, 90.0)
_JUNGFRAU = (
    Camera("JFCAMERA:V1", "JUNGFRAU:V2", ((0.0, 0.0, 0.0, 90.0),), (0.0, 0.0, -10000.0)),
    Camera(
        "JFCAMERA:V1",
        "JUNGFRAU:V2",
        ((0.0, 20625.0, 0.0, 0.0, 0.0, 180.0), (0.0, -20625.0, 0.0, 0.0, 0.0, 180.0)),
        _FAR,
    ),
    Camera(
        "JFCAMERA:V1",
        "JUNGFRAU:V2",
        _through_middle(
            [(-56807.1, 44005.5), (-15557.5, 44005.5), (25692.1, 33921.7), (66941.7, 33921.7)], 90.0, 180.0
        ),
        _FAR,
    ),
    Camera("JFDET:V1", "JUNGFRAU:V2", _jungfrau16m(), (2587.5, 0.0, -100000.0, 90.0)),
)
_QUAD = Camera(
    "CAMERA",
    "EPIX10KA:V1",
    (
        (20248.0, -20908.0, -60.0, 0.0, 0.0, 0.0, -0.26706, -0.26778, 0.06324),
        (-20144.0, -20823.0, 10.0, 0.0, 0.0, 0.0, -0.00289, -0.00361, 0.25845),
        (20150.0, 20934.0, -19.0, 0.0, 0.0, 0.0, 0.25623, -0.0664, 0.05466),
        (-20254.0, 20797.0, 68.0, 0.0, 0.0, 0.0, 0.0859, -0.07868, -0.08667),
    ),
    _FAR,
)
_HR20 = Camera("DETECTOR", "EPIXHR1X4:V1", _epixhr20(), _UPRIGHT)

_CAMERAS: dict[str, tuple[Camera, ...]] = {
    "jungfrau": _JUNGFRAU,
    "epix10ka": (_QUAD,),
    "epixhr2x2": (Camera("SEGMENT", "EPIXHR2X2:V1", ((0.0,),), _UPRIGHT),),
    "epixhr1x4": (Camera("SEGMENT", "EPIXHR1X4:V1", ((0.0,),), _UPRIGHT), _HR20),
    "epixhremu": (_HR20,),
    "epixm320": (
        Camera(
            "SEGMENT",
            "EPIXMASIC:V1",
            (
                (-9600.0, 4800.0, 0.0, 180.0),
                (9600.0, 4800.0, 0.0, 180.0),
                (9600.0, -4800.0),
                (-9600.0, -4800.0),
            ),
            _UPRIGHT,
        ),
    ),
    "epixuhr": (
        Camera(
            "SEGMENT",
            "EPIXUHRASIC:V1",
            (
                (-8500.0, 9700.0, 0.0, 270.0),
                (8500.0, 9700.0, 0.0, 270.0, 180.0, 180.0),
                (8500.0, -9700.0, 0.0, 270.0, 180.0, 180.0),
                (-8500.0, -9700.0, 0.0, 270.0),
            ),
            _UPRIGHT,
        ),
    ),
    "epixuhr3x2": (Camera("EPIXUHRCAM:V1", "EPIXUHR3X2:V1", ((0.0, 18000.0), (0.0, -18000.0)), _FAR),),
    "epix100": (Camera("", "EPIX100:V1", ((0.0, 0.0, -1000000.0, 90.0, 180.0),), ()),),
}
_SAME = {
    "jungfrauemu": "jungfrau",
    "epix10kaquad": "epix10ka",
    "epixquad": "epix10ka",
    "epixhr": "epixhr2x2",
    "epix100a": "epix100",
    "epix100hw": "epix100",
}


def default_types() -> tuple[str, ...]:
    """Return the detector types that have a default geometry."""
    return (*_CAMERAS, *_SAME)


def default_placements(dettype: str, n_segments: int) -> tuple[tuple[Placement, ...], tuple[str, ...]]:
    """Return the objects of a default geometry and comments that say what it is; as `Geometry.default_for`."""
    cameras = _CAMERAS.get(_SAME.get(dettype, dettype))
    if cameras is None:
        near = get_close_matches(dettype, default_types(), n=3, cutoff=0.6)
        known = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(default_types())}."
        raise GeometryError(
            f"there is no default geometry of {dettype!r}", hint=f"{known} Or put one into the store."
        )
    camera = next((one for one in cameras if n_segments <= len(one.panels)), None)
    if camera is None or n_segments < 1:
        sizes = ", ".join(str(len(one.panels)) for one in cameras)
        raise GeometryError(
            f"there is no default geometry of {dettype} for {n_segments} segments",
            hint=f"There are those of {sizes}. Or put one into the store.",
        )
    comments = (
        f"Default geometry of {dettype}, {len(camera.panels)} panels: by design, not measured",
        "x0 y0 z0 in um, rotations and tilts in degrees",
    )
    return tuple(_placements(camera)), comments


def _placements(camera: Camera) -> Iterator[Placement]:
    """Yield the objects of a camera."""
    parent = camera.name or "IP"
    for index, panel in enumerate(camera.panels):
        yield Placement(parent, 0, camera.segment, index, *panel)
    if camera.name:
        yield Placement("IP", 0, camera.name, 0, *camera.place)

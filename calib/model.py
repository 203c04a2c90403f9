"""What a calibration constant is: its type, its panels, its validity, its digest; and what any source of constants must do.

It knows no store, no network and no detector's formula. Names and dtypes of the types are those of LCLS's calibration database, so
that psana reads what we keep.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calib.errors import ConstantsMisshapen

MAX_VALUE_BYTES = 1 << 29  # status of 32 Jungfrau panels is 403 MB
MAX_TEXT_BYTES = 16 << 20
MAX_NDIM = 8
LAST_RUN = 9999  # LCLS's largest run number: "for ever", and what run 0 is asked as

Value = NDArray[Any] | str


@dataclass(frozen=True, slots=True)
class CType:
    """A type of constant: its dtype (None for text), and whether it has a value for each pixel, panel by panel."""

    dtype: np.dtype[Any] | None
    per_pixel: bool
    what: str


def _pixels(dtype: str, what: str) -> CType:
    return CType(np.dtype(dtype), True, what)


CTYPES: Mapping[str, CType] = MappingProxyType(
    {
        "pedestals": _pixels("<f4", "mean of dark frames, ADU"),
        "pixel_rms": _pixels("<f4", "noise of dark frames, ADU"),
        "pixel_status": _pixels("<u8", "bits of what is wrong with a pixel, 0 where it is good"),
        "pixel_gain": _pixels("<f4", "gain, ADU/keV"),
        "pixel_offset": _pixels("<f4", "added to the pedestal, ADU"),
        "pixel_mask": _pixels("<u1", "1 good, 0 not to be used"),
        "pixel_bkgd": _pixels("<f4", "background, ADU"),
        "pixel_datast": _pixels("<u2", "status of the data that made the constants"),
        "pixel_max": _pixels("<u8", "largest raw value seen"),
        "pixel_min": _pixels("<u8", "smallest raw value seen"),
        "status_extra": _pixels("<u8", "more bits of status"),
        "users_mask": _pixels("<u1", "a user's own mask, 1 good"),
        "common_mode": CType(np.dtype("<f8"), False, "parameters of the common mode correction"),
        "geometry": CType(None, False, "where the panels are, LCLS's text format"),
        "code_geometry": CType(None, False, "geometry made by a program, text"),
    }
)


@dataclass(frozen=True, slots=True)
class DetectorId:
    """A detector as a Configure names it: `name` is the detname, `serials` the detids of its panels in segment order.

    With no serials a detector is known by name alone, and whole.
    """

    name: str
    dettype: str
    serials: tuple[str, ...] = ()

    @property
    def long_name(self) -> str:
        """LCLS's unique name: the type and all serials, joined by underscores."""
        return "_".join((self.dettype, *self.serials))

    def __str__(self) -> str:
        panels = f"{len(self.serials)} panel{'s'[: len(self.serials) != 1]}"
        return f"{self.name} ({self.dettype}, {panels})" if self.serials else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """One type of constant of one detector; `make` is how to get one that is checked.

    `serials` are the panels along the segment axis, which is the third from the end; () for what has no panels. `run_end` None is
    for ever; an empty `experiment` is any. `created` is in seconds since 1970. `digest` is the SHA-256 of dtype, shape and bytes; `put_digest`
    that of the value as it was put, of which this may be some panels. `id` is that of its document, where it comes from a source.
    """

    ctype: str
    value: Value
    serials: tuple[str, ...] = ()
    experiment: str = ""
    run: int = 0
    run_end: int | None = None
    version: str = ""
    comment: str = ""
    created: float = 0.0
    digest: str = ""
    put_digest: str = ""
    id: str = ""

    @classmethod
    def make(
        cls,
        ctype: str,
        value: Value,
        serials: tuple[str, ...] = (),
        *,
        experiment: str = "",
        run: int = 0,
        run_end: int | None = None,
        version: str = "",
        comment: str = "",
        created: float = 0.0,
    ) -> Constant:
        """Return a constant whose value has the dtype of its type, C order, little-endian, read-only, with its digest.

        Raises ConstantsMisshapen for an unknown type, a value that its dtype cannot hold, panels that do not fit the shape, or a run
        range that ends before it begins.
        """
        kind = known_ctype(ctype)
        value = checked_value(ctype, kind, value)
        if run < 0 or (run_end is not None and run_end < run):
            raise ConstantsMisshapen(
                f"{ctype}: runs {run} to {run_end} are no range", hint="Runs count from 0."
            )
        if kind.per_pixel and serials:
            blocks_per_panel(ctype, np.shape(value), serials)
        elif not kind.per_pixel:
            serials = ()
        digest = digest_of(value)
        return cls(ctype, value, serials, experiment, run, run_end, version, comment, created, digest, digest)


class Source(Protocol):
    """Where constants come from: a store on this machine, or a service."""

    @property
    def url(self) -> str:
        """What `open_source` was given: for messages and records."""

    def find(
        self,
        detector: DetectorId,
        experiment: str | None,
        run: int,
        *,
        ctypes: Collection[str] | None = None,
    ) -> dict[str, Constant]:
        """Return the latest valid constant of each type (of `ctypes`, where given), sliced and ordered to the detector's serials.

        A type that is nowhere is not in the answer. Raises ConstantsMissing where constants exist for some of the panels and a
        panel is in none of them; StoreError or ServiceError where the source cannot be read.
        """

    def close(self) -> None:
        """Let go of files and connections; closing twice does no harm."""


def known_ctype(name: str) -> CType:
    """Return what is known of a type; raise ConstantsMisshapen naming the near misses."""
    kind = CTYPES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, CTYPES, n=3, cutoff=0.4) or list(CTYPES)
        raise ConstantsMisshapen(
            f"there is no type of constant {name!r}", hint=f"Known are: {', '.join(near)}."
        )
    return kind


def checked_value(ctype: str, kind: CType, value: Value) -> Value:
    """Return the value in the dtype of its type, C-contiguous and read-only; text as it is.

    A float may lose precision, an integer must keep its value. Raises ConstantsMisshapen otherwise, and where it is empty or
    larger than the limits.
    """
    if kind.dtype is None:
        if not isinstance(value, str):
            raise ConstantsMisshapen(f"{ctype} is text, not an array")
        if len(utf8(value, ctype)) > MAX_TEXT_BYTES:
            raise ConstantsMisshapen(f"{ctype}: the text is longer than {MAX_TEXT_BYTES} bytes")
        return value
    if not isinstance(value, np.ndarray):
        raise ConstantsMisshapen(f"{ctype} is an array of {kind.dtype.name}, not {type(value).__name__}")
    if not 1 <= value.ndim <= MAX_NDIM or value.size == 0:
        raise ConstantsMisshapen(f"{ctype}: an array of shape {value.shape} holds no constants")
    if value.size * kind.dtype.itemsize > MAX_VALUE_BYTES:
        raise ConstantsMisshapen(
            f"{ctype}: {value.shape} of {kind.dtype.name} is more than {MAX_VALUE_BYTES} bytes"
        )
    cast = _cast(ctype, kind.dtype, value)
    if cast.flags.writeable:
        cast = cast.view()
        cast.flags.writeable = False
    return cast


def utf8(text: str, what: str) -> bytes:
    """Return text in UTF-8; raise ConstantsMisshapen where it holds what no text can, such as half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConstantsMisshapen(f"{what} is not UTF-8") from None


def _cast(ctype: str, dtype: np.dtype[Any], value: NDArray[Any]) -> NDArray[Any]:
    if value.dtype == dtype and value.flags.c_contiguous:
        return value
    if value.dtype.kind not in "fiub" or (dtype.kind != "f" and value.dtype.kind == "f"):
        raise ConstantsMisshapen(f"{ctype} is an array of {dtype.name}, not {value.dtype.name}")
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(value, dtype)
    kept = np.isfinite(cast) == np.isfinite(value) if dtype.kind == "f" else (cast == value) & ~(value < 0)
    if not kept.all():
        raise ConstantsMisshapen(
            f"{ctype}: {dtype.name} cannot hold every value of this {value.dtype.name} array"
        )
    return cast


def digest_of(value: Value) -> str:
    """Return the SHA-256 of a value, hex: of its dtype and shape as text, a line end, and its bytes in C order."""
    if isinstance(value, str):
        return hashlib.sha256(b"str\n" + utf8(value, "the text")).hexdigest()
    array = np.ascontiguousarray(value)
    found = hashlib.sha256(f"{array.dtype.str}{list(array.shape)}\n".encode())
    found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def blocks_per_panel(ctype: str, shape: tuple[int, ...], serials: tuple[str, ...]) -> int:
    """Return how many entries of the segment axis belong to one panel: 1, or more where a panel has several ASICs.

    One panel owns all there is, with a segment axis or without. Raises ConstantsMisshapen.
    """
    if len(set(serials)) != len(serials):
        twice = next(one for one in serials if serials.count(one) > 1)
        raise ConstantsMisshapen(
            f"{ctype}: two panels have the same serial {twice!r}, so they cannot be told apart",
            hint="Give every panel its own serial number.",
        )
    if len(serials) <= 1:
        return shape[-3] if len(shape) >= 3 else 1
    if len(shape) < 3 or shape[-3] % len(serials) or (len(shape) == 3 and shape[-3] != len(serials)):
        raise ConstantsMisshapen(
            f"{ctype}: shape {shape} does not hold {len(serials)} panels along the third axis from the end",
            hint="Shapes are (gain ranges, panels, rows, columns) or (panels, rows, columns).",
        )
    return shape[-3] // len(serials)

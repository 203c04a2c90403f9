"""Where a detector stands, as pyFAI's PONI files say it: read, checked, and given as one frozen object. It knows no pixels.

The point of normal incidence (PONI) is where the line through the sample at a right angle to the detector meets it: `distance` from the sample,
`poni1` along the slow axis of the detector (its rows) and `poni2` along the fast one (Kieffer and others, J. Synchrotron Rad. 27, 558 (2020),
section 2). Versions 1, 2 and 2.1 of the file are read; those after them also, as far as they say the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp.fex.errors import FexError

KEV_M = 12.398419843320026e-10
"""Energy of a photon (keV) times its wavelength (m)."""
WAVELENGTHS_M = 1e-12, 1e-7
"""Least and largest that a wavelength may be: one in other units than m, or of an energy in eV, lies outside."""
SIZE_LIMIT = 1 << 20
NEWEST = 3.0
ORIENTATIONS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Poni:
    """Distances in m, rotations in radians. `pixel_m` and `shape` are those of a row and of a column, None where the file does not say."""

    distance: float = 0.0
    poni1: float = 0.0
    poni2: float = 0.0
    rot1: float = 0.0
    rot2: float = 0.0
    rot3: float = 0.0
    wavelength: float | None = None
    detector: str = ""
    pixel_m: tuple[float, float] | None = None
    shape: tuple[int, int] | None = None
    orientation: int = 3
    """Where the first pixel is, seen from the sample: 1 top left, 2 top right, 3 bottom right (as pyFAI, where nothing is said), 4 bottom left."""

    def __post_init__(self) -> None:
        numbers = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3")
        wrong = [name for name in numbers if not math.isfinite(getattr(self, name))]
        positive = {"wavelength": self.wavelength}
        positive |= {f"pixel_m[{at}]": one for at, one in enumerate(self.pixel_m or ())}
        wrong += [
            name for name, one in positive.items() if one is not None and not (math.isfinite(one) and one > 0)
        ]
        if wrong:
            raise FexError(f"no finite numbers, or lengths that are not positive: {', '.join(wrong)}")
        least, most = WAVELENGTHS_M
        if self.wavelength is not None and not least <= self.wavelength <= most:
            raise FexError(
                f"a wavelength of {self.wavelength:g} m, or {KEV_M / self.wavelength:g} keV, is none of X-rays",
                "Give wavelengths in m, energies in keV",
            )
        if self.orientation not in ORIENTATIONS:
            raise FexError(f"orientation {self.orientation} is none of {ORIENTATIONS}")

    @classmethod
    def of_energy(cls, photon_kev: float | None) -> Poni:
        """Return what is known without a file: the wavelength of photons of that energy, if that is known. Raises FexError."""
        if photon_kev is not None and not photon_kev > 0:
            raise FexError(f"no photon has an energy of {photon_kev:g} keV")
        return cls(wavelength=None if photon_kev is None else KEV_M / photon_kev)

    @classmethod
    def read(cls, path: str | Path) -> Poni:
        """Read a PONI file; of a file that holds several, as pyFAI appends them, the last. Raises FexError, OSError."""
        path = Path(path)
        if path.stat().st_size > SIZE_LIMIT:
            raise FexError(f"{path} is too large for a PONI file")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FexError(f"{path} is no PONI file: {error}") from error
        try:
            return cls._of(_entries(text))
        except FexError as error:
            raise FexError(f"{path}: {error.what}", error.hint) from error

    @classmethod
    def _of(cls, entries: Mapping[str, str]) -> Poni:
        version = _number(entries, "poni_version", 1.0)
        if version > NEWEST:
            raise FexError(
                f"poni_version {version:g} is newer than what is known ({NEWEST:g})", "Write it as 2.1"
            )
        if entries.get("parallax", "false").lower() == "true":
            raise FexError("parallax is not corrected for", "Write the file without it")
        detector = entries.get("detector", "")
        config = _config(entries) if version >= 2 else {}
        for key in ("pixelsize1", "pixelsize2"):  # version 1 has them beside the detector
            if key in entries:
                config.setdefault(key.replace("size", ""), _number(entries, key))
        distance = "dist" if "dist" in entries else "distance"
        wavelength = entries.get("wavelength", "none")
        return cls(
            distance=_number(entries, distance),
            **{key: _number(entries, key) for key in ("poni1", "poni2")},
            **{key: _number(entries, key, 0.0) for key in ("rot1", "rot2", "rot3")},
            wavelength=None if wavelength.lower() == "none" else _number(entries, "wavelength"),
            detector=detector,
            pixel_m=_pair(config, "pixel1", "pixel2"),
            shape=_shape(config),
            orientation=_orientation(config),
        )


def _entries(text: str) -> dict[str, str]:
    """Return the entries of a file; later ones replace earlier ones."""
    entries: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            key, colon, value = line.partition(":")
            if not colon:
                raise FexError(f"line {number} is no entry such as `Distance: 0.1`: {line.strip()[:60]!r}")
            entries[key.strip().lower()] = value.strip()
    return entries


def _number(entries: Mapping[str, str], key: str, default: float | None = None) -> float:
    text = entries.get(key)
    if text is None:
        if default is None:
            raise FexError(f"there is no {key}", "A PONI file is what pyFAI-calib2 writes")
        return default
    try:
        return float(text)
    except ValueError:
        raise FexError(f"{key} is no number: {text[:60]!r}") from None


def _config(entries: Mapping[str, str]) -> dict[str, Any]:
    text = entries.get("detector_config", "{}")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise FexError(f"detector_config is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise FexError(f"detector_config is no JSON object: {text[:60]!r}")
    return config


def _pair(config: Mapping[str, Any], first: str, second: str) -> tuple[float, float] | None:
    if config.get(first) is None or config.get(second) is None:
        return None
    try:
        return float(config[first]), float(config[second])
    except (TypeError, ValueError):
        raise FexError(
            f"{first} and {second} are no numbers: {config[first]!r}, {config[second]!r}"
        ) from None


def _shape(config: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = config.get("max_shape")
    if shape is None:
        return None
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(isinstance(one, int) and one > 0 for one in shape)
    ):
        raise FexError(f"max_shape is no pair of rows and columns: {shape!r}")
    return shape[0], shape[1]


def _orientation(config: Mapping[str, Any]) -> int:
    value = config.get("orientation") or 3
    if not isinstance(value, int):
        raise FexError(f"orientation is no whole number: {value!r}")
    return value

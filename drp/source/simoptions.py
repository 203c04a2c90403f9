"""What a user writes after `sim:`, as one frozen object: `TYPE[:SIZE],key=value,...`, or `TYPESIZE` of a camera. It knows the names of
options, not what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from drp.core.errors import SourceError
from drp.source.base import near_misses
from drp.source.sharing import MOST_SIGMA

CAMERA_KINDS = ("epixhr", "jungfrau")
KINDS = (*CAMERA_KINDS, "digitizer", "timetool")
RING_ON = 0.5
MAX_MEAN = 50.0
_ON_OFF = {"on": True, "off": False}


@dataclass(frozen=True, slots=True)
class SimOptions:
    """What is simulated. The same options give the same bytes."""

    kind: str = "epixhr"
    size: str = ""
    """`2M`, `4M` ... of a camera; samples of a digitizer or a time tool. Empty: the kind's own."""
    segments: int | None = None
    """Segments of a camera, in place of those its size has."""
    name: str = ""
    """detname; empty: the kind."""
    seed: int = 1
    frames: int = 64
    """Distinct events, dealt in turn."""
    rate_hz: float | None = None
    """Events per second; None: as fast as they are taken, with the pulse ids and times of 1 kHz."""
    slow_hz: float = 1.0
    """SlowUpdates per second of the events' own time; 0: none."""
    steps: int = 1
    step_events: int | None = None
    """Events of a step; None: the caller's events divided by the steps, or 100. The last step goes on."""
    run: int = 1
    photons: float = 0.02
    """Mean photons per pixel and event, everywhere."""
    ring: float = RING_ON
    """Mean photons per pixel at the crest of the water ring; 0: none."""
    peaks: int = 40
    """Bragg peaks of each event."""
    energy_kev: float = 9.5
    """Energy of a photon."""
    sharing: float = 0.0
    """Width (sigma) in pixels of the cloud of charge that a photon makes; 0: all of it is in one pixel."""
    noise: float = 1.0
    """Factor on the electronics' noise."""
    dark: bool = False
    """A dark run: no photons, and one step for each gain range, which all pixels are held in."""
    pulses: int = 1
    """Pulses of each waveform of a digitizer."""
    rise: float = 0.0
    """Samples from the arrival of a digitizer's pulse to its top, of a smooth form; 0: a form that rises within a sample."""
    references: int = 10
    """Every so many-th event of a time tool is without the beam, and has no edge; 0: none is."""
    constants: str = ""
    """URL of a calibration store that the true constants and geometry are put in; empty: none."""

    def __post_init__(self) -> None:
        _in_range("seed", self.seed, 0, (1 << 63) - 1)
        _in_range("frames", self.frames, 1, 100_000)
        _in_range("slow", self.slow_hz, 0, 1e6)
        _in_range("steps", self.steps, 1, 1_000_000)
        _in_range("run", self.run, 0, (1 << 32) - 1)
        _in_range("photons", self.photons, 0, MAX_MEAN / 2)
        _in_range("ring", self.ring, 0, MAX_MEAN / 2)
        _in_range("peaks", self.peaks, 0, 100_000)
        _in_range("energy", self.energy_kev, 0.1, 1000)
        _in_range("sharing", self.sharing, 0, MOST_SIGMA)
        _in_range("noise", self.noise, 0, 100)
        _in_range("pulses", self.pulses, 0, 10_000)
        _in_range("rise", self.rise, 0, 1000)
        _in_range("references", self.references, 0, 100_000)
        if self.segments is not None:
            _in_range("segments", self.segments, 1, 64)
        if self.rate_hz is not None:
            _in_range("rate", self.rate_hz, 1e-3, 1e9)
        if self.step_events is not None:
            _in_range("step_events", self.step_events, 1, 1 << 40)

    @property
    def detname(self) -> str:
        """The name of the detector."""
        return self.name or self.kind


def parse(text: str) -> SimOptions:
    """Read `TYPE[:SIZE],key=value,...`; SourceError names what is unknown and what looks like it."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    kind, size = "epixhr", ""
    if words and "=" not in words[0]:
        kind, _, size = words.pop(0).partition(":")
        kind, size = _parted(kind, size)
    if kind not in KINDS:
        raise SourceError(
            f"the simulator has no detector {kind!r}{near_misses(kind, KINDS)}",
            source="sim",
            hint=f"Known are {', '.join(KINDS)}",
        )
    known = _KEYS | (_CAMERA_KEYS if kind in CAMERA_KINDS else _KEYS_OF[kind])
    values: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in known:
            raise SourceError(
                f"{kind} has no option {key!r}{near_misses(key, list(known))}",
                source="sim",
                hint=f"Known are {', '.join(known)}",
            )
        field, convert = known[key]
        if field in values:
            raise SourceError(f"the option {key!r} is given twice", source="sim")
        values[field] = _convert(key, value, convert)
    options = replace(SimOptions(kind=kind, size=size), **values)
    return _darkened(options, values) if options.dark else options


def _parted(kind: str, size: str) -> tuple[str, str]:
    """Return kind and size, also of one word such as `epixhr2m`."""
    for known in CAMERA_KINDS:
        rest = kind.removeprefix(known)
        if not size and rest[:1].isdigit() and kind != rest:
            return known, rest.replace("m", "M")
    return kind, size


def _darkened(options: SimOptions, given: dict[str, Any]) -> SimOptions:
    """Return the options without light; SourceError where light, or other steps, were asked for."""
    for field, key in _NOT_IN_THE_DARK.items():
        if given.get(field):
            raise SourceError(
                f"a dark run has no {key}={given[field]:g}",
                source="sim",
                hint="It has no light, and a step for each gain range: leave that option out",
            )
    return replace(options, photons=0.0, ring=0.0, peaks=0)


def _convert(key: str, value: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(value)
    except ValueError:
        raise SourceError(f"the option {key!r} cannot be {value!r}", source="sim") from None


def _ring(value: str) -> float:
    if value in _ON_OFF:
        return RING_ON if _ON_OFF[value] else 0.0
    return float(value)


def _switch(value: str) -> bool:
    if value not in _ON_OFF:
        raise ValueError(value)
    return _ON_OFF[value]


def _text(value: str) -> str:
    if not value.isidentifier() or not value.isascii():
        raise ValueError(value)
    return value


def _in_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SourceError(f"the option {key!r} is {low:g} to {high:g}, not {value:g}", source="sim")


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("name", _text),
    "seed": ("seed", int),
    "frames": ("frames", int),
    "rate": ("rate_hz", float),
    "slow": ("slow_hz", float),
    "steps": ("steps", int),
    "step_events": ("step_events", int),
    "run": ("run", int),
    "noise": ("noise", float),
}
_CAMERA_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "segments": ("segments", int),
    "photons": ("photons", float),
    "ring": ("ring", _ring),
    "peaks": ("peaks", int),
    "energy": ("energy_kev", float),
    "sharing": ("sharing", float),
    "dark": ("dark", _switch),
    "constants": ("constants", str),
}
_KEYS_OF: dict[str, dict[str, tuple[str, Callable[[str], Any]]]] = {
    "digitizer": {"pulses": ("pulses", int), "rise": ("rise", float)},
    "timetool": {"references": ("references", int)},
}
_NOT_IN_THE_DARK = {"photons": "photons", "ring": "ring", "peaks": "peaks", "steps": "steps"}

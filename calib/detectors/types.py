"""Which correction a detector type has. A new detector is a line here."""

from __future__ import annotations

from calib.detectors.base import Correction
from calib.detectors.epix10ka import Epix10ka, EpixHr1x4, EpixHr2x2, EpixHrEmu
from calib.detectors.epixm320 import EpixM320
from calib.detectors.epixuhr import EpixUhr1x4, EpixUhr3x2
from calib.detectors.facts import DetectorSetup
from calib.detectors.generic import Epix100, Generic
from calib.detectors.jungfrau import Jungfrau

CORRECTIONS: dict[str, type[Correction]] = {
    "jungfrau": Jungfrau,
    "jungfrauemu": Jungfrau,
    "epix10ka": Epix10ka,
    "epix10k": Epix10ka,
    "epixquad": Epix10ka,
    "epix": Epix10ka,
    "epixhr2x2": EpixHr2x2,
    "epixhr1x4": EpixHr1x4,
    "epixhremu": EpixHrEmu,
    "epixm320": EpixM320,
    "epixuhr3x2": EpixUhr3x2,
    "epixuhr": EpixUhr1x4,
    "epix100": Epix100,
}


def correction_type(setup: DetectorSetup) -> type[Correction]:
    """Return the correction of a detector; one that has none of its own is corrected as a detector of one range."""
    return CORRECTIONS.get(setup.dettype, Generic)


def corrections() -> tuple[type[Correction], ...]:
    """Return every correction there is, each once: what a process that compiles kernels beforehand goes through."""
    return tuple(dict.fromkeys((*CORRECTIONS.values(), Generic)))

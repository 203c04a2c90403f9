"""Which correction a detector type has. A new detector is a line here."""

from __future__ import annotations

from calib.detectors.base import Correction, DetectorSetup
from calib.detectors.generic import Epix100, Generic
from calib.detectors.jungfrau import Jungfrau

CORRECTIONS: dict[str, type[Correction]] = {
    "jungfrau": Jungfrau,
    "jungfrauemu": Jungfrau,
    "epix100": Epix100,
}


def correction_type(setup: DetectorSetup) -> type[Correction]:
    """Return the correction of a detector; one that has none of its own is corrected as a detector of one range."""
    return CORRECTIONS.get(setup.dettype, Generic)


def corrections() -> tuple[type[Correction], ...]:
    """Return every correction there is, each once: what a process that compiles kernels beforehand goes through."""
    return tuple(dict.fromkeys((*CORRECTIONS.values(), Generic)))

"""What a store says of what it holds: a detector, and one document, without the payload."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredDetector:
    """A set of panels in their order; `number` counts the detectors of a type from 1."""

    id: int
    dettype: str
    number: int
    serials: tuple[str, ...]

    @property
    def short_name(self) -> str:
        """LCLS's short name, such as jungfrau_000001."""
        return f"{self.dettype}_{self.number:06d}"

    @property
    def long_name(self) -> str:
        """LCLS's long name: the type and all serials."""
        return "_".join((self.dettype, *self.serials))


@dataclass(frozen=True, slots=True)
class Record:
    """One constant that was put: whose, what, for which runs, when and by whom; `dtype` is empty for text.

    `created` is in seconds since 1970, `run_end` None for ever. `id` is the store's own and rises with every put.
    """

    id: int
    detector: StoredDetector
    detname: str
    experiment: str
    ctype: str
    run: int
    run_end: int | None
    version: str
    comment: str
    created: float
    username: str
    host: str
    dtype: str
    shape: tuple[int, ...]
    digest: str
    size_bytes: int

    @property
    def panels(self) -> tuple[str, ...]:
        """The serials of the detector that it was put for."""
        return self.detector.serials

    def __str__(self) -> str:
        runs = f"run {self.run}" + ("-" if self.run_end is None else f"-{self.run_end}")
        return f"{self.detname} {self.ctype} of {self.experiment or 'any experiment'}, {runs} (id {self.id})"


def detector_key(dettype: str, serials: tuple[str, ...]) -> str:
    """Return what tells detectors apart: a digest of type and serials in order."""
    return hashlib.sha256(json.dumps([dettype, *serials]).encode()).hexdigest()

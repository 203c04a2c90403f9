"""Detectors as a script sees them: `det.raw.raw(evt)`, `det.<alg>.<field>(evt)`, `det.config`, and environment variables.

They are built once for a Configure; per event only the field readers work. Nothing here knows how events come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from drp.script._event import Stream
from drp.script._fields import FieldReader
from drp.script.calibrated_alg import CalibratedAlg
from drp.script.compressed_alg import CompressedAlg, is_compressed
from drp.script.env import EnvStore
from drp.script.errors import CalibrationError, ScriptError, near_misses
from drp.script.setup import Namespace, Part, Setup
from xtc import DataType, Field
from xtc.codes import DTYPES

if TYPE_CHECKING:
    from calib.detectors import DetectorSetup
    from drp.script.calibrated import Calibration
    from drp.script.calibrated_alg import MakeCalibration


class AlgInterface(CalibratedAlg):
    """One alg of a detector. Each field is a function of the event; nested names are nested attributes.

    `raw(evt)` is the alg's main array, all segments of it; `segments(evt)` is the same as one array per segment. `fields` tells
    (numpy dtype, rank) of each field of a segment, of the main array also as "raw".
    """

    def __init__(self, stream: Stream, setup: Setup, det: str, alg: str) -> None:
        parts = setup.parts[(det, alg)]
        self._det_name = det
        self._alg = alg
        self._setup = setup
        self._dettype = parts[0].names.dettype
        self._uniqueid = "_".join((self._dettype, *(part.names.detid for part in parts)))
        self._segment_numbers = [part.names.segment for part in parts]
        self._sorted_segment_inds = self._segment_numbers
        self._shown: list[str] = []
        self.fields = {one.label: (DTYPES[one.dtype], one.rank) for one in parts[0].names.fields}
        fields = parts[0].names.fields
        main = main_field(alg, fields)
        for field in fields:
            if field.dtype == DataType.ENUMDICT:
                continue
            reader = make_reader(stream, det, alg, field, parts)
            if field is main:
                self.fields["raw"] = (DTYPES[field.dtype], field.rank)
                self.segments: Callable[..., list[Any] | None] = reader.segments
                self._put("raw", reader.stack)
                if field.label == "raw":
                    continue
            self._put(field.label, reader.stack if field is main else reader.value)

    def _put(self, path: str, call: Callable[..., Any]) -> None:
        head, _, rest = path.partition(".")
        self._shown.append(path)
        if not rest:
            self.__dict__[head] = call
            return
        inner = self.__dict__.setdefault(head, Namespace())
        if isinstance(inner, Namespace):
            inner.put(rest, call)

    def _holds_frames(self, setup: DetectorSetup) -> bool:
        """Say whether the alg's data are frames of the detector that calibration knows."""
        return setup.alg == self._alg and "raw" in self.fields

    def _seg_configs(self) -> dict[int, Namespace]:
        return self._setup.configs(self._det_name)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self._det_name}.{self._alg} has no field {name!r}. {near_misses(name, self._shown)}"
        )

    def __repr__(self) -> str:
        return f"<{self._det_name}.{self._alg}: {', '.join(self._shown)}>"


class CompressedInterface(CompressedAlg, AlgInterface):
    """An alg of compressed frames: its fields, and `array`, `calib` and `image` of what is in them."""


def main_field(alg: str, fields: tuple[Field, ...]) -> Field | None:
    """Return the field that is an alg's data: the array named `raw` or as the alg, else its only array; None for compressed frames."""
    if is_compressed(fields):
        return None
    arrays = [one for one in fields if one.rank and one.dtype != DataType.CHARSTR]
    for name in ("raw", alg):
        for one in arrays:
            if one.name == name:
                return one
    return arrays[0] if len(arrays) == 1 else None


def make_reader(stream: Stream, det: str, alg: str, field: Field, parts: list[Part]) -> FieldReader:
    """Return the reader of one field over the segments that have it."""
    found = []
    labels = []
    for part in parts:
        for place, one in enumerate(part.names.fields):
            if (one.name, one.dtype, one.rank) == (field.name, field.dtype, field.rank):
                found.append((part.names.segment, part.names.names_id, part.layout, place))
    if field.dtype == DataType.ENUMVAL:
        labels = [
            (place, one.name.partition(":")[0])
            for place, one in enumerate(parts[0].names.fields)
            if one.dtype == DataType.ENUMDICT and one.enum_type == field.enum_type
        ]
    return FieldReader(stream, f"{det}.{alg}.{field.label}", found, int(field.dtype), field.rank, labels)


class Detector:
    """One detector; its algs are its attributes. `config` is {segment: configuration values}."""

    def __init__(self, stream: Stream, setup: Setup, name: str) -> None:
        algs = setup.algs(name)
        if not algs and (name, "config") not in setup.parts:
            raise ScriptError(f"detector {name!r} has no data")
        self._det_name = name
        self._setup = setup
        self._algs = algs
        for alg in algs:
            fields = setup.parts[(name, alg)][0].names.fields
            kind = CompressedInterface if is_compressed(fields) else AlgInterface
            self.__dict__[alg] = kind(stream, setup, name, alg)

    @property
    def config(self) -> dict[int, Namespace]:
        """The values of alg `config` for each segment, as they stand now; those of BeginRun and BeginStep are merged in."""
        return {
            segment: tree.config
            for segment, tree in self._setup.configs(self._det_name).items()
            if tree.has("config")
        }

    def set_calibration(self, make: MakeCalibration) -> None:
        """Say what makes the calibration of an alg, once it is asked for."""
        for alg in self._algs:
            self.__dict__[alg]._make = make

    def calibration(self) -> Calibration:
        """Return the calibration of the detector's frames; raise CalibrationError where it has none."""
        setup = self._setup.calibration().get(self._det_name)
        if setup is None:
            raise CalibrationError(f"{self._det_name} has no frames that can be calibrated")
        made: Calibration = self.__dict__[setup.alg]._calibration()
        return made

    @property
    def setup(self) -> DetectorSetup | None:
        """The detector as calibration knows it: type, panels with serial numbers, shapes, configuration of the Configure; None where it has no
        alg raw or fex.
        """
        return self._setup.calibration().get(self._det_name)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"detector {self._det_name!r} has no alg {name!r}. {near_misses(name, self._algs)}"
        )

    def __repr__(self) -> str:
        return f"<Detector {self._det_name}: {', '.join(self._algs)}>"


class MissingDetector:
    """What `Detector(name, accept_missing=True)` gives for a detector that is not there: any call of any attribute is None."""

    def __getattr__(self, name: str) -> MissingDetector:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class EnvDetector:
    """An epics or scan variable: call it with an event or a step for the value in force, None before the first one."""

    def __init__(self, store: EnvStore, field: str) -> None:
        self._store = store
        self._field = field
        self._det_name = store.name
        self.dtype = store.dtypes[field]

    def __call__(self, evt: Any) -> Any:
        return None if evt is None else self._store.values.get(self._field)

    def __repr__(self) -> str:
        return f"<{self._store.name} variable {self._field}>"

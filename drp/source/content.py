"""What the simulator's dgrams hold: schemas, configuration and events of each kind of detector, as encoded
Xtcs.

It knows nothing of time, order or slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drp.core.errors import SourceError
from drp.source.simoptions import CAMERA_KINDS, SimOptions
from drp.source.timetool import TimeToolTruth
from drp.source.truth import SimTruth
from drp.source.waveforms import WaveformTruth
from xtc import Alg, DataType, Field, Names, encode_shapes_data

NODE = 1
RUNINFO_INDEX = 255
_PV_PREFIX = "SIM"
_EPICS_FIELDS = (
    Field("counter", DataType.UINT64),
    Field("temperature", DataType.DOUBLE),
    Field("shutter", DataType.CHARSTR, 1),
)


class Content(Protocol):
    """A detector's share of the dgrams. All its Names lie on NODE, from index 0 without gaps."""

    @property
    def truth(self) -> SimTruth | WaveformTruth | TimeToolTruth:
        """What is really in the events."""

    @property
    def names(self) -> tuple[Names, ...]:
        """Schemas of data and configuration."""

    def configure(self) -> list[bytes]:
        """Return the ShapesData of the Configure."""

    def event(self, frame: int, forced: int | None = None) -> list[bytes]:
        """Return the ShapesData of one event, its pixels held in the gain range `forced` where one is given."""


def content_of(options: SimOptions) -> Content:
    """Return the content that `options` ask for; SourceError where they cannot be met."""
    if options.kind in CAMERA_KINDS:
        return CameraContent(options)
    return TimeToolContent(options) if options.kind == "timetool" else WaveformContent(options)


class CameraContent:
    """A camera: `raw` and `config` of each segment."""

    def __init__(self, options: SimOptions) -> None:
        self.truth = SimTruth(options)
        camera = self.truth.camera
        segments = range(self.truth.segments)
        raw = tuple(self._schema(one, one, camera.raw_alg, camera.raw_fields) for one in segments)
        fields = tuple(field for field, _ in camera.config)
        config = tuple(self._schema(len(raw) + one, one, camera.config_alg, fields) for one in segments)
        self._raw, self._config = raw, config
        self._pixels = np.empty(self.truth.shape, np.uint16)
        self.names = (*raw, *config)

    def _schema(self, index: int, segment: int, alg: Alg, fields: tuple[Field, ...]) -> Names:
        camera = self.truth.camera
        detname = self.truth.options.detname
        return Names(NODE << 8 | index, camera.dettype, detname, camera.detid(segment), segment, alg, fields)

    def configure(self) -> list[bytes]:
        """Return the configuration of each segment."""
        values = [value for _, value in self.truth.camera.config]
        return [encode_shapes_data(names, values) for names in self._config]

    def event(self, frame: int, forced: int | None = None) -> list[bytes]:
        """Return the pixels of each segment."""
        pixels = self.truth.raw(frame, self._pixels, forced=forced)
        values = self.truth.camera.raw_values
        return [
            encode_shapes_data(names, values(one, frame))
            for names, one in zip(self._raw, pixels, strict=True)
        ]


class WaveformContent:
    """A digitizer: one waveform and two scalars."""

    def __init__(self, options: SimOptions) -> None:
        self.truth = WaveformTruth(options)
        fields = (
            Field("waveform", DataType.UINT16, 1),
            Field("frame", DataType.UINT32),
            Field("time_of_flight", DataType.FLOAT),
        )
        settings = (
            Field("sample_rate_hz", DataType.DOUBLE),
            Field("samples", DataType.UINT32),
            Field("baseline", DataType.FLOAT),
        )
        who = ("digitizer", options.detname, "digitizer-0001", 0)
        self._raw = Names(NODE << 8, *who, Alg("raw", (1, 0, 0)), fields)
        self._config = Names(NODE << 8 | 1, *who, Alg("config", (1, 0, 0)), settings)
        self.names = (self._raw, self._config)

    def configure(self) -> list[bytes]:
        """Return the digitizer's settings."""
        truth = self.truth
        return [encode_shapes_data(self._config, (truth.sample_rate_hz, truth.samples, truth.baseline))]

    def event(self, frame: int, forced: int | None = None) -> list[bytes]:  # noqa: ARG002 - it has no ranges
        """Return the waveform of one event, and the arrival of its first pulse in seconds after the trigger, NaN where there is none."""
        pulses = self.truth.pulses(frame)
        arrival = pulses[0].arrival / self.truth.sample_rate_hz if pulses else math.nan
        return [encode_shapes_data(self._raw, (self.truth.raw(frame), frame, float(np.float32(arrival))))]


class TimeToolContent:
    """A time tool: one line of pixels, and whether the X-ray beam was there."""

    def __init__(self, options: SimOptions) -> None:
        self.truth = TimeToolTruth(options)
        fields = (
            Field("line", DataType.UINT16, 1),
            Field("frame", DataType.UINT32),
            Field("beam", DataType.UINT8),
        )
        settings = (Field("samples", DataType.UINT32),)
        who = ("timetool", options.detname, "timetool-0001", 0)
        self._raw = Names(NODE << 8, *who, Alg("raw", (1, 0, 0)), fields)
        self._config = Names(NODE << 8 | 1, *who, Alg("config", (1, 0, 0)), settings)
        self.names = (self._raw, self._config)

    def configure(self) -> list[bytes]:
        """Return the camera's settings."""
        return [encode_shapes_data(self._config, (self.truth.samples,))]

    def event(self, frame: int, forced: int | None = None) -> list[bytes]:  # noqa: ARG002 - it has no ranges
        """Return the pixels of one event."""
        truth = self.truth
        return [encode_shapes_data(self._raw, (truth.raw(frame), frame, int(truth.has_beam(frame))))]


@dataclass(frozen=True, slots=True)
class RunContent:
    """What every run has beside the detector: runinfo, scan, epics. `first` is the lowest index free on
    NODE.
    """

    experiment: str
    run: int
    first: int

    def __post_init__(self) -> None:
        if self.first + 3 > RUNINFO_INDEX - 3:
            raise SourceError(
                f"{self.first} schemas leave no room on one node", source="sim", hint="Ask for fewer segments"
            )

    @property
    def names(self) -> tuple[Names, ...]:
        """Schemas of all three, and of what the PVs are called."""
        return self.scan, self.epics, self.epicsinfo, self.runinfo

    @property
    def runinfo(self) -> Names:
        """`expt` and `runnum`."""
        fields = (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32))
        return Names(
            NODE << 8 | RUNINFO_INDEX, "runinfo", "runinfo", "", 0, Alg("runinfo", (0, 0, 1)), fields
        )

    @property
    def scan(self) -> Names:
        """`motor1`, `step_value` and `step_docstring`."""
        fields = (
            Field("motor1", DataType.DOUBLE),
            Field("step_value", DataType.DOUBLE),
            Field("step_docstring", DataType.CHARSTR, 1),
        )
        return Names(NODE << 8 | self.first, "scan", "scan", "", 0, Alg("raw", (2, 0, 0)), fields)

    @property
    def epics(self) -> Names:
        """The process variables."""
        return Names(
            NODE << 8 | self.first + 1, "epics", "epics", "", 0, Alg("raw", (2, 0, 0)), _EPICS_FIELDS
        )

    @property
    def epicsinfo(self) -> Names:
        """The full name of each process variable."""
        fields = tuple(
            Field(name, DataType.CHARSTR, 1) for name in ("keys", *(one.name for one in _EPICS_FIELDS))
        )
        return Names(
            NODE << 8 | self.first + 2, "epicsinfo", "epicsinfo", "", 0, Alg("epicsinfo", (1, 0, 0)), fields
        )

    def configure(self) -> list[bytes]:
        """Return what the Configure says of the process variables."""
        texts = [f"{one.name},{_PV_PREFIX}:{one.name.upper()}" for one in _EPICS_FIELDS]
        return [encode_shapes_data(self.epicsinfo, ["epicsname,pvname", *texts])]

    def begin_run(self) -> list[bytes]:
        """Return the runinfo."""
        return [encode_shapes_data(self.runinfo, (self.experiment, self.run))]

    def begin_step(self, step: int, steps: int, range_name: str = "") -> list[bytes]:
        """Return the values of a scan's step, counted from 0: the motor goes from 0 to 10. `range_name`: the
        gain range of a dark run's step.
        """
        motor = 10.0 * step / max(1, steps - 1)
        text = f'{{"detname": "scan", "scantype": "sim", "step": {step}}}'
        if range_name:
            text = (
                f'{{"detname": "scan", "scantype": "pedestal", "step": {step}, "gain_mode": "{range_name}"}}'
            )
        return [encode_shapes_data(self.scan, (motor, float(step), text))]

    def slow_update(self, counter: int) -> list[bytes]:
        """Return the process variables as they stand at SlowUpdate number `counter`."""
        temperature = 20.0 + (counter % 100) / 100
        return [encode_shapes_data(self.epics, (counter, temperature, "open"))]

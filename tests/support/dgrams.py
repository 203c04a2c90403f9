"""Dgrams for tests, built by hand: a small area detector with as many segments as asked for, an epics variable, a scan variable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

DET = "cam"
SHAPE = (8, 6)


def raw_names(segments: int, shape_rank: int = 2, det: str = DET) -> list[Names]:
    return [
        Names(
            1 << 8 | 1 + k,
            "epixhr",
            det,
            f"serial{k}",
            k,
            Alg("raw", (0, 1, 0)),
            (Field("frame", DataType.UINT32), Field("raw", DataType.UINT16, shape_rank)),
        )
        for k in range(segments)
    ]


EPICS = Names(1 << 8 | 100, "epics", "epics", "", 0, Alg("raw", (2, 0, 0)), (Field("hv", DataType.DOUBLE),))
EPICSINFO = Names(
    1 << 8 | 101,
    "epicsinfo",
    "epicsinfo",
    "",
    0,
    Alg("epicsinfo", (1, 0, 0)),
    (Field("keys", DataType.CHARSTR, 1), Field("hv", DataType.CHARSTR, 1)),
)
SCAN = Names(1 << 8 | 102, "scan", "scan", "", 0, Alg("raw", (2, 0, 0)), (Field("motor", DataType.DOUBLE),))
CONFIG = Names(
    1 << 8 | 103,
    "epixhr",
    DET,
    "serial0",
    0,
    Alg("config", (2, 0, 0)),
    (
        Field("user.gain:mode", DataType.ENUMVAL),
        Field("low:mode", DataType.ENUMDICT),
        Field("high:mode", DataType.ENUMDICT),
        Field("user.bias", DataType.INT32),
    ),
)
RUNINFO = Names(
    1 << 8 | 255,
    "runinfo",
    "runinfo",
    "",
    0,
    Alg("runinfo", (0, 0, 1)),
    (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32)),
)


class Builder:
    """Makes one stream's dgrams with rising time stamps."""

    def __init__(self, segments: int = 2, shape: Sequence[int] = SHAPE) -> None:
        self.raw = raw_names(segments, len(shape))
        self.shape = tuple(shape)
        self.names = [*self.raw, EPICS, EPICSINFO, SCAN, CONFIG, RUNINFO]
        self.time = 1000 << 32

    def _stamp(self) -> int:
        self.time += 10
        return self.time

    def configure(self) -> bytes:
        parts = [one.encode() for one in self.names]
        parts.append(encode_shapes_data(EPICSINFO, {"keys": "pv", "hv": "LAB:HV"}))
        parts.append(encode_shapes_data(CONFIG, [1, 0, 1, -7]))
        return encode_dgram(TransitionId.Configure, self._stamp(), parts)

    def begin_run(self, runnum: int = 7) -> bytes:
        return encode_dgram(
            TransitionId.BeginRun,
            self._stamp(),
            [encode_shapes_data(RUNINFO, {"expt": "tst001", "runnum": runnum})],
        )

    def begin_step(self, motor: float = 0.5) -> bytes:
        return encode_dgram(
            TransitionId.BeginStep, self._stamp(), [encode_shapes_data(SCAN, {"motor": motor})]
        )

    def slow_update(self, value: float) -> bytes:
        return encode_dgram(
            TransitionId.SlowUpdate, self._stamp(), [encode_shapes_data(EPICS, {"hv": value})]
        )

    def bare(self, service: TransitionId) -> bytes:
        return encode_dgram(service, self._stamp())

    def frame(self, number: int, segment: int) -> np.ndarray:
        base = np.arange(int(np.prod(self.shape)), dtype=np.uint16).reshape(self.shape)
        return base + np.uint16(1000 * segment + number % 500)

    def event(self, number: int, segments: Sequence[int] | None = None) -> bytes:
        chosen = range(len(self.raw)) if segments is None else segments
        parts = [
            encode_shapes_data(self.raw[k], {"frame": number, "raw": self.frame(number, k)}) for k in chosen
        ]
        return encode_dgram(TransitionId.L1Accept, self._stamp(), parts, env=1)

    def run(self, events: int, *, slow_every: int = 0, runnum: int = 7) -> list[bytes]:
        """A whole run of one step: BeginRun to EndRun."""
        out = [self.begin_run(runnum), self.begin_step(), self.bare(TransitionId.Enable)]
        for k in range(events):
            if slow_every and k % slow_every == 0:
                out.append(self.slow_update(float(k)))
            out.append(self.event(k))
        return [
            *out,
            *(self.bare(one) for one in (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun)),
        ]

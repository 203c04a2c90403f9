"""The cameras that are simulated, as facts: shapes, gain ranges and their bits, schema, serial numbers,
configuration.

Data types, algs, shapes and gain bits are those of the LCLS-II detectors of the same dettype; pedestals,
gains and noise are typical. What the electronics make of a photon is in `_frames`, where photons fall is in
`truth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from drp.core.errors import SourceError
from drp.source.simoptions import SimOptions
from xtc import Alg, DataType, Field

_GAIN_MODES = ("DYNAMIC", "FORCE_SWITCH_G1", "FORCE_SWITCH_G2", "FIX_G1", "FIX_G2")


@dataclass(frozen=True, slots=True)
class GainRange:
    """One gain range: its bits in the pixel, pedestal and its spread, noise (ADU), gain (ADU/keV, negative
    where the signal falls).
    """

    name: str
    bits: int
    pedestal: float
    spread: float
    gain: float
    rms: float


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of `rows` x `cols` uint16 segments; `top` is the largest value the data bits hold."""

    dettype: str
    rows: int
    cols: int
    sizes: Mapping[str, int]
    default_size: str
    top: int
    ranges: tuple[GainRange, ...]
    offset_spread: float
    """Spread of the per-pixel offset that adds to the pedestal (ADU)."""
    pixel_um: float
    raw_alg: Alg
    raw_fields: tuple[Field, ...]
    raw_values: Callable[[np.ndarray[tuple[int, ...], np.dtype[np.uint16]], int], tuple[object, ...]]
    """From the (rows, cols) pixels and the number of the frame."""
    config_alg: Alg
    config: tuple[tuple[Field, object], ...]
    detid: Callable[[int], str]
    """Serial number of a segment."""

    def segments(self, options: SimOptions) -> int:
        """Return how many segments `options` ask for; SourceError names the sizes there are."""
        if options.size and options.size not in self.sizes:
            raise SourceError(
                f"{options.kind} has no size {options.size!r}",
                source="sim",
                hint=f"Known are {', '.join(self.sizes)}",
            )
        return options.segments or self.sizes[options.size or self.default_size]

    @property
    def range_bits(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
        """The bits of each range, uint16."""
        return np.array([one.bits for one in self.ranges], np.uint16)


def _epixhr_detid(segment: int) -> str:
    return "-".join([f"{0xCAFE0000 + segment:010x}", *["0000000000"] * 6])


def _jungfrau_detid(segment: int) -> str:
    return f"{0x8000000020000 + segment:x}-230920-{0x20004002C + segment:x}"


def _enum(kind: str, labels: tuple[str, ...]) -> tuple[tuple[Field, object], ...]:
    return tuple((Field(f"{label}:{kind}", DataType.ENUMDICT), value) for value, label in enumerate(labels))


# psana's class for epixhremu takes 15 data bits, the 2x2 it stands for has 14: no value here needs the 15th.
# With all pixel bits and trbit 0 the mode is AML: medium gain, or low gain where bit 15 is set.
EPIXHR = Camera(
    dettype="epixhremu",
    rows=144,
    cols=768,
    sizes={"2M": 20, "1panel": 1},
    default_size="2M",
    top=0x3FFF,
    ranges=(
        GainRange("AML_M", 0x0000, pedestal=3000, spread=100, gain=13.7, rms=3.0),
        GainRange("AML_L", 0x8000, pedestal=2500, spread=100, gain=0.512, rms=2.5),
    ),
    offset_spread=0.0,
    pixel_um=100.0,
    raw_alg=Alg("raw", (0, 0, 1)),
    raw_fields=(Field("raw", DataType.UINT16, 2),),
    raw_values=lambda pixels, _: (pixels,),
    config_alg=Alg("config", (0, 0, 1)),
    config=(
        (Field("asicPixelConfig", DataType.UINT8, 2), np.zeros((144, 768), np.uint8)),
        (Field("trbit", DataType.UINT8, 1), np.zeros(4, np.uint8)),
    ),
    detid=_epixhr_detid,
)

JUNGFRAU = Camera(
    dettype="jungfrau",
    rows=512,
    cols=1024,
    sizes={"0.5M": 1, "1M": 2, "4M": 8, "16M": 32},
    default_size="0.5M",
    top=0x3FFF,
    ranges=(
        GainRange("g0", 0x0000, pedestal=2900, spread=80, gain=41.5, rms=5.0),
        GainRange("g1", 0x4000, pedestal=14500, spread=80, gain=-1.39, rms=3.0),
        GainRange("g2", 0xC000, pedestal=15200, spread=80, gain=-0.11, rms=2.5),
    ),
    offset_spread=1.0,
    pixel_um=75.0,
    raw_alg=Alg("raw", (0, 2, 0)),
    raw_fields=(
        Field("raw", DataType.UINT16, 3),
        Field("frame_cnt", DataType.UINT64),
        Field("timestamp", DataType.UINT64),
        Field("hotPixelThresh", DataType.UINT16),
        Field("numHotPixels", DataType.UINT32),
        Field("maxHotPixels", DataType.UINT32),
    ),
    raw_values=lambda pixels, frame: (pixels[None], frame, 10_000 * frame, 15_000, 0, 3400),
    config_alg=Alg("config", (0, 2, 0)),
    config=(
        *_enum("gainModeEnum", _GAIN_MODES),
        *_enum("gain0Enum", ("normal", "high")),
        *_enum("speedLevelEnum", ("FULL_SPEED", "HALF_SPEED", "QUARTER_SPEED")),
        (Field("user.bias_voltage_v", DataType.UINT8), 200),
        (Field("user.exposure_time_s", DataType.DOUBLE), 1e-5),
        (Field("user.gain0:gain0Enum", DataType.ENUMVAL), 0),
        (Field("user.gainMode:gainModeEnum", DataType.ENUMVAL), 0),
        (Field("user.speedLevel:speedLevelEnum", DataType.ENUMVAL), 1),
        (Field("user.trigger_delay_s", DataType.DOUBLE), 2.1e-4),
    ),
    detid=_jungfrau_detid,
)

CAMERAS: dict[str, Camera] = {"epixhr": EPIXHR, "jungfrau": JUNGFRAU}

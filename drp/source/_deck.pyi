from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from drp.source.base import Slots

_U64 = npt.NDArray[np.uint64]

class Deck:
    count: int
    position: int
    lap: int
    events: int
    def __new__(
        cls,
        buffers: Sequence[Buffer | npt.NDArray[Any]],
        which: _U64,
        offsets: _U64,
        sizes: _U64,
        pulse_ids: _U64,
    ) -> Deck: ...
    @property
    def done(self) -> bool: ...
    @property
    def next_is_event(self) -> bool: ...
    def loop(
        self, first: int, stop: int, times_ns: _U64, pulse_ids: _U64, lap_ns: int, lap_pulses: int
    ) -> None: ...
    def tick(
        self,
        pulse0: int,
        ticks: int,
        origin_pulse: int,
        origin_ns: int,
        first: int = 0,
        stop: int = -1,
    ) -> None: ...
    def deal(self, slots: Slots, events: int, enough_bytes: int) -> int: ...
    def follow(self, slots: Slots, triggers: npt.NDArray[np.uint8], at: int, enough_bytes: int) -> int: ...
    def turn(self, first: int = 0, stop: int = -1) -> None: ...
    def rewind(self) -> None: ...

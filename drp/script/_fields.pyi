from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.script._event import Event, Stream
from xtc._walk import Layout

class EnumValue(int):
    names: dict[int, str]
    def __new__(cls, value: int, names: dict[int, str]) -> EnumValue: ...
    @property
    def value(self) -> int: ...
    @property
    def label(self) -> str: ...

class FieldReader:
    def __init__(
        self,
        stream: Stream,
        name: str,
        parts: Sequence[tuple[int, int, Layout, int]],
        dtype: int,
        rank: int,
        labels: Iterable[tuple[int, str]] = (),
    ) -> None: ...
    def value(self, evt: Event | None, copy: bool | None = None) -> Any: ...
    def segments(self, evt: Event | None, copy: bool | None = None) -> list[Any] | None: ...
    def stack(self, evt: Event | None, copy: bool | None = None) -> NDArray[np.generic] | None: ...

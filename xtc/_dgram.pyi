from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from xtc._walk import Layout
from xtc.config import Config
from xtc.kinds import Damage, TransitionId
from xtc.names import Field, Names

class Xtc(NamedTuple):
    src: int
    damage: int
    type: int
    offset: int
    extent: int
    parent: int

class Value(NamedTuple):
    names: Names
    field: Field
    value: Any
    damage: Damage

class Tail(NamedTuple):
    offset: int
    have: int
    need: int

class Dgram:
    size: int
    path: str | None
    index: int | None
    def __init__(
        self,
        buffer: Buffer,
        offset: int = 0,
        *,
        path: str | None = None,
        index: int | None = None,
        base: int = 0,
        config: Config | Dgram | None = None,
    ) -> None: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def env(self) -> int: ...
    @property
    def service(self) -> TransitionId: ...
    @property
    def keepraw(self) -> bool: ...
    @property
    def src(self) -> int: ...
    @property
    def damage(self) -> Damage: ...
    @property
    def contains(self) -> int: ...
    @property
    def extent(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def view(self) -> memoryview: ...
    @property
    def config(self) -> Config | None: ...
    def __bytes__(self) -> bytes: ...
    def xtcs(self) -> list[Xtc]: ...
    def shapes_data(self) -> list[ShapesData]: ...
    def fields(self) -> list[Value]: ...

class ShapesData:
    dgram: Dgram
    @property
    def names_id(self) -> int: ...
    @property
    def damage(self) -> Damage: ...
    @property
    def offset(self) -> int: ...
    @property
    def extent(self) -> int: ...
    @property
    def shapes(self) -> memoryview: ...
    @property
    def data(self) -> memoryview: ...
    @property
    def names(self) -> Names: ...
    def values(self) -> list[Any]: ...

class Column:
    names: Names
    field: Field
    def __init__(self, names: Names, layout: Layout, field: str) -> None: ...
    def read(self, dgram: Dgram) -> Any: ...

class Scan:
    tail: Tail | None
    def __init__(
        self, buffer: Buffer, *, path: str | None = None, base: int = 0, config: Config | Dgram | None = None
    ) -> None: ...
    @property
    def config(self) -> Config | None: ...
    def __iter__(self) -> Iterator[Dgram]: ...
    def __next__(self) -> Dgram: ...
    def index(
        self,
        offsets: npt.NDArray[np.uint64],
        sizes: npt.NDArray[np.uint64],
        timestamps: npt.NDArray[np.uint64],
        services: npt.NDArray[np.uint8],
        numbers: npt.NDArray[np.uint64] | None = None,
        column: Column | None = None,
    ) -> int: ...
    def at(self, offset: int) -> Dgram: ...

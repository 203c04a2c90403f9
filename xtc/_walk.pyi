from collections.abc import Sequence
from typing import Protocol

from typing_extensions import Buffer

class _HasFields(Protocol):
    @property
    def fields(self) -> Sequence[object]: ...

class Layout:
    n_fields: int
    n_arrays: int
    def __new__(cls, names: _HasFields) -> Layout: ...

class WalkFault(ValueError):
    code: int
    where: int
    def __init__(self, code: int, where: int) -> None: ...

MAX_CHILDREN: int
ERRORS: dict[int, str]

def children(dgram: Buffer) -> list[tuple[int, int, int, int, int, int]]: ...
def shapes(dgram: Buffer) -> list[tuple[int, int, int, int, int, int, int, int]]: ...

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypedDict

CHARSTR: int
MAX_RANK: int
SIZES: tuple[int, ...]
TEXTS: dict[int, str]

class FieldLike(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> int: ...
    @property
    def rank(self) -> int: ...

class NamesLike(Protocol):
    @property
    def names_id(self) -> int: ...
    @property
    def fields(self) -> Sequence[Any]: ...

class BlockError(ValueError):
    code: int
    wrong: int
    def __init__(self, code: int, wrong: int = 0) -> None: ...

class Edit(TypedDict):
    damage: int
    user: int
    flags: int
    n_drop: int
    n_add: int
    json_bytes: int
    drops_at: int
    adds_at: int
    wrong: int
    words_bytes: int
    header_bytes: int
    data_bytes: int

class NamesTable:
    n_names: int
    trigger: int
    def __init__(self, names: Iterable[NamesLike] = (), trigger: int = -1) -> None: ...
    def __len__(self) -> int: ...
    def names_ids(self) -> tuple[int, ...]: ...

_Add = tuple[int, Sequence[Sequence[int]], bytes | bytearray | memoryview]

class Block(TypedDict):
    drops: tuple[int, ...]
    adds: tuple[_Add, ...]
    damage: int
    user: int
    words: bool
    json: bytes

def describe(code: int) -> str: ...
def check(
    desc: bytes | bytearray | memoryview,
    block_bytes: int,
    table: NamesTable,
    data: bytes | bytearray | memoryview | None = None,
    max_desc_bytes: int = ...,
) -> Edit: ...
def encode_block(
    *,
    drops: Sequence[int] = (),
    adds: Sequence[_Add] = (),
    damage: int = 0,
    user: int = 0,
    words: bool = False,
    json: bytes = b"",
) -> tuple[bytes, bytes]: ...
def decode_block(
    desc: bytes | bytearray | memoryview, data: bytes | bytearray | memoryview, table: NamesTable
) -> Block: ...

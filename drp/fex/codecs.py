"""Codecs by name: what turns a segment into bytes and back. Ours, those that a script registers, and those of installed packages.

A package offers one as an entry point of the group `drp.decoders`: the name of the codec = what has the two functions of `Codec`, an object or a
module. A name that is read from a file is looked up among these, and is nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
GROUP = "drp.decoders"
BUILT_IN = {"bslz4": "drp.fex._bslz4", "quantized": "drp.fex._quantized"}
_registered: dict[str, Codec] = {}
_lock = threading.Lock()


@runtime_checkable
class Codec(Protocol):
    """Two functions; what they do not do for a dtype, a bound or these bytes is a FexError."""

    def encoder(
        self, shape: tuple[int, int], dtype: np.dtype[Any], bound: float, /
    ) -> Callable[[Array], Bytes]:
        """Return what encodes segments of `shape` and `dtype` with an absolute error of at most `bound` (0: none): C order in, uint8 (bytes,) out."""

    def decode(self, piece: Bytes, shape: tuple[int, int], dtype: np.dtype[Any], bound: float, /) -> Array:
        """Return the segment of a piece, an array of `shape` and `dtype`. The piece may come from anywhere: it is checked before it is used."""


def register_codec(name: str, codec: Codec) -> None:
    """Have `codec` known in this process under `name`, in place of another of that name; FexError where it is none, or ours."""
    if name in BUILT_IN:
        raise FexError(f"the codec {name!r} is one of drp's own", "Take another name")
    if not isinstance(codec, Codec):
        raise FexError(f"the codec {name!r} is a {type(codec).__name__} without encoder and decode")
    with _lock:
        _registered[name] = codec


def codec_of(name: str) -> Codec:
    """Return the codec of a name; FexError where there is none, or it cannot be loaded."""
    if name in BUILT_IN:
        return cast(Codec, import_module(BUILT_IN[name]))
    with _lock:
        found = _registered.get(name)
    if found is not None:
        return found
    for entry in entry_points(group=GROUP, name=name):
        try:
            loaded = entry.load()
        except (ImportError, AttributeError) as error:
            raise FexError(f"the codec {name!r} ({entry.value}) cannot be loaded: {error}") from error
        register_codec(name, loaded)
        return cast(Codec, loaded)
    raise FexError(
        f"there is no codec {name!r}",
        f"Known are {', '.join(codec_names())}; install the package that has it, or call drp.fex.register_codec",
    )


def codec_names() -> list[str]:
    """Return the names that `codec_of` knows."""
    return sorted({*BUILT_IN, *_registered, *(entry.name for entry in entry_points(group=GROUP))})

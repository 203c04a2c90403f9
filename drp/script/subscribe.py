"""`drp.words`, which needs sockets only once it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drp.link.sockets import Endpoint
    from drp.script.words import WordsStream


def words(
    where: str | Sequence[Endpoint], *, keys: str | Path | None = None, limit_s: float | None = None
) -> WordsStream:
    """Return the stream of trigger words of a running partition, `tst:0`, as they are decided on; see `drp.script.words.WordsStream`."""
    from drp.script.words import WordsStream  # noqa: PLC0415 - as above

    return WordsStream(where, keys=keys, limit_s=limit_s)

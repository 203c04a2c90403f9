"""What a worker says of its own failure, read and made fit for a log: nothing in it is believed to be what it should be."""

from __future__ import annotations

import json

from drp.core.failures import Failure, ScriptReport
from drp.core.ledger import Cause
from drp.engine.notices import Notice
from drp.shm._block import describe as describe_fault
from drp.shm._port import describe as describe_peek

KIND_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT = 200, 4096, 16384

# All control characters but tab and newline, which tracebacks hold.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def read_failure(notice: Notice) -> tuple[Failure, ScriptReport]:
    """Return what a failed answer says: the kind of failure, and the script's own report or what was wrong with the answer."""
    if notice.cause == Cause.nonsense:
        what = describe_fault(notice.code) if notice.code >= 0 else describe_peek(notice.code)
        return Failure.NONSENSE, ScriptReport("nonsense", what)
    failure = Failure.LEFT if notice.cause == Cause.left else Failure.RAISED
    try:
        size = int.from_bytes(notice.block[12:16], "little")
        told = json.loads(bytes(notice.block[16 : 16 + size]))
        kind, message, trace = (told[key] for key in ("kind", "message", "traceback"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return failure, ScriptReport("unknown", "the worker's report cannot be read")
    if not all(isinstance(text, str) for text in (kind, message, trace)):
        return failure, ScriptReport("unknown", "the worker's report is no text")
    return failure, ScriptReport(
        _shown(kind, KIND_LIMIT), _shown(message, MESSAGE_LIMIT), _shown(trace, TRACEBACK_LIMIT)
    )


def _shown(text: str, limit: int) -> str:
    """Return what a worker says fit for a log and a terminal: cut at the limit, control characters and halves of surrogate pairs escaped."""
    return text[:limit].translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()

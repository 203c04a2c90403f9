"""The errors a user's script can meet. They carry fields, format themselves and survive pickling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from drp.core.errors import DrpError


class ScriptError(DrpError):
    """What a script asked for cannot be done.

    Fields: `what` (one sentence), `expected`, `found` (None where they do not apply), `hint` (what to do next).
    """

    def __init__(self, what: str, *, expected: object = None, found: object = None, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = "; ".join(parts)
        return f"{text.rstrip('.')}. {self.hint}" if self.hint else text


class LinkError(ScriptError):
    """The rings do not hold what they should: the fault is drp's or the machine's, not the script's."""


class StaleEventError(ScriptError):
    """An event was used after the script had asked for the next one."""


class CalibrationError(ScriptError):
    """Calibrated data were asked for, and there are no constants."""


class CompressedDataError(ScriptError):
    """Compressed data of an event cannot be read back."""


class DeclarationError(ScriptError):
    """New data were declared wrongly, twice, or too late."""


class NoRoomError(DeclarationError):
    """What was declared has no room in the drp as it was started: an option is to be changed, and no line of the script."""


class FieldError(ScriptError, TypeError):
    """A value does not fit the field it was assigned to."""


class FieldRangeError(FieldError, OverflowError):
    """A number is outside the range of its field."""


class UnknownNameError(ScriptError, KeyError):
    """A name is not among those there are."""


class NotAWorkerError(ScriptError):
    """A process that the script started asked for events."""


class LeftEventLoopError(ScriptError):
    """The script went on to something else before the run in hand had ended."""


class StoodDown(BaseException):
    """The run is over and this process took no event of it: its script is unwound, and no line after its event loop is run.

    Not an Exception, as GeneratorExit is none, so that scripts that catch those do not stop it.
    """


def near_misses(name: str, known: Iterable[str]) -> str:
    """Say which of `known` is close to `name`, or else what there is."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(one) for one in close)}?"
    if not names:
        return "There are none."
    shown = ", ".join(repr(one) for one in names[:20])
    return f"There are {shown}{' and more' if len(names) > 20 else ''}."

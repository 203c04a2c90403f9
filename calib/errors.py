"""The errors of calib: one root, fields that a program can read, a text that says what, where, and what to do next.

Every one survives pickling. None of them knows who catches it.
"""

from __future__ import annotations

from typing import Any


class CalibError(Exception):
    """Root of all errors of calib.

    Fields: `what` (what is wrong, one clause, no full stop), `where` (a file, a detector, an address, or empty) and `hint` (what to do
    about it, or empty).
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.hint:
            return text
        text = text.rstrip(".")
        return f"{text}{'' if text.endswith('?') else '.'} {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[CalibError], args: tuple[Any, ...], fields: dict[str, Any]) -> CalibError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConstantsMissing(CalibError):
    """Constants that are needed are nowhere; `where` is the detector, `what` lists them and where they were looked for."""


class ConstantsMisshapen(CalibError):
    """Constants whose shape, dtype or text does not fit the detector."""


class StoreError(CalibError):
    """A store that cannot be opened, read or written, or is asked for what makes no sense."""


class ServiceError(CalibError):
    """A calibration service that does not answer, refuses, or answers what cannot be used."""


class BroadcastError(CalibError):
    """Constants that do not reach whom they must reach, in time and whole."""


class GeometryError(CalibError):
    """A geometry text that cannot be read, or does not fit the detector."""

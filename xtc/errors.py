"""The one error root of the package. It knows no format details: whoever finds a fault puts them in the
fields.
"""

from __future__ import annotations

from typing import Any


class XtcError(Exception):
    """What is wrong with XTC2 bytes, or with what should become XTC2 bytes.

    Fields: `what` (one sentence), `path` (file or None), `offset` (byte offset in the file, or in what was
    given where there is no file; None where bytes are not the matter), `inside` (what enclosed it, innermost
    first), `expected`, `found`, `hint`.
    """

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        inside: tuple[str, ...] = (),
        expected: object = None,
        found: object = None,
        hint: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = path
        self.offset = offset
        self.inside = inside
        self.expected = expected
        self.found = found
        self.hint = hint

    def within(self, place: str, base: int = 0, path: str | None = None) -> XtcError:
        """Return the same error as seen from outside: `offset` moved by `base`, `place` added to what
        encloses it.
        """
        fields = self.fields()
        fields["offset"] = base if self.offset is None else self.offset + base
        fields["inside"] = (*self.inside, place)
        fields["path"] = self.path or path
        return type(self)(self.what, **fields)

    def fields(self) -> dict[str, Any]:
        """Return the fields other than `what`, by name."""
        return {
            "path": self.path,
            "offset": self.offset,
            "inside": self.inside,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.what, self.fields()))

    def __str__(self) -> str:
        where = [self.path] if self.path else []
        if self.offset is not None:
            where.append(f"byte {self.offset:#x}")
        parts = [f"{', '.join(where)}: {self.what}" if where else self.what]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = "; ".join(parts)
        if self.inside:
            text += f" (in {', in '.join(self.inside)})"
        return f"{text}. {self.hint}" if self.hint else text


def _rebuild(kind: type[XtcError], what: str, fields: dict[str, Any]) -> XtcError:
    return kind(what, **fields)

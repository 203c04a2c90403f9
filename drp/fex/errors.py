"""What goes wrong in feature extraction: an argument that cannot be used, a frame that does not fit."""

from __future__ import annotations


class FexError(ValueError):
    """Something an algorithm cannot work with; `hint` says what to do. `str()` is both."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}. {self.hint}".rstrip(". ") + "." if self.hint else self.what

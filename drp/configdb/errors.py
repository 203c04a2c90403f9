"""What is wrong with a configuration, or with the store of them."""

from __future__ import annotations

from drp.core.errors import DrpError


class ConfigStoreError(DrpError):
    """A configuration that is none, or that is not there. `place` is the store, or the path of the configuration in it."""

    def __init__(self, what: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.place = place

    @property
    def where(self) -> str:
        return self.place

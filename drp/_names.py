"""Names of drp that are not needed where a script runs, and are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LATER = {"DaqControl": "drp.control.client"}


def look_up(name: str) -> Any:
    """Return what stands under a name of `drp`; AttributeError where there is none."""
    if name not in _LATER:
        raise AttributeError(f"module 'drp' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

"""Algorithms for scripts. They know arrays, and nothing of drp.

A name is looked up in its module when it is first asked for: a script that needs a region of interest does not wait for compiled kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drp.fex.errors import FexError
    from drp.fex.roi import Roi

__all__ = ["MODULE_OF", "FexError", "Roi"]

MODULE_OF = {
    "FexError": "errors",
    "Roi": "roi",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"drp.fex has no {name!r}; it has {', '.join(MODULE_OF)}")
    return getattr(import_module(f"drp.fex.{MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__

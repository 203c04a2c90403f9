"""psana's names for a script: DataSource, dgramedit and TransitionId are ours, every other psana module is the installed one.

`install` puts three modules of that description into sys.modules; psana itself is imported only when a script asks for something of it. The
packages are ours with the installed package's `__path__`, so its other modules are found as always; attributes that only its
`__init__` makes are fetched by running that once, at the first request.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from drp.script.datasource import PsanaDataSource
from xtc import AlgDef, DetectorDef, DgramEdit, TransitionId

EVENTS = (11, 12)


class PsanaTransitionId:
    """psana's TransitionId: the numbers as attributes, with psana's helpers."""

    @classmethod
    def name(cls, transition_id: int) -> str:
        """Return the name of a transition."""
        try:
            return TransitionId(transition_id).name
        except ValueError:
            return f"Unknown({transition_id})"

    @classmethod
    def value(cls, name: str) -> int | None:
        """Return the number of a name, or None."""
        return int(TransitionId[name]) if name in TransitionId.__members__ else None

    @classmethod
    def isEvent(cls, transition_id: int) -> bool:
        """Tell whether a service is an event's."""
        return transition_id in EVENTS

    @classmethod
    def all_ids(cls) -> list[int]:
        """Return all numbers."""
        return [int(one) for one in TransitionId]


for _one in TransitionId:
    setattr(PsanaTransitionId, _one.name, int(_one))


class Package(ModuleType):
    """A package of ours at the place of an installed one, which it falls back on."""

    def __init__(self, name: str, spec: importlib.machinery.ModuleSpec | None, ours: dict[str, Any]) -> None:
        super().__init__(name)
        locations = spec.submodule_search_locations if spec is not None else None
        self.__path__ = list(locations or [])
        self.__package__ = name
        self.__file__ = spec.origin if spec is not None else None
        self._drp_ours = dict(ours)
        self._drp_ran = False
        self.__dict__.update(ours)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and not self._drp_ran and self.__file__:
            self._drp_ran = True
            code = compile(Path(self.__file__).read_bytes(), self.__file__, "exec", dont_inherit=True)
            exec(code, self.__dict__)  # noqa: S102 - the installed package's own __init__, at last
            self.__dict__.update(self._drp_ours)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class Overlay(ModuleType):
    """A module of ours at the place of an installed one, whose other attributes (psana's compiled parts need them) it shows."""

    def __init__(self, name: str, spec: importlib.machinery.ModuleSpec | None, ours: dict[str, Any]) -> None:
        super().__init__(name)
        self.__package__ = name.rpartition(".")[0]
        self._drp_spec = spec
        self._drp_installed: ModuleType | None = None
        self.__dict__.update(ours)

    def __getattr__(self, name: str) -> Any:
        spec = self._drp_spec
        if (name.startswith("__") and not name.startswith("__pyx")) or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if self._drp_installed is None:
            self._drp_installed = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self._drp_installed)
        return getattr(self._drp_installed, name)


def install() -> None:
    """Put our psana names into sys.modules; anything imported as psana before stays with who has it."""
    for name in [one for one in sys.modules if one == "psana" or one.startswith("psana.")]:
        del sys.modules[name]
    found = importlib.machinery.PathFinder.find_spec("psana")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    inner = importlib.machinery.PathFinder.find_spec("psana.psexp", folders)
    compiled = importlib.machinery.PathFinder.find_spec("psana.dgramedit", folders)
    names = {"AlgDef": AlgDef, "DetectorDef": DetectorDef, "DgramEdit": DgramEdit}
    dgramedit = Overlay("psana.dgramedit", compiled, names)
    psexp = Package("psana.psexp", inner, {"TransitionId": PsanaTransitionId})
    transitionid = ModuleType("psana.psexp.transitionid")
    transitionid.__dict__["TransitionId"] = PsanaTransitionId
    psexp.__dict__["transitionid"] = transitionid
    psana = Package("psana", found, {"DataSource": PsanaDataSource, "dgramedit": dgramedit, "psexp": psexp})
    sys.modules.update(
        {
            "psana": psana,
            "psana.dgramedit": dgramedit,
            "psana.psexp": psexp,
            "psana.psexp.transitionid": transitionid,
        }
    )

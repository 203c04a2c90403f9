"""psdaq's names for a trigger script: tebTrigger, the TebData classes and get_config are ours, every other psdaq module is the installed one.

`install` puts them into sys.modules, in the packages psdaq.trigger and psdaq.configdb and alone, as scripts of LCLS import them both ways.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
from types import ModuleType
from typing import Any

from drp.script import tebdata, trigger
from drp.script.psana_names import Package

TEB_DATA = (
    "TmoTebData",
    "TimingTebData",
    "BldTebData",
    "HrEncoderTebData",
    "Piranha4TTTebData",
    "TripperTebData",
)


def install() -> None:
    """Put our psdaq names into sys.modules."""
    for name in [one for one in sys.modules if one == "psdaq" or one.startswith("psdaq.")]:
        del sys.modules[name]
    found = importlib.machinery.PathFinder.find_spec("psdaq")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    inner = {
        name: Package(f"psdaq.{name}", importlib.machinery.PathFinder.find_spec(f"psdaq.{name}", folders), {})
        for name in ("trigger", "configdb")
    }
    psdaq = Package("psdaq", found, dict(inner))
    modules: dict[str, ModuleType] = {
        "psdaq": psdaq,
        "psdaq.trigger": inner["trigger"],
        "psdaq.configdb": inner["configdb"],
    }
    sources = {
        "TriggerDataSource": trigger.TriggerDataSource,
        "CubeTriggerDataSource": trigger.CubeTriggerDataSource,
    }
    for name, names in [("tebTrigger", sources), *((one, {one: getattr(tebdata, one)}) for one in TEB_DATA)]:
        modules[name] = _module(name, names)
        modules[f"psdaq.trigger.{name}"] = _module(f"psdaq.trigger.{name}", names)
        inner["trigger"].__dict__[name] = modules[f"psdaq.trigger.{name}"]
    # Scripts take all of it, and some count on the json it brings.
    config = _module(
        "psdaq.configdb.get_config",
        {"get_config": trigger.get_config, "get_config_json": trigger.get_config_json, "json": json},
    )
    inner["configdb"].__dict__["get_config"] = modules["psdaq.configdb.get_config"] = config
    sys.modules.update(modules)


def _module(name: str, names: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(names)
    return module

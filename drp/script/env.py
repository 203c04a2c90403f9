"""Slow data as a script sees them: the epics and scan values in force, and how the names people use map to fields."""

from __future__ import annotations

from typing import Any

from drp.script.info import ENVIRONMENT
from xtc import Config, DataType, Dgram, TransitionId

UPDATED_BY = {
    TransitionId.SlowUpdate: "epics",
    TransitionId.BeginStep: "scan",
    TransitionId.BeginRun: "scan",
}


class EnvStore:
    """The values of one environment, `epics` or `scan`: those of the last dgram that brought any."""

    def __init__(self, config: Config, name: str) -> None:
        self.name = name
        self.variables: dict[str, str] = {}
        self.dtypes: dict[str, type] = {}
        for names in config.names.values():
            if names.detname == name:
                for field in names.fields:
                    self.variables.setdefault(field.label, names.alg.name)
                    self.dtypes.setdefault(field.label, python_type(field.dtype, field.rank))
        self.aliases: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def set_aliases(self, pv_names: dict[str, str]) -> None:
        """Set the PV name of each field, from epicsinfo."""
        self.aliases = {field: pv for field, pv in pv_names.items() if field in self.variables}

    def locate(self, name: str) -> str | None:
        """Return the field for a field's or a PV's name, or None."""
        if name in self.variables:
            return name
        return next((field for field, pv in self.aliases.items() if pv == name), None)

    def update(self, dgram: Dgram) -> None:
        """Take the values a dgram brings; those it does not bring stay. Values are copied."""
        for value in dgram.fields():
            if value.names.detname == self.name:
                self.values[value.field.label] = own(value.value)

    def info(self) -> dict[tuple[str, str], str]:
        """Return psana's epicsinfo or scaninfo: {(variable, PV name or alg): the same}."""
        if self.name == "epics":
            return {
                (field, self.aliases.get(field, "")): self.aliases.get(field, "") for field in self.variables
            }
        return {(field, alg): alg for field, alg in self.variables.items()}


def python_type(dtype: DataType, rank: int) -> type:
    """Return int, float, str, or list for an array."""
    if dtype == DataType.CHARSTR:
        return str
    if rank:
        return list
    return float if dtype in (DataType.FLOAT, DataType.DOUBLE) else int


def own(value: Any) -> Any:
    """Return the value, copied where it is a view of a dgram."""
    return value.copy() if hasattr(value, "flags") else value


def make_stores(config: Config, configure: Dgram) -> dict[str, EnvStore]:
    """Return the stores of a Configure by name."""
    stores = {name: EnvStore(config, name) for name in ENVIRONMENT}
    pv_names = {
        value.field.name: str(value.value).partition(",")[0]
        for value in configure.fields()
        if value.names.detname == "epicsinfo" and value.field.name != "keys"
    }
    stores["epics"].set_aliases(pv_names)
    return stores

"""What a Configure means to a script: its detectors, their algs and segments, their configuration values and the environment.

It holds a private copy of the Configure, for nothing in the pebble outlives its dgram by right. It knows nothing of events in hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drp.script._fields import EnumValue
from drp.script.env import UPDATED_BY, EnvStore, make_stores, own
from drp.script.errors import near_misses
from drp.script.info import BOOKKEEPING
from xtc import Config, DataType, Dgram, Names, TransitionId
from xtc._walk import Layout

if TYPE_CHECKING:
    from calib.detectors import DetectorSetup


class Namespace:
    """Values by name, as attributes; dotted names are nested."""

    def put(self, path: str, value: Any) -> None:
        """Set the value at a dotted path."""
        head, _, rest = path.partition(".")
        if not rest:
            self.__dict__[head] = value
            return
        inner = self.__dict__.get(head)
        if not isinstance(inner, Namespace):
            inner = self.__dict__[head] = Namespace()
        inner.put(rest, value)

    def has(self, path: str) -> bool:
        """Tell whether there is something at a dotted path."""
        head, _, rest = path.partition(".")
        inner = self.__dict__.get(head)
        return head in self.__dict__ and (not rest or (isinstance(inner, Namespace) and inner.has(rest)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no {name!r} here. {near_misses(name, self.__dict__)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __repr__(self) -> str:
        return f"<{', '.join(self.__dict__)}>"


@dataclass(frozen=True, slots=True)
class Part:
    """One segment of an alg."""

    names: Names
    layout: Layout


class Setup:
    """One Configure. `parts[(detector, alg)]` are its segments in order; `step_changes` counts the BeginSteps that changed configuration values."""

    def __init__(self, configure: memoryview | bytes) -> None:
        copy = bytes(configure)
        self.config = Config(Dgram(copy))
        self.dgram = Dgram(copy, config=self.config)
        self.parts: dict[tuple[str, str], list[Part]] = {}
        for names in self.config.names.values():
            part = Part(names, self.config.layouts[names.names_id])
            self.parts.setdefault((names.detname, names.alg.name), []).append(part)
        for parts in self.parts.values():
            parts.sort(key=lambda one: one.names.segment)
        self.stores: dict[str, EnvStore] = make_stores(self.config, self.dgram)
        self._configs: dict[str, dict[int, Namespace]] | None = None
        self._calibration: dict[str, DetectorSetup] | None = None
        self._stepped: dict[tuple[int, ...], bytes] = {}
        self.step_changes = 0

    @property
    def droppable(self) -> dict[tuple[str, str], list[int]]:
        """The NamesIds of each (detector, alg)."""
        return {key: [part.names.names_id for part in parts] for key, parts in self.parts.items()}

    def detectors(self) -> dict[str, list[str]]:
        """Return the detectors with their algs, those that only keep books left out."""
        out: dict[str, list[str]] = {}
        for det, alg in self.parts:
            if det not in BOOKKEEPING:
                algs = out.setdefault(det, [])
                if alg != "config":
                    algs.append(alg)
        return out

    def algs(self, det: str) -> list[str]:
        """Return the algs of a detector; of drpinfo too, which is no detector of the run but can be read like one."""
        return [alg for name, alg in self.parts if name == det and alg != "config"]

    def calibration(self) -> dict[str, DetectorSetup]:
        """Return the detectors as calibration knows them, by name, with the configuration of the Configure."""
        from calib.detectors import setups_of  # noqa: PLC0415 - only who calibrates needs numba

        if self._calibration is None:
            self._calibration = setups_of(self.config, self.dgram)
        return self._calibration

    def configs(self, det: str) -> dict[int, Namespace]:
        """Return psana's view of a detector's configuration: {segment: container}, as in `[0].config.user.gain`."""
        if self._configs is None:
            self._configs = {}
            for names in self.config.names.values():
                self._configs.setdefault(names.detname, {}).setdefault(names.segment, Namespace())
            self._read(self.dgram, only_known=False)
        return self._configs.get(det, {})

    def update(self, dgram: Dgram) -> None:
        """Take what a transition changes: environment values and configuration values."""
        store = UPDATED_BY.get(dgram.service)
        if store is None:
            return
        self.stores[store].update(dgram)
        if dgram.service == TransitionId.BeginRun and self._stepped:
            self._stepped.clear()
            self.step_changes += 1
        configured = tuple(one.names_id for one in dgram.shapes_data() if one.names.alg.name == "config")
        if dgram.service != TransitionId.SlowUpdate and configured:
            self.configs("")
            self._read(dgram, only_known=True)
        if dgram.service == TransitionId.BeginStep and configured:
            # A later step that sets the same takes the place of an earlier one; the last comes last.
            self._stepped.pop(configured, None)
            self._stepped[configured] = bytes(dgram.view)
            self.step_changes += 1

    @property
    def stepped(self) -> bool:
        """Whether a BeginStep of the run has changed configuration values."""
        return bool(self._stepped)

    def with_steps(self, setup: DetectorSetup) -> DetectorSetup:
        """Return a detector with the configuration values that BeginSteps of the run have set since."""
        from calib.detectors import config_values  # noqa: PLC0415 - as above

        changed: dict[int, dict[str, object]] = {}
        for raw in self._stepped.values():
            for names_id, values in config_values(self.config, Dgram(raw, config=self.config)).items():
                names = self.config.names[names_id]
                if names.detname == setup.name:
                    changed.setdefault(names.segment, {}).update(values)
        panels = tuple(
            replace(panel, config={**panel.config, **changed.get(panel.segment, {})})
            for panel in setup.panels
        )
        return replace(setup, panels=panels)

    def _read(self, dgram: Dgram, *, only_known: bool) -> None:
        """Put the values of a dgram in the tree; `only_known`: only configuration fields that were there."""
        if self._configs is None:
            return
        labels: dict[tuple[int, str], dict[int, str]] = {}
        values = dgram.fields()
        for value in values:
            if value.field.dtype == DataType.ENUMDICT:
                label, _, kind = value.field.name.partition(":")
                labels.setdefault((value.names.names_id, kind), {})[value.value] = label
        for value in values:
            names, field = value.names, value.field
            if field.dtype == DataType.ENUMDICT:
                continue
            found = own(value.value)
            if field.dtype == DataType.ENUMVAL:
                found = EnumValue(found, labels.get((names.names_id, field.enum_type or ""), {}))
            tree = self._configs[names.detname][names.segment]
            path = f"{names.alg.name}.{field.label}"
            if not only_known or (names.alg.name == "config" and tree.has(path)):
                tree.put(path, found)

"""Which constants are whose: the one that is valid for a run, and the panels of it that a detector has, by their serial numbers.

The rule is LCLS's. Position never decides: a panel that moved to another segment takes its constants along. It knows no store and no
network; both use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np

from calib.errors import CalibError, ConstantsMissing
from calib.model import CTYPES, LAST_RUN, Constant, DetectorId, blocks_per_panel, digest_of
from xtc import Config


class Dated(Protocol):
    """What the rule must know of a constant: its type, the panels of the detector it was put for, where and for which runs it is valid,
    and when it was put.
    """

    @property
    def ctype(self) -> str: ...
    @property
    def panels(self) -> tuple[str, ...]: ...
    @property
    def experiment(self) -> str: ...
    @property
    def run(self) -> int: ...
    @property
    def run_end(self) -> int | None: ...
    @property
    def created(self) -> float: ...


Entry = TypeVar("Entry", bound=Dated)


def choose(
    entries: Iterable[Entry],
    detector: DetectorId,
    experiment: str | None,
    run: int,
    *,
    ctypes: Collection[str] | None = None,
) -> dict[str, Entry]:
    """Return for each type the constant to use for a detector; `entries` are of its dettype, in the order in which they were put.

    What has a value for each pixel may come from any detector that has all the panels: it is theirs, whatever else was built around
    them. What is of the whole detector, such as a geometry, comes from that very detector where there is one. Raises ConstantsMissing
    where some of the panels are known and one is not.
    """
    wanted = set(detector.serials)
    whole, partly, exact = [], set(), []
    for entry in entries:
        if wanted <= set(entry.panels):
            whole.append(entry)
            if entry.panels == detector.serials:
                exact.append(entry)
        else:
            partly |= wanted & set(entry.panels)
    if not whole and partly:
        missing = [serial for serial in detector.serials if serial not in partly]
        raise missing_panels("constants", missing or detector.serials, partly, str(detector))
    chosen = latest_valid(whole, experiment, run, ctypes=ctypes)
    for ctype, entry in latest_valid(exact, experiment, run, ctypes=ctypes).items():
        if ctype not in CTYPES or not CTYPES[ctype].per_pixel:
            chosen[ctype] = entry
    return chosen


def latest_valid(
    entries: Iterable[Entry], experiment: str | None, run: int, *, ctypes: Collection[str] | None = None
) -> dict[str, Entry]:
    """Return for each type the constant to use; `entries` are in the order in which they were put.

    Those of the experiment that are valid for the run come first: the one that begins last, then the one whose range is narrower,
    then the one that was put last. A type that the experiment has not for this run is the one that was put last for the
    detector, by whatever experiment. Run 0 is not recorded and asks as the last run there can be; where all ranges of the experiment have
    ended by then, the one that begins last is taken.
    """
    of_type: dict[str, list[Entry]] = {}
    for entry in entries:
        if ctypes is None or entry.ctype in ctypes:
            of_type.setdefault(entry.ctype, []).append(entry)
    return {ctype: _choose(found, experiment, run) for ctype, found in of_type.items()}


def _choose(found: list[Entry], experiment: str | None, run: int) -> Entry:
    own = [entry for entry in found if experiment and entry.experiment == experiment]
    asked = run or max([LAST_RUN, *(entry.run for entry in own)])
    valid = [entry for entry in own if entry.run <= asked <= _end(entry, asked)]
    if run == 0 and not valid:
        valid = own
    if valid:
        return max(enumerate(valid), key=lambda at: (at[1].run, -_end(at[1], asked), at[1].created, at[0]))[1]
    return max(enumerate(found), key=lambda at: (at[1].created, at[0]))[1]


def _end(entry: Dated, asked: int) -> int:
    forever = max(LAST_RUN, asked)
    return forever if entry.run_end is None or entry.run_end >= LAST_RUN else entry.run_end


def for_panels(constant: Constant, serials: tuple[str, ...], where: str = "") -> Constant:
    """Return the constant of these panels only, in this order; a value without panels, or no serials asked: as it is.

    The value is a view where the panels lie evenly, else a copy; the digest is that of what is returned. Raises ConstantsMissing
    naming the panels that the constant has not.
    """
    if not serials or not constant.serials or serials == constant.serials or isinstance(constant.value, str):
        return constant
    blocks = blocks_per_panel(constant.ctype, constant.value.shape, constant.serials)
    blocks_per_panel(constant.ctype, (len(serials), 1, 1), serials)
    missing = [serial for serial in serials if serial not in constant.serials]
    if missing:
        raise missing_panels(constant.ctype, missing, constant.serials, where)
    value = constant.value
    if len(constant.serials) > 1:
        places = [constant.serials.index(serial) for serial in serials]
        lies = [place * blocks + block for place in places for block in range(blocks)]
        value = np.ascontiguousarray(np.take(value, lies, axis=value.ndim - 3))
        value.flags.writeable = False
    return replace(constant, value=value, serials=serials, digest=digest_of(value))


def missing_panels(what: str, missing: Collection[str], held: Collection[str], where: str = "") -> CalibError:
    """Return the error for panels that no constants hold."""
    names = ", ".join(map(repr, missing))
    return ConstantsMissing(
        f"{what} of panel{'s'[: len(missing) > 1]} {names} are missing; there are those of {', '.join(map(repr, held))}",
        where=where,
        hint="Put constants that hold this panel: constants are chosen by serial number, never by position.",
    )


def detector_in(config: Config, name: str) -> DetectorId:
    """Return the detector that a Configure calls `name`, its panels in segment order; raise ConstantsMissing if there is none."""
    found = [names for names in config.names.values() if names.detname == name]
    if not found:
        known = sorted({names.detname for names in config.names.values()})
        raise ConstantsMissing(f"the Configure has no detector {name!r}", hint=f"It has: {', '.join(known)}.")
    by_segment = {names.segment: names for names in found}
    panels = [by_segment[segment] for segment in sorted(by_segment)]
    return DetectorId(name, panels[0].dettype, tuple(names.detid for names in panels))

"""The constants that a Configure and a BeginRun call for: found by panel serial, derived, and told of. The same live and offline.

Only detectors with images are looked up, and of them only the panels that the Configure names. What a detector lacks is no error
here but a text, `trouble`, that whoever asks for calibrated data is told; only where constants are required does it end the
BeginRun.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from drp.core.errors import ConstantsError
from xtc import Config, DataType, Dgram

if TYPE_CHECKING:
    from calib import Constant, Source
    from calib.broadcast import Packed
    from calib.detectors import DetectorSetup

Array = npt.NDArray[Any]
Value = Array | str
DERIVED = "derived"
ALL = "all"
"""What `skip_calib_load` says instead of the names of all detectors."""
# What made the constants, not what calibrates with them.
NOT_TAKEN = frozenset({"pixel_datast", "pixel_max", "pixel_min", "code_geometry"})
TOLD = ("id", "version", "experiment", "run", "run_end", "digest", "put_digest")


@dataclass(frozen=True, slots=True, eq=False)
class DetectorConstants:
    """What one detector is calibrated with in one run.

    `constants` by ctype and `derived` by name are read-only arrays (texts are str), segments in the order of `setup.panels`; `records` tell
    id, version, experiment, run, run_end, digest and put_digest of each constant. `trouble` says why there is nothing derived, `doubt` what is wrong
    with some of it, `useless` why nothing can be calibrated or drawn with it; each "" where all is well.
    """

    setup: DetectorSetup
    constants: Mapping[str, Value]
    derived: Mapping[str, Array]
    records: Mapping[str, Mapping[str, Any]]
    trouble: str
    doubt: str = ""
    useless: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """What to look for: the detectors of a Configure, with the configuration values in force at BeginRun, and the run."""

    setups: Mapping[str, DetectorSetup]
    experiment: str | None
    run: int


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a source has for a Lookup: constants by detector and ctype, and why a detector has none."""

    lookup: Lookup
    constants: Mapping[str, Mapping[str, Constant]]
    troubles: Mapping[str, str]
    source: str

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of which panels have which values, however and wherever they are kept."""
        return _digest({name: self._content(name) for name in self.constants})

    @property
    def key(self) -> str:
        """What also decides what is derived from them: the kind and the configuration of each detector."""
        kinds = {name: _kind(setup) for name, setup in self.lookup.setups.items()}
        return _digest([self.digest, kinds, dict(self.troubles)])

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what is known of the constants of one detector, by ctype, as JSON holds it."""
        of_detector = sorted(self.constants.get(name, {}).items())
        return {ctype: {field: getattr(one, field) for field in TOLD} for ctype, one in of_detector}

    def record(self) -> dict[str, str]:
        """Return the fields of the ShapesData that BeginRun keeps of this."""
        records = {name: self.records(name) for name in sorted(self.constants)}
        return {
            "digest": self.digest,
            "source": self.source,
            "constants": json.dumps(records, separators=(",", ":"), sort_keys=True),
        }

    def _content(self, name: str) -> dict[str, Any]:
        serials = [panel.serial for panel in self.lookup.setups[name].panels]
        return {"panels": serials, **{ctype: one.digest for ctype, one in self.constants[name].items()}}


def prepare() -> None:
    """Import what workers calibrate with and compile its kernels, in the nursery: what is forked from it has them."""
    import zmq  # noqa: F401, PLC0415 - imported, and no context made

    from calib import geometry  # noqa: PLC0415 - only a run with constants pays for numba
    from calib.broadcast import subscriber  # noqa: F401, PLC0415 - as above
    from calib.detectors import corrections  # noqa: PLC0415 - as above

    geometry.warm_up()
    for correction in corrections():
        correction.warm_up()


def look_up(
    config: Config,
    configure: Dgram,
    begin_run: bytes,
    experiment: str | None,
    run: int | None,
    skipped: Collection[str] = (),
) -> Lookup:
    """Return what the detectors with images of a Configure need, but for those that the script does without; run None, and 0, ask for the latest."""
    from calib.detectors import config_values, setups  # noqa: PLC0415 - only a run with constants pays for numba

    values = config_values(config, configure)
    for names_id, changed in config_values(config, Dgram(begin_run, config=config)).items():
        values[names_id] = {**values.get(names_id, {}), **changed}
    areas = {one.detname for one in config.names.values() if _has_image(one.fields)}
    areas = set() if ALL in skipped else areas.difference(skipped)
    found = {name: setup for name, setup in setups(config.names, values).items() if name in areas}
    return Lookup(found, experiment, run or 0)


def find(source: Source, lookup: Lookup) -> Found:
    """Ask a source; raises StoreError, ServiceError or BroadcastError where it cannot be asked."""
    from calib import CTYPES, ConstantsMisshapen, ConstantsMissing, DetectorId  # noqa: PLC0415 - as above

    wanted = [name for name in CTYPES if name not in NOT_TAKEN]
    constants: dict[str, Mapping[str, Constant]] = {}
    troubles: dict[str, str] = {}
    for name, setup in lookup.setups.items():
        serials = tuple(panel.serial for panel in setup.panels)
        detector = DetectorId(name, setup.dettype, serials if any(serials) else ())
        try:
            constants[name] = source.find(detector, lookup.experiment, lookup.run, ctypes=wanted)
        except (ConstantsMissing, ConstantsMisshapen) as error:
            constants[name] = {}
            troubles[name] = str(error)
        if not constants[name] and name not in troubles:
            panels = ", ".join(serials)
            troubles[name] = f"{name}: there are no constants for {setup.dettype} {panels}".rstrip()
    return Found(lookup, constants, troubles, source.url)


def derive(found: Found, name: str) -> tuple[dict[str, Array], str]:
    """Return what kernels read of a detector's constants, and "", or nothing and what is wrong."""
    from calib.detectors import correction_type  # noqa: PLC0415 - as above
    from calib.errors import ConstantsMisshapen, ConstantsMissing  # noqa: PLC0415 - as above

    if name in found.troubles:
        return {}, _told(found, name, found.troubles[name])
    setup = found.lookup.setups[name]
    values = {ctype: one.value for ctype, one in found.constants[name].items()}
    try:
        return correction_type(setup).derive(setup, values), ""
    except (ConstantsMissing, ConstantsMisshapen) as error:
        return {}, _told(found, name, str(error))


def assess(found: Found, name: str, derived: Mapping[str, Array]) -> tuple[str, str]:
    """Return what is wrong with constants that could be derived, and why they are of no use at all; "" each where all is well."""
    from calib.soundness import soundness  # noqa: PLC0415 - as above
    from drp.script.images import geometry_fault  # noqa: PLC0415 - as above

    if not derived:
        return "", ""
    setup = found.lookup.setups[name]
    values = {ctype: one.value for ctype, one in found.constants[name].items()}
    sound = soundness(setup, values, derived)
    geometry = geometry_fault(setup, values.get("geometry"), derived["mask"].shape[1:])
    useless = [str(sound) if not sound.usable else "", geometry]
    doubts = [str(sound), geometry]
    return _listed(name, doubts), _told(found, name, text) if (text := _listed(name, useless)) else ""


def _listed(name: str, texts: list[str]) -> str:
    wrong = [text for text in texts if text]
    return f"{name}: {'; '.join(wrong)}" if wrong else ""


def _told(found: Found, name: str, trouble: str) -> str:
    """Return what is wrong, and where it was looked for."""
    lookup = found.lookup
    panels = ", ".join(panel.serial for panel in lookup.setups[name].panels)
    experiment = lookup.experiment or "no experiment"
    return (
        f"{trouble.rstrip('.')}. Looked in {found.source} for {experiment}, run {lookup.run}, panels {panels}"
    )


def check_required(troubles: Mapping[str, str], source: str) -> None:
    """Raise ConstantsError with all that is missing."""
    wrong = [text for text in troubles.values() if text]
    if wrong:
        raise ConstantsError(
            f"they are required (--require-constants) and not whole, or of no use: {'; '.join(wrong)}",
            source=source,
            hint="Put what is missing, or leave --require-constants out.",
        )


def in_memory(found: Found) -> dict[str, DetectorConstants]:
    """Return the constants of all detectors, derived, in this process's own memory."""
    out: dict[str, DetectorConstants] = {}
    for name, setup in found.lookup.setups.items():
        derived, trouble = derive(found, name)
        values = {ctype: one.value for ctype, one in found.constants[name].items()}
        for array in derived.values():
            array.flags.writeable = False
        told = assess(found, name, derived)
        out[name] = DetectorConstants(setup, values, derived, found.records(name), trouble, *told)
    return out


def as_set(found: Found) -> tuple[dict[str, Value], dict[str, Any]]:
    """Return what is packed for workers: values by `detector/ctype` and `detector/derived/name`, and what is told of them."""
    from drp.script.images import plan_arrays  # noqa: PLC0415 - as above

    values: dict[str, Value] = {}
    told: dict[str, Any] = {}
    for name, setup in found.lookup.setups.items():
        derived, trouble = derive(found, name)
        doubt, useless = assess(found, name, derived)
        if derived:
            geometry = found.constants[name].get("geometry")
            derived |= plan_arrays(setup, geometry and geometry.value, derived["mask"].shape[1:])
        values |= {f"{name}/{ctype}": one.value for ctype, one in found.constants[name].items()}
        values |= {f"{name}/{DERIVED}/{key}": array for key, array in derived.items()}
        told[name] = {"records": found.records(name), "trouble": trouble, "doubt": doubt, "useless": useless}
    return values, {"detectors": told, "source": found.source}


def from_set(packed: Packed, lookup: Lookup) -> dict[str, DetectorConstants]:
    """Return the constants of a packed set, as views of it, for the detectors of `lookup`; one the set has not is left out."""
    out: dict[str, DetectorConstants] = {}
    for name, told in packed.about["detectors"].items():
        if name not in lookup.setups:
            continue
        constants = {ctype: packed.values[f"{name}/{ctype}"] for ctype in told["records"]}
        start = f"{name}/{DERIVED}/"
        derived = {
            key.removeprefix(start): value
            for key, value in packed.values.items()
            if key.startswith(start) and not isinstance(value, str)
        }
        out[name] = DetectorConstants(
            lookup.setups[name],
            constants,
            derived,
            told["records"],
            told["trouble"],
            told["doubt"],
            told["useless"],
        )
    return out


def _has_image(fields: tuple[Any, ...]) -> bool:
    return any(one.rank >= 2 and one.dtype < DataType.FLOAT for one in fields)


def _kind(setup: DetectorSetup) -> list[Any]:
    panels = [[one.segment, one.serial, _config_digest(one.config)] for one in setup.panels]
    return [setup.dettype, setup.alg, list(setup.version), list(setup.panel_shape), panels]


def _config_digest(config: Mapping[str, object]) -> str:
    from calib.broadcast.packing import content_digest  # noqa: PLC0415 - as above

    plain = {
        name: content_digest(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else repr(value)
        for name, value in config.items()
    }
    return _digest(plain)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

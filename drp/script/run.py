"""Run and Step as a script sees them. Where the stream of dgrams stands is the session's business."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from drp.script._event import EventIterator, Verbs
from drp.script.declare import AddedDetector
from drp.script.detector import AlgInterface, Detector, EnvDetector, MissingDetector
from drp.script.errors import CalibrationError, UnknownNameError, near_misses
from drp.script.reduce import Array, Op
from xtc import AlgDef, DetectorDef, TransitionId

if TYPE_CHECKING:
    from drp.script.calibrated import Calibration
    from drp.script.session import Session

RECORD = "drpinfo"
"""What drp adds to each event that it records."""


class ScriptVerbs(Verbs):
    """What `ds` and `run` both can do: declare new data and edit the event in hand."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.stream)
        self._session = session

    def add_detector(
        self,
        detdef: DetectorDef,
        algdef: AlgDef,
        datadef: Mapping[str, tuple[Any, int]],
        nodeId: int | None = None,
        namesId: int | None = None,
        segment: int | None = None,
    ) -> AddedDetector:
        """Declare new data of a detector: `{field: (numpy type or str, rank)}`; before the first event.

        Returns what holds them: assign `.<alg>.<field>`, then `add_data(det.<alg>)`. `segment` defaults to that of `drp_info`; nodeId and
        namesId to what is free. Raises DeclarationError.
        """
        return self._session.add_detector(detdef, algdef, datadef, nodeId, namesId, segment)

    def reduce(self, name: str, array: Array, op: Op = "sum", *, per_step: bool = False) -> Array:
        """Declare an array to accumulate in, merged over workers and written at EndStep and EndRun; before the first event.

        The array itself is used and returned, set to the identity of `op` ("sum", "min", "max") now and after each step. `per_step` is for large
        ones: where no worker has changed it in a step, and at EndRun, what is written has no elements: its first dimension is 0.
        """
        return self._session.reduce(name, array, op, per_step=per_step)


class Step:
    """One step of a run; `evt` is the step itself, so that scan variables can be read with it."""

    def __init__(self, session: Session, timestamp: int) -> None:
        self._session = session
        self.timestamp = timestamp
        self.ended = False

    @property
    def evt(self) -> Step:
        """What stands for the BeginStep where an event is asked for."""
        return self

    def service(self) -> TransitionId:
        """Return BeginStep."""
        return TransitionId.BeginStep

    def events(self) -> EventIterator:
        """Return the events of this step."""
        return EventIterator(self._session.stream, self)


class Run(ScriptVerbs):
    """One run. `expt`, `runnum` and `timestamp` are those of its BeginRun, None where it says nothing."""

    def __init__(self, session: Session, expt: str | None, runnum: int | None, timestamp: int) -> None:
        super().__init__(session)
        self.expt = expt
        self.runnum = runnum
        self.timestamp = timestamp
        self.ended = False
        self._step: Step | None = None

    def run(self) -> int | None:
        """Return the run number."""
        return self.runnum

    def events(self) -> EventIterator:
        """Return the events of this run; asking for the next one sends the one in hand on its way."""
        return EventIterator(self._session.stream, self)

    def steps(self) -> Iterator[Step]:
        """Yield the steps of this run; events of a step that are not asked for pass unedited."""
        while not self.ended:
            step = self._session.next_step()
            if step is None:
                return
            yield step

    def step(self, evt: Any) -> Step | None:
        """Return the step an event is in, or None outside of any."""
        return self._step if evt is not None else None

    def Detector(self, name: str, accept_missing: bool = False, **options: Any) -> Any:
        """Return a detector, or an epics or scan variable, by name (of a variable also its PV name).

        Of a file that drp recorded "drpinfo" tells why an event is damaged: `.drpinfo.cause(evt)`.

        Of a detector `options` are those of its mask, as in psana. With `calib=True` the constants must be there, CalibrationError where they
        are not, and pixel_mask is applied. Raises UnknownNameError with the near misses, unless `accept_missing`.
        """
        setup = self._session.setup
        detectors = setup.detectors()
        for store in setup.stores.values():
            field = store.locate(name)
            if field is not None and name not in detectors:
                return EnvDetector(store, field)
        if name in detectors or (name == RECORD and setup.algs(RECORD)):
            det = Detector(self._session.stream, setup, name)
            det.set_calibration(lambda alg: self._calibration(alg, name, options))
            if options.get("calib"):
                det.calibration().require()
            return det
        if accept_missing:
            return MissingDetector()
        known = {
            *detectors,
            *(one for store in setup.stores.values() for one in (*store.variables, *store.aliases.values())),
        }
        raise UnknownNameError(f"no detector or variable {name!r} in this run", hint=near_misses(name, known))

    def _calibration(self, alg: AlgInterface, name: str, options: Mapping[str, Any]) -> Calibration:
        """Return what calibrates an alg; raise CalibrationError where its data are no frames."""
        from drp.script.calibrated import Calibration  # noqa: PLC0415 - only who calibrates needs numba

        session = self._session
        setup = session.setup.calibration().get(name)
        if setup is None or not alg._holds_frames(setup):
            raise CalibrationError(
                f"{name}.{alg._alg} holds no frames that can be calibrated",
                hint="Frames are an array of alg raw or fex, or compressed ones.",
            )
        return Calibration(setup, session, alg.segments, options)

    @property
    def detnames(self) -> set[str]:
        """The detectors of this run."""
        return {det for det, algs in self._session.setup.detectors().items() if algs}

    @property
    def detinfo(self) -> dict[tuple[str, str], list[str]]:
        """The fields of each (detector, alg)."""
        setup = self._session.setup
        return {
            (det, alg): [field.label for field in setup.parts[(det, alg)][0].names.fields]
            for det, algs in setup.detectors().items()
            for alg in algs
        }

    @property
    def xtcinfo(self) -> dict[tuple[str, str], str]:
        """The version, as `major_minor_micro`, of each (detector, alg)."""
        return {
            key: "_".join(str(part) for part in parts[0].names.alg.version)
            for key, parts in self._session.setup.parts.items()
        }

    @property
    def epicsinfo(self) -> dict[tuple[str, str], str]:
        """The epics variables: {(variable, PV name): PV name}."""
        return self._session.setup.stores["epics"].info()

    @property
    def scaninfo(self) -> dict[tuple[str, str], str]:
        """The scan variables: {(variable, alg): alg}."""
        return self._session.setup.stores["scan"].info()

    @property
    def scannames(self) -> set[str]:
        """The names of the scan variables."""
        return set(self._session.setup.stores["scan"].variables)

    @property
    def scan(self) -> bool:
        """Whether this run has scan variables."""
        return bool(self.scannames)

"""Where a script's constants come from: in a worker the set that drp shares with all of them, offline the source itself.

A session has one of the two, or neither. Each BeginRun comes here before the script is given its run: a worker takes the set
then, and drp knows that it has it before BeginRun is complete. What calibrates detectors asks `current`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from drp.script import constants_set
from drp.script.constants_set import DetectorConstants, Found, Lookup
from drp.script.constants_source import open_constants
from drp.script.errors import CalibrationError
from drp.shm._segment import Segment, attach

if TYPE_CHECKING:
    from calib import Source
    from calib.broadcast import Packed
    from drp.script.session import Session
    from drp.script.setup import Setup

log = logging.getLogger("drp.constants")
HOW = "Start drp with --calib URL, or set DRP_CALIB."


class RunConstants(Protocol):
    """What a session asks for its constants."""

    def begin_run(
        self, setup: Setup, dgram: memoryview, experiment: str | None, run: int | None, stamp: int, /
    ) -> None:
        """Take what the run needs; `dgram` is the BeginRun in hand, `stamp` its time stamp. Raises CalibrationError."""

    def detectors(self) -> Mapping[str, DetectorConstants]:
        """Return the constants of the run by detector; raises CalibrationError."""

    def skip(self, names: Collection[str], /) -> None:
        """Do without the constants of these detectors from the next BeginRun on."""


def current(session: Session) -> Mapping[str, DetectorConstants]:
    """Return the constants of the run in hand, by detector name; those without images are not among them.

    Raises CalibrationError where there is no source of constants, no run, or the source cannot be read. That a detector has none is no error: its
    `trouble` then says what is missing and where it was looked for.
    """
    if session.constants is None:
        raise CalibrationError("there is no source of calibration constants", hint=HOW)
    return session.constants.detectors()


@dataclass(slots=True)
class _Asked:
    """What the BeginRun in force said, from which the setups are read when somebody needs them."""

    setup: Setup
    begin_run: bytes
    experiment: str | None
    run: int | None
    skipped: Collection[str] = ()

    def lookup(self) -> Lookup:
        setup = self.setup
        return constants_set.look_up(
            setup.config, setup.dgram, self.begin_run, self.experiment, self.run, self.skipped
        )


class LiveConstants:
    """The set that drp shares, as a worker takes it: `address` is drp's socket, `ticket` what tells it who asks."""

    def __init__(self, address: str, ticket: str, limit_s: float) -> None:
        from calib.broadcast.subscriber import Subscriber  # noqa: PLC0415 - only a run with constants pays for zmq

        self._subscriber = Subscriber(address, ticket, _attach, limit_s=limit_s)
        self._asked: _Asked | None = None
        self._packed: Packed | None = None
        self._detectors: dict[str, DetectorConstants] | None = None

    def begin_run(
        self, setup: Setup, dgram: memoryview, experiment: str | None, run: int | None, stamp: int
    ) -> None:
        """Take the set for this BeginRun, and have drp know it."""
        from calib import CalibError  # noqa: PLC0415 - as above

        self._packed = self._detectors = None
        self._asked = _Asked(setup, bytes(dgram), experiment, run)
        try:
            _, self._packed = self._subscriber.take(stamp)
        except CalibError as error:
            raise CalibrationError(f"the constants did not come: {error}") from error

    def skip(self, names: Collection[str]) -> None:
        """Nothing is to be done: drp is told with the answer to Configure, and its set has none of these."""

    def detectors(self) -> Mapping[str, DetectorConstants]:
        """Return views of the shared set; they hold it attached."""
        if self._packed is None or self._asked is None:
            raise CalibrationError("there are constants in a run only", hint="Ask inside of ds.runs().")
        if self._detectors is None:
            self._detectors = constants_set.from_set(self._packed, self._asked.lookup())
        return self._detectors


class OfflineConstants:
    """Constants straight from a source, opened by `open_source` for each run that asks; `experiment` and `run` go before what the file says.

    `eager`: looked for at each BeginRun, for its record; else when somebody asks. `required` is --require-constants. `kind` says what source it
    is where none is asked.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        eager: bool = False,
        required: bool = False,
        experiment: str | None = None,
        run: int | None = None,
        kind: str = "",
    ) -> None:
        self._open = open_source
        self._kind = kind
        self._eager = eager or required
        self._required = required
        self._told: set[str] = set()
        self._skipped: Collection[str] = ()
        self._experiment = experiment
        self._run = run
        self._asked: _Asked | None = None
        self._found: Found | None = None
        self._detectors: dict[str, DetectorConstants] | None = None

    def begin_run(
        self, setup: Setup, dgram: memoryview, experiment: str | None, run: int | None, _stamp: int
    ) -> None:
        """Remember the run, and look for its constants where that is not left for later."""
        self._found = self._detectors = None
        number = run if self._run is None else self._run
        self._asked = _Asked(setup, bytes(dgram), self._experiment or experiment, number, self._skipped)
        if self._required:
            wrong = {name: one.trouble or one.useless for name, one in self.detectors().items()}
            constants_set.check_required(wrong, self._find().source)
        elif self._eager:
            self._find()

    def skip(self, names: Collection[str]) -> None:
        """Look for none of these detectors' constants."""
        self._skipped = names

    def detectors(self) -> Mapping[str, DetectorConstants]:
        """Return the constants, found and derived when first asked for."""
        if self._detectors is None:
            self._detectors = constants_set.in_memory(self._find())
            for one in self._detectors.values():
                if one.doubt and one.doubt not in self._told:
                    log.warning("%s", one.doubt)
                    self._told.add(one.doubt)
        return self._detectors

    def record(self) -> dict[str, str]:
        """Return the fields of what BeginRun keeps of the constants."""
        return self._find().record()

    def _find(self) -> Found:
        from calib import CalibError  # noqa: PLC0415 - only a run with constants pays for it

        if self._asked is None:
            raise CalibrationError("there are constants in a run only", hint="Ask inside of ds.runs().")
        if self._found is None:
            lookup = self._asked.lookup()
            if not lookup.setups:
                # Nobody is asked, so nobody need be there.
                self._found = Found(lookup, {}, {}, self._kind)
                return self._found
            try:
                source = self._open()
                try:
                    self._found = constants_set.find(source, lookup)
                finally:
                    source.close()
            except CalibError as error:
                raise CalibrationError(f"the constants cannot be read: {error}") from error
        return self._found


def offline_constants(url: str | None, **options: Any) -> OfflineConstants | None:
    """Return the constants of a script on recorded files, None without a source; options as of OfflineConstants."""
    if not url:
        return None

    def opened() -> Source:
        return open_constants(url)

    return OfflineConstants(opened, kind=url.partition(":")[0], **options)


def live_constants(given: Mapping[str, Any] | None) -> LiveConstants | None:
    """Return the constants of a worker from what its spec says of them, None where it says nothing."""
    if given is None:
        return None
    return LiveConstants(str(given["address"]), str(given["ticket"]), float(given["limit_s"]))


def _attach(segment_id: int, size_bytes: int) -> Segment:
    return attach(segment_id, size_bytes, True)

"""Making a set of constants for workers: from a BeginRun to a shared memory segment that holds all of it.

It works in a thread that may be left behind where a source hangs, so nothing here is shared but what is given and returned. Where
a supervisor is configured this drp is it (and serves the others over tcp, from a source of its own), or asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calib import CalibError, Constant, DetectorId
from calib.broadcast import Entry, pack
from drp.core.config import DrpConfig
from drp.core.errors import ConstantsError, SegmentError
from drp.script.constants_set import Found, as_set, check_required, find, look_up
from drp.script.constants_source import open_constants
from drp.shm._segment import Segment, create
from xtc import Config, Dgram

if TYPE_CHECKING:
    from calib import Source

log = logging.getLogger("drp.constants")


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What a set is made for, and the set before it, whose segment is kept if nothing has changed."""

    config: Config
    configure: Dgram
    begin_run: bytes
    stamp: int
    skipped: tuple[str, ...]
    before: Made | None


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A set in its segment. `detectors` holds what is known of each constant by detector and ctype; `record` is what BeginRun keeps."""

    stamp: int
    run: int
    key: str
    segment: Segment
    size_bytes: int
    packed_digest: str
    entries: tuple[Entry, ...]
    record: dict[str, str]
    detectors: dict[str, dict[str, dict[str, Any]]]
    troubles: tuple[str, ...]
    doubts: tuple[str, ...]
    reused: bool

    @property
    def summary(self) -> str:
        """The detectors with their ctypes, for a line of the log."""
        return "; ".join(f"{name}: {', '.join(ctypes)}" for name, ctypes in self.detectors.items() if ctypes)


class Maker:
    """Makes sets for one drp as its options say. `source` and `doing` are for messages, from any thread."""

    def __init__(self, config: DrpConfig) -> None:
        """Start to serve as the supervisor, where this drp is it; ConstantsError where that cannot be."""
        self.doing = "nothing was asked yet"
        self._config = config
        self._source: Source | None = None
        self._supervisor: Any = None
        self._supervised: Source | None = None
        try:
            self._connect()
        except CalibError as error:
            raise ConstantsError(error.what, source=error.where, hint=error.hint) from error

    @property
    def source(self) -> str:
        """Where constants come from, without a password."""
        return "" if self._source is None else self._source.url

    def make(self, order: Order) -> Made:
        """Return the set for a BeginRun; ConstantsError where its source fails, or what is required is missing."""
        config = self._config
        experiment, run = _run_of(order, config)
        lookup = look_up(order.config, order.configure, order.begin_run, experiment, run, order.skipped)
        self.doing = f"it was asking for {', '.join(lookup.setups) or 'no detector'}"
        try:
            found = find(self._open(), lookup)
            self.doing = "it was deriving what kernels read"
            return self._placed(found, order)
        except CalibError as error:
            raise ConstantsError(error.what, source=error.where or self.source, hint=error.hint) from error

    def close(self) -> None:
        """Serve no more, and let go of the sources."""
        if self._supervisor is not None:
            self._supervisor.close()
        for source in (self._source, self._supervised):
            if source is not None:
                source.close()

    def _connect(self) -> None:
        config = self._config
        if config.calib_address is None or config.calib_key is None:
            return
        from calib.broadcast.keys import read_keys  # noqa: PLC0415 - only where processes share
        from calib.broadcast.supervisor import Supervisor  # noqa: PLC0415 - as above

        keys = read_keys(config.calib_key)
        if config.supervises:
            self._supervised = OpenedLate(config.calib or "")
            self._supervisor = Supervisor(self._supervised, config.calib_address, keys)
            log.info("the supervisor of constants, at %s", config.calib_address)
            return
        from calib.broadcast.follower import Follower  # noqa: PLC0415 - as above

        self._source = Follower(config.calib_address, keys, limit_s=config.calib_timeout_s)

    def _open(self) -> Source:
        if self._source is None:
            self._source = OpenedLate(self._config.calib or "")
        return self._source

    def _placed(self, found: Found, order: Order) -> Made:
        before, key = order.before, found.key
        of_run = (found.record(), {name: found.records(name) for name in found.lookup.setups})
        if before is not None and before.key == key:
            return _again(before, order.stamp, found.lookup.run, *of_run)
        values, about = as_set(found)
        told = about["detectors"].values()
        if self._config.require_constants:
            wrong = {name: one["trouble"] or one["useless"] for name, one in about["detectors"].items()}
            check_required(wrong, found.source)
        plan = pack(values, about)
        self.doing = f"it was placing {plan.size_bytes:,} bytes in shared memory"
        try:
            segment = create(plan.size_bytes)
        except SegmentError as error:
            raise ConstantsError(
                f"no shared memory for them: {error.what}",
                hint="Free some; drp-ipc ls shows what drp holds.",
            ) from error
        plan.write(segment)
        return Made(
            order.stamp,
            found.lookup.run,
            key,
            segment,
            plan.size_bytes,
            plan.digest,
            plan.entries,
            *of_run,
            tuple(one["trouble"] for one in told if one["trouble"]),
            tuple(one["doubt"] for one in told if one["doubt"]),
            reused=False,
        )


class OpenedLate:
    """A source that is opened when it is first asked, in the thread that asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._source: Source | None = None

    @property
    def url(self) -> str:
        """Where it is; before it is opened only its kind, for the rest may hold a password."""
        return self._url.partition(":")[0] if self._source is None else self._source.url

    def find(
        self, detector: DetectorId, experiment: str | None, run: int, *, ctypes: Collection[str] | None = None
    ) -> dict[str, Constant]:
        """As Source.find; also raises what opening raises."""
        if self._source is None:
            self._source = open_constants(self._url)
        return self._source.find(detector, experiment, run, ctypes=ctypes)

    def close(self) -> None:
        """Close it if it was opened."""
        if self._source is not None:
            self._source.close()


def _again(
    before: Made,
    stamp: int,
    run: int,
    record: dict[str, str],
    detectors: dict[str, dict[str, dict[str, Any]]],
) -> Made:
    return Made(
        stamp,
        run,
        before.key,
        before.segment,
        before.size_bytes,
        before.packed_digest,
        before.entries,
        record,
        detectors,
        before.troubles,
        before.doubts,
        reused=True,
    )


def _run_of(order: Order, config: DrpConfig) -> tuple[str | None, int | None]:
    """Return experiment and run: what the user says, else the runinfo of BeginRun."""
    told: dict[str, Any] = {}
    for value in Dgram(order.begin_run, config=order.config).fields():
        if value.names.detname == "runinfo":
            told[value.field.name] = value.value
    experiment, run = told.get("expt"), told.get("runnum")
    return (
        config.expt or (experiment if isinstance(experiment, str) else None),
        config.run if config.run is not None else (run if isinstance(run, int) else None),
    )

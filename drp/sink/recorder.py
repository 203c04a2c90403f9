"""What is written for each transition, and into which file: the policy of recording.

The Configure is kept, and written first at BeginRun, with the Names of the script and of drp merged in,
since a script may declare until then. `transition` makes the bytes of big and smd file; who calls writes
them behind all earlier dgrams, with `l1.record_pair`, and then calls `settle`, which begins a new chunk
or closes the files where that is due.

    Configure   kept; nothing is written
    BeginRun    files are opened; Configure and BeginRun, with runinfo
    Enable      with chunkinfo, where the chunk is more than half full: the last dgram of its file
    EndRun      with the ledger; then the files are closed
    others      as they came, with what the script added; SlowUpdates nobody edits need not come through here

Arrays of `ds.reduce` are in the big file only: they may be large, and who reads small data has no event that they belong to.

Calls come from one thread; L1Accepts go to `l1` from another, but none is under way in a call of
`transition` for BeginRun or in `settle`. It knows nothing of rings and workers: an answer comes as one,
combined.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drp.core.errors import RecorderError, ScriptError, SourceError
from drp.core.ledger import LEDGER_FIELDS, Cause
from drp.shm._block import NamesTable, encode_block
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder
from drp.sink.answer import EMPTY, TRUNCATED, Answer, Reduced, RunTotal, merge_declared
from drp.sink.declare import Declared, OwnNames, assign_names, assign_own
from drp.sink.files import MAX_CHUNK, SMD_STAGING_BYTES, FileReport, OutputFile, RunFiles
from xtc import (
    ChunkInfo,
    Config,
    Dgram,
    DgramHeader,
    Names,
    TransitionId,
    TypeId,
    XtcError,
    XtcHeader,
    encode_chunkinfo,
    encode_dgram,
    encode_shapes_data,
    smd_configure,
)
from xtc.codes import MAX_DIMS, MAX_EXTENT, SHAPE
from xtc.records import DGRAM_BYTES, XTC_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_CHUNK_BYTES = 500_000_000_000
DEFAULT_EXPERIMENT = "expt"
DEFAULT_RUN = 1
GATHER_TRUNCATED, MALFORMED = 1, 2  # as in _gather.pxd
MAX_DGRAM_BYTES = 0x7FFFFFFF

_Told = tuple[str | None, int | None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Output:
    """Where a run is recorded. `experiment` and `run` None: those of the source's runinfo, else "expt" and 1.

    Further runs that the source gives no number, or all where `run` is given, count up from there.
    """

    root: Path
    instrument: str = "drp"
    experiment: str | None = None
    run: int | None = None
    stream: int = 0
    overwrite: bool = False
    chunk_bytes: int = DEFAULT_CHUNK_BYTES


class Then(Enum):
    """What `settle` does once a transition is in the files."""

    NOTHING = 0
    NEW_CHUNK = 1
    CLOSE = 2


@dataclass(frozen=True, slots=True)
class Written:
    """The bytes of a transition for both files (empty: nothing is written), and what comes after.

    `shown` are the dgrams that those who monitor get, recording or not: at Configure an empty one, at BeginRun the whole Configure before it.
    """

    big: bytes | memoryview = b""
    smd: bytes = b""
    then: Then = Then.NOTHING
    shown: bytes | memoryview = b""


@dataclass(slots=True)
class _Setup:
    """All that a Configure, and what was declared on it so far, decides."""

    config: Config
    raw: bytes
    answer: Answer
    declared: tuple[Declared, ...]
    constants: bool
    segment: int = 0
    script: list[Names] = field(default_factory=list)
    own: OwnNames = field(init=False)

    def assign(self) -> None:
        self.script = assign_names(self.config, self.declared)
        self.own = assign_own(self.config, self.script, constants=self.constants, segment=self.segment)

    @property
    def table(self) -> NamesTable:
        roles = [one.role for one in self.declared]
        return NamesTable(self.script, roles.index("trigger") if "trigger" in roles else -1)


class Recorder:
    """Record runs into files of `output`, or, where that is None, into none, with all checks and
    counts all the same.

    `constants`: BeginRun keeps which constants were used (`drpcalib`).

    What workers add to a transition fits `transition_bytes` together with what it has, or it is recorded
    as it came, marked Truncated, and counted in `truncated`.

    `l1` takes the L1Accepts. Attributes: `files`, the reports of all files closed so far; `names`, the
    Names of the script with their ids (from BeginRun on); `drpinfo_id`.
    """

    def __init__(
        self, output: Output | None, transition_bytes: int = MAX_DGRAM_BYTES, *, constants: bool = False
    ) -> None:
        self.output = output
        self.truncated = 0
        self._transition_bytes = transition_bytes
        self._constants = constants
        self.l1 = L1Recorder(Gather(), NamesTable())
        self.files: list[FileReport] = []
        self._setup: _Setup | None = None
        self._total = RunTotal()
        self._place: RunFiles | None = None
        self._big: OutputFile | None = None
        self._smd: OutputFile | None = None
        self._next: OutputFile | None = None
        self._chunk = 0
        self._recorded: set[tuple[str, int]] = set()

    @property
    def config(self) -> Config | None:
        """The Configure in force, as it came."""
        return None if self._setup is None else self._setup.config

    @property
    def declared(self) -> tuple[Declared, ...]:
        """What was declared on the Configure in force, in the order of names_index."""
        return () if self._setup is None else self._setup.declared

    @property
    def names(self) -> list[Names]:
        """The script's Names with their ids, in the order of names_index; as of the last BeginRun."""
        return [] if self._setup is None else self._setup.script

    @property
    def table(self) -> NamesTable:
        """What an L1Accept's block is checked with, as of the last BeginRun."""
        return NamesTable() if self._setup is None else self._setup.table

    @property
    def chunk_is_full(self) -> bool:
        """Whether the chunk being written holds what a chunk may: the next Enable begins another."""
        return (
            self.output is not None
            and self._big is not None
            and self._big.writer.accepted >= self.output.chunk_bytes
        )

    @property
    def open_files(self) -> tuple[int | None, tuple[str, ...]]:
        """The number of the run being recorded, None between runs, and the files it is written to."""
        if self._place is None:
            return None, ()
        return self._place.run, tuple(str(one.path) for one in (self._big, self._smd) if one is not None)

    @property
    def drpinfo_id(self) -> int | None:
        """The NamesId of drpinfo, None without a Configure."""
        return None if self._setup is None else self._setup.own.drpinfo.names_id

    @property
    def place(self) -> str:
        """The path of the big file that is open, "" for none."""
        return "" if self._big is None else str(self._big.path)

    def transition(
        self,
        dgram: Buffer,
        answer: Answer = EMPTY,
        *,
        ledger: Mapping[str, int] | None = None,
        constants: Mapping[str, str] | None = None,
    ) -> Written:
        """Return what is recorded of a transition that was answered with `answer`; opens the files at
        BeginRun.

        `ledger`: the fields of `drpledger`, for EndRun; `constants`: those of `drpcalib`, for BeginRun.
        Raises RecorderError where a file cannot be made or the Configure is missing, SourceError where a
        Configure or BeginRun cannot be read, XtcError where a value does not fit.
        """
        view = Dgram(dgram)
        service = view.service
        if service == TransitionId.Configure:
            return self._configure(view, answer)
        if service == TransitionId.Unconfigure:
            self._setup = None
            return Written(shown=bytes(dgram))
        if self._setup is None:
            raise RecorderError(f"{service.name} without a Configure before it")
        if service == TransitionId.BeginRun:
            return self._begin_run(view, answer, self._setup, constants)
        if service == TransitionId.EndRun:
            return self._end_run(view, answer, self._setup, ledger)
        if service == TransitionId.Enable:
            return self._enable(view, answer, self._setup)
        if service == TransitionId.EndStep:
            self._total.add(answer)
        return self._out(*self._edit_reduced(view, answer, self._setup, answer.reduce_index, answer.reduced))

    def settle(self, written: Written) -> bool:
        """Do what comes after a transition that is in the files; False: the disk is full, call again later.

        Raises RecorderError where a file cannot be closed or renamed.
        """
        if self.output is None or written.then is Then.NOTHING:
            return True
        if not self.l1.flush_files():
            return False
        if written.then is Then.CLOSE:
            self._close_files(whole=True)
        else:
            self._roll()
        return True

    def close(self) -> list[FileReport]:
        """Close files that are open: their run has no end, which their names will say. Returns their
        reports.
        """
        already = len(self.files)
        self.l1.abandon()
        self._close_files(whole=False)
        return self.files[already:]

    def _out(self, big: bytes | memoryview, smd: bytes, then: Then = Then.NOTHING) -> Written:
        return Written(shown=big) if self.output is None else Written(big, smd, then, big)

    def _configure(self, dgram: Dgram, answer: Answer) -> Written:
        declared = merge_declared((), answer.declared)
        try:
            config = Config(dgram)
        except XtcError as error:
            raise _damaged(dgram, error) from error
        self._setup = _Setup(config, bytes(dgram), answer, declared, self._constants)
        self._setup.assign()
        return Written(shown=replace(DgramHeader.decode(dgram.view), extent=XTC_BYTES).encode())

    def _begin_run(
        self, dgram: Dgram, answer: Answer, setup: _Setup, constants: Mapping[str, str] | None
    ) -> Written:
        if self._big is not None:
            raise RecorderError(
                "BeginRun before the files of the run before are closed", path=str(self._big.path)
            )
        self._total.begin_run()
        setup.declared = merge_declared(setup.declared, answer.declared)
        # Readers that put streams together want a detector to have each segment in one of them only.
        setup.segment = 0 if self.output is None else self.output.stream
        setup.assign()
        own = setup.own
        self.l1.set_names(Gather(own.drpinfo.names_id, own.stripped), setup.table)
        experiment, run, agrees = self._number(*_run_of(dgram, setup.config, self.output))
        tail = b"" if agrees else encode_shapes_data(own.runinfo, {"expt": experiment, "runnum": run})
        if constants is not None and own.drpcalib is not None:
            tail += encode_shapes_data(own.drpcalib, dict(constants))
        record = self._edit(dgram, answer, setup, tail=tail, drops=() if agrees else (own.runinfo.names_id,))
        configure = _edit_configure(setup, self._transition_bytes)
        shown = configure + record
        if self.output is None:
            return Written(shown=shown)
        to = self.output
        place = RunFiles(to.root, to.instrument, experiment, run, to.stream)
        self._open(place, own, overwrite=to.overwrite)
        self._recorded.add((experiment, run))
        smd = smd_configure(Dgram(configure), own.smdinfo.names_id) + record
        return Written(shown, smd, shown=shown)

    def _number(self, experiment: str, run: int, told: _Told) -> tuple[str, int, bool]:
        """Return experiment and number of a run, and whether its runinfo says so.

        No run takes the file of one recorded before: where the source does not give the number they count up. Raises RecorderError where it
        gives the same twice.
        """
        if self.output is None or self.output.run is not None or told[1] is None:
            while (experiment, run) in self._recorded:
                run += 1
        elif (experiment, run) in self._recorded:
            raise RecorderError(
                f"the source has two runs {run} of {experiment}, which would be one file",
                path=str(self.output.root),
                hint="Number them with --run, which counts up from there.",
            )
        return experiment, run, told == (experiment, run)

    def _end_run(
        self, dgram: Dgram, answer: Answer, setup: _Setup, ledger: Mapping[str, int] | None
    ) -> Written:
        self._total.add(answer)
        tail = b""
        if ledger is not None:
            tail = encode_shapes_data(setup.own.drpledger, {name: ledger[name] for name in LEDGER_FIELDS})
        big, _ = self._edit_reduced(dgram, answer, setup, self._total.index, self._total.total, tail)
        return self._out(big, replace(DgramHeader.decode(big), extent=XTC_BYTES).encode(), Then.CLOSE)

    def _enable(self, dgram: Dgram, answer: Answer, setup: _Setup) -> Written:
        place = self._place
        if place is None or not self._begin_chunk(place):
            record = self._edit(dgram, answer, setup)
            return self._out(record, record)
        tail = encode_chunkinfo(setup.own.chunkinfo, ChunkInfo(place.name(self._chunk + 1), self._chunk + 1))
        record = self._edit(dgram, answer, setup, tail=tail)
        return Written(record, record, Then.NEW_CHUNK, record)

    def _edit(
        self,
        dgram: Dgram,
        answer: Answer,
        setup: _Setup,
        *,
        tail: bytes = b"",
        drops: tuple[int, ...] = (),
    ) -> bytes:
        """Return the transition with the answer's edits, then `tail` (whole Xtcs)."""
        gather = Gather(None, setup.own.stripped)
        if answer.truncated:
            cause = Cause.truncated
            record, outcome = gather.assemble(dgram.view, damage=cause.damage, cause=cause)
            outcome = outcome or GATHER_TRUNCATED
        else:
            desc, data = encode_block(
                drops=(*answer.drops, *drops),
                adds=answer.adds,
                damage=answer.damage,
                user=answer.user,
            )
            record, outcome = gather.assemble(
                dgram.view, table=setup.table, desc=desc, data=data, bound=self._transition_bytes
            )
        if outcome == GATHER_TRUNCATED:
            self.truncated += 1
            _log.error(
                "what workers add to %s does not fit its slot of %d bytes: recorded as it came, marked Truncated",
                dgram.service.name,
                self._transition_bytes,
            )
        elif outcome == MALFORMED:
            _log.warning(
                "%s has extents that do not add up: recorded whole, marked Corrupted", dgram.service.name
            )
        return _append(record, tail)

    def _edit_reduced(
        self,
        dgram: Dgram,
        answer: Answer,
        setup: _Setup,
        index: int | None,
        reduced: tuple[Reduced, ...],
        tail: bytes = b"",
    ) -> tuple[bytes | memoryview, bytes]:
        """Return the transition with the answer's edits, the reduced arrays and `tail`, and the same without the arrays."""
        record = self._edit(dgram, answer, setup)
        head = b"" if index is None or not reduced else _reduced_head(setup.script[index].names_id, reduced)
        size = len(record) + len(head) + sum(one.values.nbytes for one in reduced)
        if head and size > min(self._transition_bytes, MAX_EXTENT):
            record, head = self._edit(dgram, TRUNCATED, setup), b""
        without = _append(record, tail)
        if not head:
            return without, without
        extent = size + len(tail) - DGRAM_BYTES + XTC_BYTES
        header = replace(DgramHeader.decode(record), extent=extent).encode()
        # One pass into memory of numpy's, which asks for huge pages.
        whole = np.empty(size + len(tail), np.uint8)
        parts = [np.frombuffer(one, np.uint8) for one in (header + record[DGRAM_BYTES:] + head, tail)]
        arrays = [one.values.reshape(-1).view(np.uint8) for one in reduced]
        at = 0
        for part in (parts[0], *arrays, parts[1]):
            whole[at : at + part.size] = part
            at += part.size
        return whole.data, without

    def _open(self, place: RunFiles, own: OwnNames, *, overwrite: bool) -> None:
        big = OutputFile(place.big(0), overwrite=overwrite)
        try:
            smd = OutputFile(
                place.smd(), overwrite=overwrite, writer_bytes=SMD_STAGING_BYTES, before=big.writer
            )
        except RecorderError:
            big.discard()
            raise
        self._place, self._big, self._smd, self._chunk = place, big, smd, 0
        self.l1.set_files(big.writer, smd.writer, own.smdinfo.names_id)

    def _begin_chunk(self, place: RunFiles) -> bool:
        """Open the next chunk where it is time for one. That it cannot be opened does not end the run:
        the chunk grows.
        """
        if self.output is None or self._big is None or self._chunk >= MAX_CHUNK:
            return False
        if self._big.writer.accepted * 2 <= self.output.chunk_bytes:
            return False
        try:
            self._next = OutputFile(place.big(self._chunk + 1), overwrite=self.output.overwrite)
        except RecorderError as error:
            _log.error("no new chunk is begun: %s", error)
            return False
        return True

    def _roll(self) -> None:
        old, new, smd, setup = self._big, self._next, self._smd, self._setup
        if old is None or new is None or smd is None or setup is None:
            return
        smd.writer.set_before(new.writer)
        self.l1.set_files(new.writer, smd.writer, setup.own.smdinfo.names_id)
        self._big, self._next = new, None
        self._chunk += 1
        self.files.append(old.close(whole=True))

    def _close_files(self, *, whole: bool) -> None:
        """Close all that is open, the big file first; raise the first error when all are closed."""
        self.l1.set_files(None, None)
        if self._next is not None:
            self._next.discard()
        files = [one for one in (self._big, self._smd) if one is not None]
        self._big = self._smd = self._next = None
        errors: list[RecorderError] = []
        for one in files:
            try:
                self.files.append(one.close(whole=whole))
            except RecorderError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if whole and self.output is not None and self.output.overwrite and self._place is not None:
            _remove_later_chunks(self._place, self._chunk)
        self._place = None


def _edit_configure(setup: _Setup, bound: int) -> bytes:
    """Return the Configure: what is kept of it, the new Names, and only then what the script adds, for
    readers of a single pass.

    Raises ScriptError where it has more than `bound` bytes, and anything of them is the script's.
    """
    own, answer = setup.own, setup.answer
    desc, _ = encode_block(drops=answer.drops, damage=answer.damage, user=answer.user)
    kept, _ = Gather(None, {*own.stripped, *own.dropped}, own.dropped).assemble(setup.raw, desc=desc)
    names = b"".join(one.encode() for one in (*setup.script, *own.added))
    desc, data = encode_block(adds=answer.adds)
    added, _ = Gather().assemble(
        encode_dgram(TransitionId.Configure, 0), table=setup.table, desc=desc, data=data
    )
    of_script = sum(len(one.encode()) for one in setup.script) + len(added) - DGRAM_BYTES
    if of_script and len(kept) + of_script > bound:
        raise ScriptError(
            f"what the script declares and adds makes a Configure of {len(kept) + of_script} bytes; {bound} fit",
            transition=TransitionId.Configure.name,
            hint=f"Give -k trBufSize={len(kept) + of_script} or more.",
        )
    return _append(kept, names + added[DGRAM_BYTES:])


def _append(record: bytes, tail: bytes) -> bytes:
    if not tail:
        return record
    header = DgramHeader.decode(record)
    return replace(header, extent=header.extent + len(tail)).encode() + record[DGRAM_BYTES:] + tail


def _reduced_head(names_id: int, reduced: tuple[Reduced, ...]) -> bytes:
    """Return the ShapesData of reduced arrays up to where their values begin."""
    shapes = [
        SHAPE.pack(*one.values.shape, *(0,) * (MAX_DIMS - one.values.ndim))
        for one in reduced
        if one.values.ndim
    ]
    shapes_bytes = XTC_BYTES + SHAPE.size * len(shapes)
    data_bytes = XTC_BYTES + sum(one.values.nbytes for one in reduced)
    whole = XtcHeader(names_id, 0, TypeId.ShapesData, XTC_BYTES + shapes_bytes + data_bytes).encode()
    return b"".join(
        (
            whole,
            XtcHeader(0, 0, TypeId.Shapes, shapes_bytes).encode(),
            *shapes,
            XtcHeader(0, 0, TypeId.Data, data_bytes).encode(),
        )
    )


def _run_of(dgram: Dgram, config: Config, output: Output | None) -> tuple[str, int, _Told]:
    """Return experiment and run as they are wanted, and as the runinfo of BeginRun tells them."""
    found: dict[str, object] = {}
    try:
        values = Dgram(dgram.view, config=config).fields()
    except XtcError as error:
        raise _damaged(dgram, error) from error
    for value in values:
        if value.names.detname == "runinfo":
            found[value.field.name] = value.value
    # A file may declare them as anything; what is no text and no number says nothing.
    told, number = found.get("expt"), found.get("runnum")
    in_file = (told if isinstance(told, str) else None, number if isinstance(number, int) else None)
    experiment = (output and output.experiment) or in_file[0] or DEFAULT_EXPERIMENT
    run = output.run if output is not None and output.run is not None else in_file[1]
    run = DEFAULT_RUN if run is None else run
    return experiment, run, in_file


def _damaged(dgram: Dgram, error: XtcError) -> SourceError:
    """Return what to raise for a transition that came in so that nobody can read it."""
    return SourceError(
        f"the {dgram.service.name} it gives cannot be read: {error}",
        hint="Without it the run cannot be recorded; xtc check lists all that is wrong with a file.",
    )


def _remove_later_chunks(place: RunFiles, last: int) -> None:
    """Remove chunks of the run that was written over, which nothing leads to any more."""
    for chunk in range(last + 1, MAX_CHUNK + 1):
        path = place.big(chunk)
        if not path.exists():
            return
        path.unlink()

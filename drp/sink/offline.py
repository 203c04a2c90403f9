"""Record from one thread of Python: what drp does live, for a script that runs offline on recorded
files.

It drives the same recorder, so that its L1Accepts are byte for byte those of a live run. A disk that is
full is an error here, not a pause: nothing is held back that could be lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from drp.core.errors import RecorderError
from drp.sink.answer import EMPTY, Answer, read_answer
from drp.sink.files import FileReport
from drp.sink.recorder import MAX_DGRAM_BYTES, Output, Recorder, Then

if TYPE_CHECKING:
    from typing_extensions import Buffer

PAUSED = -1


class OfflineWriter:
    """Record transitions and events in the order they are given; to be closed, best by `with`.

    `output` None: nothing is written, sizes are checked all the same; `constants`: BeginRun says which were
    used. `recorder` holds counters and reports. Every method raises RecorderError where a file cannot be made or written.
    """

    def __init__(
        self, output: Output | None, transition_bytes: int = MAX_DGRAM_BYTES, *, constants: bool = False
    ) -> None:
        self.recorder = Recorder(output, transition_bytes, constants=constants)

    def transition(
        self,
        dgram: Buffer,
        answer: Answer = EMPTY,
        *,
        ledger: Mapping[str, int] | None = None,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """Record a transition with its answer; `ledger` are the fields of drpledger, for EndRun, `constants` of drpcalib, for BeginRun."""
        written = self.recorder.transition(dgram, answer, ledger=ledger, constants=constants)
        if written.big and not self.recorder.l1.put_pair(written.big, written.smd):
            raise self._refused()
        if written.then is not Then.NOTHING and not self.recorder.settle(written):
            raise self._refused()

    def answer(self, desc: bytes, data: bytes | memoryview) -> Answer:
        """Read the result block of a transition, whose data must not change any more; raise WorkerError where it is wrong."""
        return read_answer(desc, data, self.recorder.declared)

    def event(
        self,
        raw: bytes | bytearray | memoryview,
        desc: bytes | bytearray | memoryview = b"",
        data: bytes | bytearray | memoryview = b"",
        *,
        pulse_id: int = 0,
        bound: int = 0x7FFFFFFF,
        damage: int = 0,
        cause: int = 0,
        worker: int = 0xFFFF,
    ) -> int:
        """Record an L1Accept with its result block; return 0, or 1 where the result did not fit
        `bound` bytes (raw is kept whole, with Truncated), or 2 where `raw` is no whole dgram. Raises
        BlockError for a wrong block.
        """
        outcome = self.recorder.l1.put_l1(
            raw,
            desc=desc,
            data=data,
            pulse_id=pulse_id,
            bound=bound,
            damage=damage,
            cause=cause,
            worker=worker,
        )
        if outcome == PAUSED:
            raise self._refused()
        return outcome

    def close(self) -> list[FileReport]:
        """Close what is open and return its reports; nothing is open after EndRun."""
        return self.recorder.close()

    def _refused(self) -> RecorderError:
        number = self.recorder.l1.error
        return RecorderError(
            f"the output cannot be written: {os.strerror(number)}",
            path=self.recorder.place,
            errno=number,
            hint="Make room and start again.",
        )

    def __enter__(self) -> OfflineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

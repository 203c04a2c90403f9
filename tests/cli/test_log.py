"""What is shown cannot steer a terminal, and nobody has to read it."""

import io
import logging

from drp.cli.drp import _LogHandler
from drp.cli.status import StatusLine
from drp.core.report import Snapshot


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_control_characters_in_a_log_line_are_shown_as_escapes() -> None:
    stream = io.StringIO()
    handler = _LogHandler(StatusLine(stream, live=False))
    handler.emit(logging.makeLogRecord({"msg": "alg \x1b[2J\x9b1m is\tnew\nhere"}))
    assert stream.getvalue() == "alg \\x1b[2J\\x9b1m is\tnew\nhere\n"


def test_a_status_line_that_nobody_reads_ends_nothing() -> None:
    status = StatusLine(Gone(), live=True)
    status.show(Snapshot("running", 1.0, 5))
    status.above("text")
    status.close()

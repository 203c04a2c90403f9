"""What is shown cannot steer a terminal, and nobody has to read it."""

import io
import logging
import re
from pathlib import Path

from drp.cli.drp import _LogHandler, _set_up_logging
from drp.cli.options import LOG_DOMAINS
from drp.cli.status import StatusLine
from drp.core.config import DrpConfig
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


def test_a_log_domain_narrows_what_is_told_but_hides_no_warning() -> None:
    stream = io.StringIO()
    root = logging.getLogger("drp")
    before = root.handlers[:], root.level, root.propagate
    try:
        _set_up_logging(DrpConfig("s.py", log_domains=("worker",)), StatusLine(stream, live=False))
        logging.getLogger("drp.worker").info("kept")
        logging.getLogger("drp.run").info("left out")
        logging.getLogger("drp.source.replay").warning("warned")
    finally:
        root.handlers[:], root.level, root.propagate = before
    assert stream.getvalue() == "INFO drp.worker: kept\nWARNING drp.source.replay: warned\n"


OTHER_PROCESSES = ("launch", "control", "timing", "teb", "meb")


def test_every_logger_of_the_drp_command_is_of_a_domain_that_can_be_named() -> None:
    package = Path(__file__).parents[2] / "drp"
    named = set()
    for path in package.rglob("*.py"):
        folder, *below = path.relative_to(package).with_suffix("").parts
        if folder in OTHER_PROCESSES or (folder == "cli" and below[0] in OTHER_PROCESSES):
            continue
        for name in re.findall(r"getLogger\((.+?)\)", path.read_text()):
            module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            named.add(module if name == "__name__" else name.strip('"'))
    assert {name.split(".")[1] for name in named if "." in name} <= set(LOG_DOMAINS)

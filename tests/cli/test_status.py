"""The status line rewrites itself on a terminal, and speaks seldom elsewhere."""

import io
import os
import pty
import termios

from drp.cli.status import StatusLine, line
from drp.core.report import Snapshot


def at(seconds: float, **fields: object) -> Snapshot:
    return Snapshot("running", seconds, 1234, **fields)  # type: ignore[arg-type]


def test_line_tells_rate_flight_and_pebble_and_leaves_out_what_is_well() -> None:
    snapshot = at(75.0, events_per_s=12_345, bytes_per_s=2.2e9, in_flight=17, slots_used=64, slots=256)
    assert line(snapshot) == "running 1:15 | 1,234 events | 12.3 kHz | 2.20 GB/s | in flight 17 | pebble 25%"


def test_line_names_damage_restarts_the_holder_of_the_order_and_trouble() -> None:
    text = line(at(4000, damaged=3, lost=1, restarts=2, head_worker=5, head_s=1.26, trouble="disk full"))
    assert text.startswith("running 1:06:40")
    assert text.endswith("damaged 3 | lost 1 | restarts 2 | worker 5 holds the order for 1.3 s | DISK FULL")


def test_an_order_held_for_a_moment_is_not_worth_telling() -> None:
    assert "holds" not in line(at(1.0, head_worker=5, head_s=0.1))


def test_terminal_line_is_rewritten_and_never_wraps() -> None:
    stream = io.StringIO()
    status = StatusLine(stream, live=True, width=20)
    for tick in range(10):
        status.show(at(tick * 0.1))
    written = stream.getvalue()
    assert "\n" not in written
    shown = written.split("\r\x1b[K")[1:]
    assert len(shown) == 5
    assert all(len(text) == 19 for text in shown)
    status.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_line_is_as_wide_as_the_terminal_is_when_it_is_shown() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as stream:
        status = StatusLine(stream, live=True)
        shown = []
        for tick, columns in enumerate((30, 50, 0)):
            termios.tcsetwinsize(theirs, (24, columns))
            status.show(
                at(float(tick), damaged=3, lost=1, restarts=2, trouble="disk: no space left on device")
            )
            shown.append(len(screen.read(1000).split(b"\x1b[K")[1]))
    assert shown[:2] == [29, 49]
    assert shown[2] > 50, "a terminal that does not know its width"


def test_log_line_stands_above_the_live_line() -> None:
    stream = io.StringIO()
    status = StatusLine(stream, live=True, width=200)
    status.show(at(1.0))
    before = stream.getvalue()
    status.above("worker 3: killed")
    assert stream.getvalue()[len(before) :] == f"\r\x1b[Kworker 3: killed\n{line(at(1.0))}"


def test_elsewhere_a_plain_line_stands_every_ten_seconds() -> None:
    stream = io.StringIO()
    status = StatusLine(stream, live=False)
    for tick in range(350):
        status.show(at(tick * 0.1))
    status.above("a log line")
    status.close()
    lines = stream.getvalue().splitlines()
    assert [text.split(" |")[0] for text in lines] == [
        "running 0:10",
        "running 0:20",
        "running 0:30",
        "a log line",
    ]
    assert "\x1b" not in stream.getvalue()

"""What scripts print, what they read, what they starve, and how soon a spare takes over."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, rest_slow, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer", "-n")


def good(command: DrpCommand, events: int) -> None:
    assert command.wait(60) == 0, command.log[-4000:]
    verdict = judge(command.file())
    assert verdict.damaged == {}
    assert len(verdict.events) == events
    assert command.left() == []


@pytest.mark.parametrize(
    "flood",
    rest_slow(
        1,
        [
            "print('word ' * 20)\nprint('complaint', file=sys.stderr)",
            "for _ in range(20): os.write(1, b'x' * 70000)",
            "os.write(2, os.urandom(3000))",
            "os.write(1, b'\\0\\x1b[2J\\r\\n' * 500)",
        ],
    ),
    ids=["lines", "one endless line", "binary", "escapes"],
)
def test_a_flood_of_output_is_bounded_counted_and_harmless(drp: Start, folder: Path, flood: str) -> None:
    command = drp(write_script(folder, flood), *SIM, "2000", "-W", "2")
    good(command, 2000)
    log = command.log_path.read_bytes()
    assert len(log) < 4_000_000
    assert "lines were not shown" in command.log
    assert b"\x1b" not in log
    assert b"\0" not in log


@pytest.mark.slow
def test_a_script_reads_end_of_file_from_stdin(drp: Start, folder: Path) -> None:
    before = "print('stdin gave', repr(sys.stdin.read()))\ntry:\n    input()\nexcept EOFError:\n    print('end of file')"
    command = drp(write_script(folder, before=before), *SIM, "50", "-W", "1")
    good(command, 50)
    assert "stdin gave ''" in command.log
    assert "worker 0: end of file" in command.log


@pytest.mark.slow
def test_a_script_may_close_its_output(drp: Start, folder: Path) -> None:
    command = drp(
        write_script(folder, before="sys.stdout.close(); os.close(1); os.close(2)"), *SIM, "300", "-W", "2"
    )
    good(command, 300)


@pytest.mark.slow
def test_a_helper_that_keeps_a_worker_s_output_open_holds_nothing_up(drp: Start, folder: Path) -> None:
    """Grandchildren in another session inherit the pipes; a worker that ends is buried with them."""
    before = "helper = subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    body = "if evt.index == 100: os._exit(1)"
    command = drp(write_script(folder, body, before=before), *SIM, "300", "-W", "2")
    assert command.wait(30) == 1
    assert judge(command.file()).damaged == {100: "died"}
    assert command.left() == []


@pytest.mark.slow
def test_one_hung_worker_and_a_small_pebble_lose_nothing(drp: Start, folder: Path) -> None:
    """The others go on until the pebble is full; then the source waits for the hung event."""
    script = write_script(folder, "if evt.index == 1000: time.sleep(1000)\ntime.sleep(0.0005)")
    command = drp(
        script, *SIM, "4000", "-W", "3", "--rate", "1000", "--event-timeout", "1.5", "--first-event-timeout", "20",
        "-k", "pebbleBufCount=256",
    )  # fmt: skip
    assert command.wait(60) == 1, command.log
    report = command.report
    verdict = judge(command.file())
    latency = {name: value / 1e6 for name, value in report["latency_ns"].items()}
    print(
        f"\nhung 1.5 s, pebble of 0.26 s: source stalled {report['source_stalled_s']:.2f} s; latency in ms {latency}; ",
        end="",
    )
    print({name: f"{value / 1e6:.2f} ms" for name, value in report["service_ns"].items()})
    assert verdict.damaged == {1000: "timed_out"}
    assert len(verdict.events) == 4000
    assert report["closes"]
    assert 0.5 < report["source_stalled_s"] < 10
    assert "a hung event stalls the source" in command.log
    assert command.left() == []


KILLS = 15


@pytest.mark.slow
@pytest.mark.parametrize("spares", ["1", "0"])
def test_time_from_sigkill_to_the_first_event_of_the_replacement(
    drp: Start, folder: Path, spares: str
) -> None:
    """Each worker notes when it takes its first event; no time is asserted, the median is printed."""
    notes = folder / "notes"
    notes.mkdir()
    body = "if first:\n    first = False\n    open(f'{sys.argv[1]}/{os.getpid()}', 'w').write(str(time.monotonic_ns()))\ntime.sleep(0.001)"
    script = write_script(folder, body, before="first = True")
    command = drp(f"{script} {notes}", *SIM, "1000000", "--rate", "1000", "-W", "2", "--spares", spares)
    command.until(lambda: len(list(notes.iterdir())) == 2, "two workers at work")
    took_ms = []
    for _ in range(KILLS):
        known = {path.name for path in notes.iterdir()}
        victim = next(pid for pid in command.workers() if str(pid) in known)
        time.sleep(0.3)
        killed_ns = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
        new = command.until(
            lambda known=known: {p.name for p in notes.iterdir() if p.stat().st_size} - known, "a replacement"
        )
        took_ms.append((int((notes / new.pop()).read_text()) - killed_ns) / 1e6)
    command.signal(signal.SIGINT)
    assert command.wait(30) == 1
    verdict = judge(command.file())
    print(
        f"\n--spares {spares}: SIGKILL to first event, {KILLS} times: median {statistics.median(took_ms):.1f} ms, ",
        end="",
    )
    print(f"{min(took_ms):.1f} to {max(took_ms):.1f} ms; {len(verdict.damaged)} damaged")
    assert len(verdict.events) == command.report["ledger"]["total"] == command.report["source_events"]
    assert len(verdict.damaged) <= KILLS
    assert command.report["restarts"] == KILLS

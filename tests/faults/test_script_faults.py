"""What a script may do to itself: the one event it had in hand is damaged, the run goes on and the account says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, rest_slow, write_script
from tests.support.judge import Verdict, judge

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer", "-n")


def finish(command: DrpCommand, events: int, *, limit_s: float = 60) -> Verdict:
    """Wait for the end; exit code, account and file must agree, and nothing may be left."""
    found = command.wait(limit_s)
    verdict = judge(command.file())
    report = command.report
    assert found == (1 if verdict.damaged else 0), f"exit code {found}\n{command.log}"
    assert report["closes"], report
    assert report["ledger"]["total"] == report["source_events"] == len(verdict.events) == events
    assert report["damage"]["drp"]["events"] == len(verdict.damaged)
    assert {name: n for name, n in report["damage"]["drp"]["codes"].items() if n} == verdict.causes
    assert command.left() == []
    return verdict


@pytest.mark.parametrize(
    ("body", "cause", "said"),
    rest_slow(
        3,
        [
            (
                "if evt.index % 97 == 50: raise ValueError('no such peak')",
                "raised",
                "ValueError: no such peak",
            ),
            ("if evt.index % 97 == 50: ctypes.string_at(0)", "died", "SIGSEGV"),
            ("if evt.index % 97 == 50: os._exit(3)", "died", "exited with code 3"),
            ("if evt.index % 97 == 50: sys.exit()", "left", "sys.exit() was called"),
            ("if evt.index % 97 == 50: sys.exit(7)", "raised", "SystemExit: 7"),
            ("if evt.index % 97 == 50: break", "left", "the run in hand has not ended"),
            ("if evt.index % 97 == 50: os.kill(os.getpid(), 9)", "died", "SIGKILL"),
            ("if evt.index % 97 == 50: raise KeyboardInterrupt", "raised", "KeyboardInterrupt"),
            ("if evt.index % 97 == 50: raise MemoryError", "raised", "MemoryError"),
        ],
    ),
)
def test_a_failure_costs_the_event_in_hand_and_nothing_else(
    drp: Start, folder: Path, body: str, cause: str, said: str
) -> None:
    command = drp(write_script(folder, body), *SIM, "400", "-W", "2")
    verdict = finish(command, 400)
    assert verdict.damaged == dict.fromkeys((50, 147, 244, 341), cause)
    assert command.report["restarts"] == 4
    assert said in command.log
    assert command.log.count("more of this kind are only counted") == 1
    assert command.log.count("Traceback (most recent call last)") <= 1


@pytest.mark.parametrize(
    "hang",
    rest_slow(
        1,
        [
            "time.sleep(1000)",
            "while True: pass",
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(1000)",
            "os.kill(os.getpid(), signal.SIGSTOP)",
        ],
    ),
)
def test_an_event_that_takes_too_long_is_given_up(drp: Start, folder: Path, hang: str) -> None:
    script = write_script(folder, f"if evt.index == 150:\n    {hang}")
    command = drp(script, *SIM, "400", "-W", "2", "--event-timeout", "0.4", "--first-event-timeout", "20")
    verdict = finish(command, 400)
    assert verdict.damaged == {150: "timed_out"}
    assert command.report["restarts"] == 1
    assert "L1Accept was not answered within 0.4 s" in command.log
    if "SIG" not in hang:
        assert f'File "{script}", line' in command.log, "where it hung is not in the log"


@pytest.mark.slow
def test_a_script_that_catches_everything_is_still_given_up(drp: Start, folder: Path) -> None:
    body = "if evt.index == 150:\n    while True:\n        try:\n            time.sleep(1)\n        except BaseException:\n            pass"
    command = drp(
        write_script(folder, body),
        *SIM,
        "300",
        "-W",
        "1",
        "--event-timeout",
        "0.4",
        "--first-event-timeout",
        "20",
    )
    assert finish(command, 300).damaged == {150: "timed_out"}


BLOB = "'blob': (np.uint8, 1)"
SIZES = "sizes = [int(one) for one in ds.args]"
FILL = "fex.fex.blob = np.full(sizes[evt.index % len(sizes)], 7, np.uint8)"


def test_a_result_fits_to_the_last_byte_and_no_further(drp: Start, folder: Path) -> None:
    script = write_script(
        folder,
        FILL + "\nif evt.index == 0: print('bound', info.pebble_bufsize)",
        fields=BLOB,
        configured=SIZES,
    )
    command = drp(f"{script} 0", *SIM, "10", "-W", "1")
    empty = finish(command, 10).events[0].size
    bound = next(int(line.split()[-1]) for line in command.log.splitlines() if "worker 0: bound" in line)
    fits = bound - empty
    command = drp(
        f"{script} {fits} {fits + 1} 1000000 100000000 {fits - 1}",
        *SIM,
        "100",
        "-W",
        "2",
        output=folder / "sized",
    )
    verdict = finish(command, 100)
    assert verdict.events[0].size == bound
    assert verdict.damaged == {place: "truncated" for place in range(100) if place % 5 in (1, 2, 3)}
    assert command.report["restarts"] == 0
    assert all(verdict.events[place].find("fex")["blob"].tolist() == [7] * fits for place in range(0, 100, 5))


@pytest.mark.slow
def test_on_overflow_stop_ends_the_run_in_good_order(drp: Start, folder: Path) -> None:
    script = write_script(
        folder, "fex.fex.blob = np.zeros(10 if evt.index < 50 else 1 << 20, np.uint8)", fields=BLOB
    )
    command = drp(script, *SIM, "1000000", "-W", "2", "--rate", "500", "--on-overflow", "stop")
    assert command.wait(30) == 1
    verdict = judge(command.file())
    assert verdict.causes.keys() == {"truncated"}
    assert len(verdict.events) == command.report["ledger"]["total"] < 5000
    assert "--on-overflow stop" in command.report["error"]
    assert command.left() == []


MAPS = """\
def own_segments():
    for line in open("/proc/self/maps"):
        if "/SYSV" in line and line.split()[1].startswith("rw"):
            begin, end = (int(one, 16) for one in line.split()[0].split("-"))
            if end - begin > 4096:
                yield begin, end - begin
def pebble():
    for line in open("/proc/self/maps"):
        if "/SYSV" in line and line.split()[1].startswith("r-"):
            return int(line.split("-")[0], 16)
"""


@pytest.mark.parametrize(
    "scribble",
    rest_slow(
        1,
        [
            "ctypes.memset(begin, 255, size)",
            "ctypes.memset(begin, 0, 256)",
            "ctypes.memset(begin + 192, 255, 8)",
            "ctypes.memset(begin + 128, 255, 8)",
            "ctypes.memset(begin + 256 + 65536, 255, 65536)",
            "ctypes.memmove(begin, os.urandom(256 + 131072), 256 + 131072)",
        ],
    ),
    ids=["all", "header", "out_head", "taken", "out-ring", "random"],
)
def test_a_script_that_scribbles_over_its_own_segment_hurts_no_other_event(
    drp: Start, folder: Path, scribble: str
) -> None:
    # What the only worker published before is recorded by then; what it is asked next may be spoilt too, and costs one event at each try.
    body = f"if evt.index % 97 == 50:\n    time.sleep(0.2)\n    for begin, size in own_segments():\n        {scribble}"
    limits = ("--event-timeout", "1", "--first-event-timeout", "3")
    command = drp(write_script(folder, body, before=MAPS), *SIM, "300", "-W", "1", *limits)
    verdict = finish(command, 300)
    assert len(verdict.damaged) <= command.report["restarts"] <= 12, verdict.damaged
    assert set(verdict.causes) <= {"nonsense", "timed_out", "died"}


@pytest.mark.slow
def test_a_script_cannot_write_into_the_pebble(drp: Start, folder: Path) -> None:
    body = "if evt.index == 50: ctypes.memset(pebble() + 4096, 255, 64)"
    command = drp(write_script(folder, body, before=MAPS), *SIM, "200", "-W", "2")
    assert finish(command, 200).damaged == {50: "died"}


@pytest.mark.slow
def test_a_worker_that_leaks_is_replaced_between_two_events(drp: Start, folder: Path) -> None:
    script = write_script(folder, "kept.append(np.ones(1 << 20, np.uint8))", before="kept = []")
    command = drp(script, *SIM, "600", "--rate", "200", "-W", "1", "--worker-memory", "250M")
    verdict = finish(command, 600)
    assert verdict.damaged == {}
    assert command.report["restarts"] >= 1
    assert command.report["workers"][0]["failures"] == {"memory": command.report["restarts"]}
    assert "--worker-memory" in command.log

"""A user's script that attacks drp with all that a worker holds: the event in hand may be lost to it, drp and every other event are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import hostile_script
from tests.support.drp_command import DrpCommand
from tests.support.judge import Verdict, judge

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
EVENTS = 100
LIMITS = ("--event-timeout", "0.5", "--first-event-timeout", "2")

DEEP = 'b"[" * 100000'
DEEPER = """b'{"kind":' * 50000"""
HALVES = r"""b'{"kind":"\\ud800","message":"\\ud800\\u001b[2J","traceback":"\\udfff"}'"""
# Data for the Names just declared: those of an honest worker are number 0 after its Configure.
SUM_OF_TEXT = """names(fields='[["x","CHARSTR",1]]', role='"reduce"', reduce='[{"name":"x","op":"sum"}]'), adds=[(%d, [(4,)], b"ab\\0\\0")]"""
SUM_OF_NOTHING = """names(fields='[["x","UINT8",4]]', role='"reduce"', reduce='[{"name":"x","op":"sum"}]'), adds=[(%d, [(0,) + (0xffffffff,) * 3], b"")]"""

# (where, what it does): what it may cost is the event in hand, and a worker.
AT_AN_EVENT = {
    "report nested deep": f"say({DEEP}, status=1)",
    "report of halves of surrogates": f"say({HALVES}, status=1)",
    "says it waits for arena, and hangs": "u32(STATE, 2)\nlinger()",
    "says it took what was never sent, and hangs": "u64(TAKEN, 1 << 63)\nlinger()",
    "takes back what it took, and hangs": "u64(TAKEN, 0)\nlinger()",
    "takes ever another entry": "while True:\n    for i in range(3):\n        u64(TAKEN, u64(OUT_HEAD) + i)",
    "answers what is not written": "u64(OUT_HEAD, u64(OUT_HEAD) + 1)\nlinger()",
    "head far ahead": "u64(OUT_HEAD, 1 << 63)\nlinger()",
    "head back": "u64(OUT_HEAD, 0)\nlinger()",
    "block beyond the arena": "answer(block=0xffffffff, desc=16)\nlinger()",
    "block from before": "answer(position=0, block=16, desc=16)\nlinger()",
    "text longer than all": "say(json_bytes=0xffffffff)",
    "drops everything": "say(drops=range(4096))",
    "drops too much": "say(drops=range(5000))",
    "all damage": "say(drops=[1] * 4096, damage=0xfff, user=15)",
    "reserved damage": "say(damage=0xffff)",
    "words that are not there": "say(flags=1)",
    "adds to no Names": "say(adds=[(7, [], b'ab')])",
    "shape beyond all": "say(adds=[(0, [(0xffffffff,) * 4], b'ab')])",
    "unknown status": "answer(status=77)\nlinger()",
    "overflows without end": "while True:\n    answer(status=2)",
    "writes to the pebble": "ctypes.memset(PEBBLE, 255, 64)",
    "writes to all of the pebble": "ctypes.memset(PEBBLE, 0, PEBBLE_SIZE)",
    "rings without end": "end = time.time() + 0.4\nwhile time.time() < end:\n    ctypes.memmove(BELLS, os.urandom(4096), 4096)",
    "silences the bells": "end = time.time() + 0.4\nwhile time.time() < end:\n    ctypes.memset(BELLS, 0, 4096)",
    "floods its rings": (
        "end = time.time() + 3\nwhile time.time() < end:\n    at = random.randrange(0, 256 + RINGS)\n    noise = os.urandom(random.choice([1, 8, 64, 4096]))\n"
        "    ctypes.memmove(BASE + at, noise, min(len(noise), 256 + RINGS - at))\nlinger()"
    ),
    "random heads": (
        "end = time.time() + 3\nwhile time.time() < end:\n    u64(random.choice([OUT_HEAD, TAKEN, ASLEEP, 64, 72]), random.choice([random.getrandbits(64), "
        "u64(OUT_HEAD) + random.randrange(-3, 4)]))\nlinger()"
    ),
    # Never an answer of no bytes: that is a good one, of a script that adds nothing.
    "random answers": (
        "for i in range(2000):\n    size = random.choice([8, 16, random.getrandbits(32), random.randrange(1, 100000)])\n"
        "    answer(ASIDE + random.randrange(1 << 16), size, random.choice([size, 16, random.getrandbits(32)]), random.choice([0, 0, 1, 2, 3]), os.urandom(200))\nlinger()"
    ),
}
AT_BEGIN_STEP = {
    "answer nested deep": f"say({DEEP})",
    "answer that is not a number": "say(b'NaN')",
    "answer that is not UTF-8": "say(bytes(range(128, 256)))",
    "answer of 5000 digits": """say(b'{"names":' + b"9" * 5000 + b"}")""",
    "new Names, and data for them": "say(names(), adds=[(1, [], b'ab')])",
    "segment without end": "say(names(segment='1e999'))",
    "sum of texts": f"say({SUM_OF_TEXT % 1})",
    "sum of nothing, of a shape beyond all": f"say({SUM_OF_NOTHING % 1})",
    "4096 drops": "say(drops=range(4096))",
    "answer as large as the arena": "answer(block=SIZE - 256 - RINGS, desc=SIZE - 256 - RINGS)\nlinger()",
    "report nested deeper": f"say({DEEPER}, status=1)",
}
AT_CONFIGURE = {
    "answer nested deep": (f"say({DEEPER})", "cannot be read"),
    "report nested deep": (f"say({DEEP}, status=1)", "cannot be read"),
    "report of halves of surrogates": (f"say({HALVES}, status=1)", r"\ud800"),
    "segment without end": ("say(names(segment='1e999'))", "OverflowError"),
    "rank without end": ("""say(names(fields='[["x","UINT16",1e999]]'))""", "OverflowError"),
    "alg of half a surrogate": (r"""say(names(alg='"\\ud800"'))""", "cannot be read"),
    "role that is a list": ("say(names(role='[]'))", "unknown role"),
    "sum of texts": (f"say({SUM_OF_TEXT % 0})", "only numbers can be reduced"),
    "5000 Names": ("""say(b'{"names":[' + b",".join([b"{}"] * 5000) + b"]}")""", "more than 1024"),
}
DEFAULT = (
    AT_AN_EVENT["report nested deep"],
    AT_AN_EVENT["says it waits for arena, and hangs"],
    AT_BEGIN_STEP["new Names, and data for them"],
    AT_CONFIGURE["sum of texts"],
)


def cases(attacks: dict[str, object]) -> list[object]:
    """All attacks, those slow that do not stand for a kind of their own."""
    return [
        pytest.param(what, id=name, marks=() if what in DEFAULT else pytest.mark.slow)
        for name, what in attacks.items()
    ]


def attacked(drp: Start, folder: Path, place: str, attack: str) -> DrpCommand:
    """Run it; whatever it did, drp ends by itself with 0 or 1, says why, and leaves nothing."""
    script = hostile_script.write(folder, place, attack)
    command = drp(script, "--source", "sim:digitizer", "-n", str(EVENTS), "-W", "2", *LIMITS)
    code = command.wait(45)
    assert (folder / "attacked").exists(), "the script did not come to its attack"
    assert code in (0, 1), command.log
    assert "drp/engine/" not in command.log, command.log
    assert "drp/cli/" not in command.log, command.log
    assert "\x1b" not in command.log
    assert command.left() == []
    return command


def all_recorded(command: DrpCommand) -> Verdict:
    verdict = judge(command.file())
    report = command.report
    assert report["closes"]
    assert report["ledger"]["total"] == len(verdict.events) == EVENTS
    return verdict


@pytest.mark.parametrize("attack", cases(AT_AN_EVENT))
def test_an_attack_at_an_event_costs_what_the_worker_had_in_hand(
    drp: Start, folder: Path, attack: str
) -> None:
    # A worker that answers for what is queued has that in hand as well, by its own word.
    command = attacked(drp, folder, "event", attack)
    if "drops" in attack:
        return
    verdict = all_recorded(command)
    answers_more = "while True" in attack or "range(2000)" in attack or "time.time" in attack
    assert len(verdict.damaged) <= (EVENTS if answers_more else 1)
    assert set(verdict.causes) <= {"nonsense", "died", "timed_out", "raised", "left", "truncated"}


@pytest.mark.parametrize("attack", cases(AT_BEGIN_STEP))
def test_an_attack_at_a_transition_costs_no_event(drp: Start, folder: Path, attack: str) -> None:
    command = attacked(drp, folder, "step", attack)
    assert all_recorded(command).damaged == {}


@pytest.mark.parametrize("case", cases(AT_CONFIGURE))
def test_an_attack_at_configure_fails_the_run_and_says_so(
    drp: Start, folder: Path, case: tuple[str, str]
) -> None:
    attack, said = case
    command = attacked(drp, folder, "configure", attack)
    assert command.report["exit_code"] == 1
    assert said in command.report["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        "os.kill(os.getppid(), 9)",
        "os.kill(os.getppid(), 19)",
        "for pid in [int(p) for p in open(f'/proc/{os.getppid()}/task/{os.getppid()}/children').read().split()]:\n    os.kill(pid, 9)",
    ],
    ids=["kills the nursery", "stops the nursery", "kills all workers"],
)
def test_an_attack_on_its_kin_is_outlived(drp: Start, folder: Path, attack: str) -> None:
    verdict = all_recorded(attacked(drp, folder, "event", attack))
    assert len(verdict.damaged) <= 2


@pytest.mark.slow
def test_a_worker_that_kills_drp_leaves_nothing(drp: Start, folder: Path) -> None:
    attack = "parent = int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1])\nos.kill(parent, 9)\nlinger()"
    command = drp(
        hostile_script.write(folder, "event", attack),
        "--source",
        "sim:digitizer",
        "-n",
        str(EVENTS),
        "-W",
        "2",
    )
    assert command.wait(30) == -9
    command.report_path.unlink(missing_ok=True)
    assert [one for one in command.left() if not one.startswith("file")] == []

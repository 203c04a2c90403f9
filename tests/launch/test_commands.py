"""What LCLS's programs and options become here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from drp.launch import Command, LaunchError, Plan, Process, commands_of, read_plan
from tests.conftest import ROOT

FILES = Path(__file__).with_name("files")


def command(cmd: str, **fields: object) -> Command:
    plan = Plan("t.cnf", 3, 0, (Process("a_0", cmd, **fields),))
    return commands_of(plan)[0]


def words(one: Command) -> list[str]:
    """The arguments, after whatever starts the program."""
    at = max(i for i, word in enumerate(one.argv) if "drp_start" in word or word.endswith(f"/{one.kind}"))
    return list(one.argv[at + 1 :])


def test_a_timing_system_drp_is_timing() -> None:
    one = command(
        "drp -P tst -C localhost -d /dev/datadev_1 -l 0x8 -D ts -o data -k pebbleBufCount=1048576",
        flags="spu",
    )
    assert one.kind == "timing"
    assert words(one) == ["-P", "tst", "-C", "localhost", "-o", "data", "--stream", "-p", "3", "-u", "a_0"]
    assert one.interrupts
    assert "drp is timing here" in one.notes
    assert any("-d /dev/datadev_1 is left off" in note for note in one.notes)


def test_an_emulator_keeps_its_keys_and_loses_those_of_hardware() -> None:
    one = command(
        "drp -P tst -d/dev/x -l 0x1 -W 1 -D epixhremu -k ep_domain=eno1,xtcfile=f,l1aOffset=9,sim_length=5 -k pva_addr=x"
    )
    assert one.kind == "drp"
    assert words(one) == ["-P", "tst", "-W", "1", "-D", "epixhremu", "-k", "xtcfile=f,l1aOffset=9"]


def test_the_server_of_monitor_requests_is_meb() -> None:
    one = command("monReqServer -P tst -t tst_mebuser0 -d -n 64 -q 4")
    assert one.kind == "meb"
    assert words(one) == ["-P", "tst", "-t", "tst_mebuser0", "-n", "64"]


def test_control_loses_what_is_of_servers_and_hardware() -> None:
    one = command(
        "control -P tst:1 -B DAQ:TST -x 0 -C BEAM --user u --url=https://x -S 1 -T 20000 -V elog.txt",
        flags="spu",
    )
    assert words(one) == ["-P", "tst:1", "-C", "BEAM", "-S", "1", "-T", "20000", "-p", "3", "-u", "a_0"]


@pytest.mark.parametrize(
    "cmd",
    [
        "xpmpva A",
        "/x/y/groupca A 0",
        "ami-node --hutch x",
        "control_gui",
        "drp_pva -P tst",
        "taskset -c 0 drp_bld",
    ],
)
def test_windows_and_hardware_are_named_and_left_out(cmd: str) -> None:
    one = command(cmd)
    assert one.argv == ()
    assert one.kind in one.skipped


def test_commands_of_ours_keep_all_of_their_options() -> None:
    assert words(command("timing -P tst -S 5 --rate 10 -o d", flags="p")) == [
        "-P",
        "tst",
        "-S",
        "5",
        "--rate",
        "10",
        "-o",
        "d",
        "-p",
        "3",
    ]
    assert words(command("meb -P tst -q 4 -C localhost")) == ["-P", "tst", "-q", "4", "-C", "localhost"]


def test_what_says_when_it_stands_is_waited_for() -> None:
    said = {
        cmd: command(cmd).says_ready
        for cmd in ("control", "timing", "teb", "drp -C localhost", "drp -p x.py", "sleep 1")
    }
    assert said == {
        "control": True,
        "timing": True,
        "teb": True,
        "drp -C localhost": True,
        "drp -p x.py": True,
        "sleep 1": False,
    }


def test_the_demo_names_a_whole_partition() -> None:
    plan = read_plan(ROOT / "fex_scripts" / "demo.cnf")
    assert plan.platform == 0
    commands = commands_of(plan)
    assert [one.kind for one in commands] == ["control", "teb", "meb", "timing", "drp", "drp"]
    assert all(one.says_ready and not one.skipped and not one.notes for one in commands)
    scripts = [word for one in commands for word in one.argv if ".py" in word]
    assert all(Path(word.split()[0]).is_file() for word in scripts if "drp_start" not in word)


def test_prefixes_and_variables_stand_before_the_program() -> None:
    one = command("env A=1 B='x y' taskset -c 0 nice -n 5 sleep 1", env=(("A", "0"), ("C", "2")))
    assert [Path(word).name for word in one.argv] == ["taskset", "-c", "0", "nice", "-n", "5", "sleep", "1"]
    assert one.env == {"A": "1", "B": "x y", "C": "2"}
    assert one.notes == ()


def test_cores_that_are_not_there_are_not_asked_for() -> None:
    one = command("taskset -c 4090-4095 sleep 1")
    assert [Path(word).name for word in one.argv] == ["sleep", "1"]
    assert "taskset -c 4090-4095 is left off" in one.notes[0]


@pytest.mark.parametrize(
    ("cmd", "cores", "workers"),
    [
        ("drp", 10, "6"),
        ("drp", 2, "1"),
        ("taskset -c 0 drp", 10, "6"),
        ("drp -W 3", 10, "3"),
        ("drp", None, None),
    ],
)
def test_cores_say_how_many_workers(cmd: str, cores: int | None, workers: str | None) -> None:
    found = words(command(cmd, cores=cores))
    assert (found[found.index("-W") + 1] if "-W" in found else None) == workers


def test_reserved_cores_may_be_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_DRP_N_RSV_CORES", "1")
    assert words(command("drp", cores=10)) == ["-W", "9"]


def test_a_script_in_quotes_stays_one_word() -> None:
    assert words(command("drp -p 'roi.py --roi 1:2,3:4 -d 5' -o out")) == [
        "-p",
        "roi.py --roi 1:2,3:4 -d 5",
        "-o",
        "out",
    ]


def test_real_time_priority_is_asked_for_where_it_is_allowed() -> None:
    one = command("sleep 1", rtprio=1)
    head = [Path(word).name for word in one.argv[:3]]
    assert head == ["chrt", "-f", "1"] or "rtprio 1 is left off" in one.notes[0]


def test_processes_of_other_machines_are_all_named() -> None:
    with pytest.raises(
        LaunchError, match=r"control \(drp-node014\), teb0 \(drp-node014\), epix100_7 \(drp-node031\).*--here"
    ):
        commands_of(read_plan(FILES / "production.cnf"))


def test_processes_of_other_machines_may_be_taken_here() -> None:
    commands = {one.id: one for one in commands_of(read_plan(FILES / "production.cnf"), here=True)}
    assert commands["epix100_7"].kind == "drp"
    assert "drp-node014" not in " ".join(commands["teb0"].argv)
    assert commands["feespec_0"].skipped


def test_every_process_of_a_file_in_procmgrs_dialect_has_a_command() -> None:
    commands = commands_of(read_plan(FILES / "emulated.cnf"))
    kinds = {one.id: one.kind for one in commands if not one.skipped}
    assert kinds == {
        "control": "control",
        "teb0": "teb",
        "timing_1": "timing",
        "epixhr_emu_0": "drp",
        "epixhr_emu_1": "drp",
        "ami-meb0": "meb",
    }


def test_all_are_at_the_station_that_control_names() -> None:
    commands = {one.id: one for one in commands_of(read_plan(FILES / "emulated.cnf")) if not one.skipped}
    assert {one.argv[one.argv.index("-P") + 1] for one in commands.values()} == {"tst:1"}
    assert "tst" in commands_of(read_plan(FILES / "production.cnf"), ["teb0"], here=True)[0].argv


def test_a_program_that_is_not_there_is_refused_before_anything_starts() -> None:
    with pytest.raises(LaunchError, match=r"t.cnf, process a_0: there is no program tebb. Did you mean teb"):
        command("tebb -P x")


def test_one_of_ours_is_started_by_this_python_whatever_path_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command("drp --version").argv[0].startswith(str(Path(sys.executable).parent)), shlex.join(
        command("drp").argv
    )

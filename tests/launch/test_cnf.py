"""Files that name processes: what is read of them, and what is refused."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from drp.launch import LaunchError, read_plan
from drp.launch.toml import plan_to_toml

FILES = Path(__file__).with_name("files")
EMULATED = FILES / "emulated.cnf"
PRODUCTION = FILES / "production.cnf"


def write(folder: Path, text: str, name: str = "t.cnf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_dialect_of_procmgr_has_bare_keys_and_predefined_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    plan = read_plan(EMULATED)
    assert (plan.platform, plan.station, plan.name) == (5, 1, "p5_s1")
    assert [one.id for one in plan.processes][:4] == ["xpmpva", "groupca", "procstat", "control"]
    assert [one.id for one in plan.processes][-3:] == ["ami-global", "ami-meb0", "ami-node_0"]
    control = plan.select(["control"])[0]
    assert (control.host, control.flags, control.rtprio) == ("localhost", "spu", 60)
    assert control.env == (
        ("EPICS_PVA_ADDR_LIST", "10.0.0.1 10.0.0.2"),
        ("LD_LIBRARY_PATH", "/conda/epics/lib"),
        ("EPICS_PVA_AUTO_ADDR_LIST", "NO"),
    )
    assert f"xtcfile={FILES}/run106.xtc2" in plan.select(["epixhr_emu_1"])[0].cmd


def test_platform_of_the_user_reaches_the_file() -> None:
    plan = read_plan(EMULATED, platform=3)
    assert plan.platform == 3
    assert "DAQ:TST 0 3 6" in plan.select(["groupca"])[0].cmd


def test_platform_that_the_file_sets_itself_cannot_be_another() -> None:
    with pytest.raises(
        LaunchError, match=r"sets platform '2' whatever -p says, which was 4.*if not platform"
    ):
        read_plan(PRODUCTION, platform=4)
    assert read_plan(PRODUCTION, platform=2).platform == 2


def test_dialect_of_daqmgr_chooses_among_its_processes() -> None:
    plan = read_plan(PRODUCTION)
    assert [one.id for one in plan.processes] == [
        "control",
        "teb0",
        "epix100_7",
        "timing_9",
        "mebuser0",
        "ami-client",
        "feespec_0",
    ]
    camera = plan.select(["epix100_7"])[0]
    assert (camera.host, camera.cores, camera.rtprio, camera.flags) == ("drp-node031", 5, 50, "spug")
    assert plan.select(["feespec_0"])[0].cmd == "drp_pva"
    assert plan.select(["mebuser0"])[0].host == "localhost"


def test_choosing_what_is_not_there_is_told(tmp_path: Path) -> None:
    text = "procmgr_config=[{id:'a',cmd:'x'}]\nplatform='1'\nconfig=Config(procmgr_config)\nconfig.select(['a','b'])"
    plan = read_plan(write(tmp_path, text))
    assert plan.notes == ("config.select: there is no process 'b'",)
    assert [one.id for one in plan.processes] == ["a"]


@pytest.mark.parametrize("path", [EMULATED, PRODUCTION], ids=["procmgr", "daqmgr"])
def test_toml_says_the_same(path: Path, tmp_path: Path) -> None:
    plan = read_plan(path)
    again = read_plan(write(tmp_path, plan_to_toml(plan), "t.toml"))
    assert again.processes == plan.processes
    assert (again.platform, again.station) == (plan.platform, plan.station)


def test_toml_keeps_every_character(tmp_path: Path) -> None:
    text = "platform='0'\nprocmgr_config=[{id:'a', cmd:'x \"q\" \\\\ \\t \\x7f é', env:'A=b\\\\\"c'}]"
    plan = read_plan(write(tmp_path, text))
    assert read_plan(write(tmp_path, plan_to_toml(plan), "t.toml")).processes == plan.processes


def test_a_program_is_run_with_a_warning_and_toml_without(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING):
        plan = read_plan(PRODUCTION)
    assert "production.cnf is a Python program, and is run" in caplog.text
    caplog.clear()
    read_plan(write(tmp_path, plan_to_toml(plan), "t.toml"))
    assert not caplog.text


def test_a_program_does_not_run_in_our_process_and_sees_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALIB_TOKEN", "hush")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    text = """
import os, sys, builtins
builtins.spoilt = True
secret = ' '.join(sorted(os.environ)) + ' ' + str(os.getppid())
print('said on stdout')
platform = '1'
procmgr_config = [{id: 'a', cmd: 'x ' + secret}]
"""
    cmd = read_plan(write(tmp_path, text)).processes[0].cmd.split()
    assert "CALIB_TOKEN" not in cmd
    assert "PATH" in cmd
    import builtins

    assert not hasattr(builtins, "spoilt")
    out, err = capfd.readouterr()
    assert out == ""
    assert "said on stdout" in err


def test_a_program_that_hangs_ends_at_its_limit_with_all_it_started(tmp_path: Path) -> None:
    text = f"""
import os, time
if not os.fork():
    open({str(tmp_path / "child")!r}, 'w').write(str(os.getpid()))
    time.sleep(60)
while True: time.sleep(1)
"""
    begun = time.monotonic()
    with pytest.raises(LaunchError, match="does not say what it names: no end within 1 s"):
        read_plan(write(tmp_path, text), time_limit_s=1)
    assert time.monotonic() - begun < 10
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and ") Z" not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("platform='1'\nx = 1/0", r"t.cnf, line 2: cannot be run: ZeroDivisionError"),
        ("x = (", r"t.cnf, line 1: cannot be run: SyntaxError"),
        ("import sys\nsys.exit(3)", "cannot be run: SystemExit: 3"),
        ("import os\nos._exit(3)", "ended without saying what it names"),
        ("x = bytearray(1 << 40)", "cannot be run: MemoryError"),
        ("procmgr_config=[{id:'a',cmd:'b'}]", "no platform is named"),
        ("platform='9'\nprocmgr_config=[{id:'a',cmd:'b'}]", "platform 9 is none.*0-7"),
        ("platform='a'\nprocmgr_config=[{id:'a',cmd:'b'}]", "platform 'a' is no whole number"),
        ("platform='1'", "no processes are named"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:object()}]", "no plain text and numbers"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:3}]", "process a: cmd is no text"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:''}]", "process a: has no cmd"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x \"'}]", "process a: cannot be split into words"),
        ("platform='1'\nprocmgr_config=[{cmd:'x'}]", "process 1: '' cannot be an id"),
        ("platform='1'\nprocmgr_config=[{id:'../x',cmd:'x'}]", "cannot be an id"),
        ("platform='1'\nprocmgr_config=[{id:'a'*31,cmd:'x'}]", "cannot be an id.*at most 30"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x'},{id:'a',cmd:'y'}]", "two processes have the id a"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x',falgs:'s'}]", "'falgs' is not defined.*Did you mean flags"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x','falgs':'s'}]", "has no key 'falgs'. Did you mean flags"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x',flags:'sq'}]", "has no flag 'q'.*s, p, u"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x',env:'A'}]", "env has 'A', which is not NAME=value"),
        ("platform='1'\nprocmgr_config=[{id:'a',cmd:'x',rtprio:100}]", "rtprio 100 is out of range.*1 to 99"),
    ],
)  # fmt: skip
def test_a_file_that_names_nothing_useful_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        read_plan(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("platform = 1\n[[proces]]\nid='a'", "has no key 'proces'. Did you mean process"),
        (
            "platform = 1\n[[process]]\nid='a'\ncommand='x'",
            "process a: has no key 'command'. Did you mean cmd",
        ),
        ("platform = ", "is no TOML"),
        ("platform = 1\nprocess = 3", "no processes are named"),
        ("platform = 1\n[[process]]\nid='a'\ncmd='x'\nenv={'a b'='c'}", "cannot be a variable"),
        ("platform = true\n[[process]]\nid='a'\ncmd='x'", "platform 'True' is no whole number"),
    ],
)
def test_toml_with_what_nobody_knows_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        read_plan(write(tmp_path, text, "t.toml"))


def test_an_id_that_is_not_there_names_the_near_ones() -> None:
    with pytest.raises(LaunchError, match=r"there is no process 'tebo'. Did you mean teb0"):
        read_plan(PRODUCTION).select(["tebo"])


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"nothing.cnf: is no file"):
        read_plan(tmp_path / "nothing.cnf")

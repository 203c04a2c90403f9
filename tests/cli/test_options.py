"""A command line becomes a configuration, or one clear line that says what to do."""

import os
from pathlib import Path

import pytest

from drp.cli import paths
from drp.cli.options import parse
from drp.core.config import DrpConfig, Room
from drp.core.errors import ConfigError


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "myroi.py"
    path.write_text("")
    (tmp_path / "a.xtc2").write_text("")
    os.mkfifo(tmp_path / "a_fifo")
    return path


@pytest.mark.usefixtures("script")
def test_script_and_arguments_come_in_one_word() -> None:
    config = parse(["-p", "myroi.py --roi 100:200,50:150 --name 'two words'"])
    assert config.script == "myroi.py"
    assert config.script_args == ("--roi", "100:200,50:150", "--name", "two words")


@pytest.mark.usefixtures("script")
def test_nothing_but_a_script_simulates_a_thousand_events() -> None:
    config = parse(["-p", "myroi.py"])
    assert config.sources == ("sim",)
    assert config.source_is_default
    assert (config.events, config.out_dir) == (1000, None)
    assert config.workers == max(1, len(os.sched_getaffinity(0)) - 1)


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(("options", "workers"), [("", 255), ("--spares 6", 250), ("-W 3", 3)])
def test_a_machine_of_many_cores_gets_as_many_workers_as_there_may_be(
    monkeypatch: pytest.MonkeyPatch, options: str, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(512)))
    assert parse(["-p", "myroi.py", *options.split()]).workers == workers


@pytest.mark.usefixtures("script")
def test_a_named_source_runs_to_its_end() -> None:
    config = parse(["-p", "myroi.py", "--source", "a.xtc2", "sim:jungfrau"])
    assert config.sources == ("a.xtc2", "sim:jungfrau")
    assert not config.source_is_default
    assert config.events is None


@pytest.mark.parametrize("source", ["sim:constants=/tmp/calib.db", "xtc2:/data/run7.xtc2", "mine:a/b.npy"])
@pytest.mark.usefixtures("script")
def test_what_follows_a_known_kind_of_source_is_its_own_business(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "source_names", lambda: ["mine", "sim", "xtc2"])
    assert parse(["-p", "myroi.py", "--source", source]).sources == (source,)


@pytest.mark.usefixtures("script")
def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="--source: is empty"):
        parse(["-p", "myroi.py", "--source", ""])


@pytest.mark.usefixtures("script")
def test_options_that_do_nothing_offline_are_told_where_they_are_given() -> None:
    line = "-p myroi.py --offline --source a.xtc2"
    assert parse(line.split()).notes == ()
    notes = parse([*line.split(), "-W", "4", "--loop", "--rate", "5"]).notes
    assert [note.partition(":")[0] for note in notes] == [
        f"{option} has no effect with --offline" for option in ("-W", "--rate", "--loop")
    ]


@pytest.mark.parametrize("order", [["-p", "5", "-p", "myroi.py -x"], ["-p", "myroi.py -x", "-p", "5"]])
@pytest.mark.usefixtures("script")
def test_p_is_platform_or_script_by_what_it_holds(order: list[str]) -> None:
    config = parse(order)
    assert (config.platform, config.script, config.script_args) == (5, "myroi.py", ("-x",))


@pytest.mark.usefixtures("script")
def test_a_line_as_lcls_writes_it_is_understood() -> None:
    line = """
        -P tst:2 -p 3 -u epix_hr_1 -D epixhremu -S 7 -W 4 -v -o out -M prom -k batching=yes,directIO=no
        -k drp=python,pythonScript=myroi.py,pebbleBufSize=4194304 -k pebbleBufCount=256
    """
    Path("prom").mkdir()
    config = parse(line.split())
    assert (config.instrument, config.station, config.platform, config.alias) == ("tst", 2, 3, "epix_hr_1")
    assert (config.det_type, config.det_id, config.workers, config.out_dir) == (
        "epixhremu",
        "7",
        4,
        Path("out"),
    )
    assert (config.script, config.pebble_slot_bytes, config.pebble_slots) == ("myroi.py", 4 << 20, 256)
    assert (config.log_level, config.prometheus_dir) == ("debug", Path("prom"))
    assert [note.partition(" is understood and has no effect: ")[0] for note in config.notes] == [
        "-k batching",
        "-k directIO",
    ]


@pytest.mark.usefixtures("script")
def test_every_other_option_reaches_its_field() -> None:
    line = """
        -p myroi.py --source a.xtc2 -n 50 --rate 120.5 --loop --report r.json --log-level warning
        --log-domain run,worker --event-timeout 1 --first-event-timeout 20 --stop-timeout 5 --spares 2
        --worker-memory 2G --fex-room 50% --on-overflow stop --on-script-failure stop --check-views --check-jit --offline
        --overwrite --chunk-size 1G --expt xpp1 --run 12
    """
    config = parse(line.split())
    assert config == DrpConfig(
        script="myroi.py",
        sources=("a.xtc2",),
        workers=config.workers,
        events=50,
        rate_hz=120.5,
        loop=True,
        report=Path("r.json"),
        log_level="warning",
        log_domains=("run", "worker"),
        event_timeout_s=1.0,
        first_event_timeout_s=20.0,
        stop_timeout_s=5.0,
        spares=2,
        worker_memory_bytes=2 << 30,
        fex_room=Room(0.5),
        on_overflow="stop",
        on_script_failure="stop",
        check_views=True,
        check_jit=True,
        offline=True,
        overwrite=True,
        chunk_bytes=1 << 30,
        expt="xpp1",
        run=12,
        notes=config.notes,
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "-p: there is no script. Name one"),
        ("-p missing.py", "-p missing.py: there is no such script"),
        ("-p .", "-p .: is a folder, not a script"),
        ("-p myroi.py -o a.xtc2", "-o a.xtc2: a.xtc2 is a file, not a folder"),
        ("-p myroi.py -o a.xtc2/out", "/a.xtc2 is a file, not a folder"),
        ("-p myroi.py --report .", "--report .: is a folder"),
        ("-p myroi.py --report gone/r.json", "--report gone/r.json: there is no folder gone"),
        ("-p myroi.py -n 0", "-n 0: is out of range, it must lie between 1 and 4,611,686,018,427,387,904"),
        ("-p 9", "-p 9: is no platform. A platform is a digit, 0-7"),
        ("-p 1 -p 2 -p myroi.py", "-p 2: names a second platform"),
        ("-p myroi.py -p other.py", "-p other.py: names a second script"),
        ("-p myroi.py -k pythonScript=other.py", "-k says other.py, another option myroi.py"),
        ("-p myroi.py -d /dev/datadev_0", "-d: needs PGP card hardware"),
        ("-p myroi.py -l 0x1", "-l: selects lanes of PGP card hardware"),
        ("-p myroi.py -C host", "-C: needs to know which drp of the partition this is. Give -u DET_SEGMENT."),
        ("-C -u cam_0 --keep-if x>1", "--keep-if: is not for a drp of a partition: the teb decides"),
        ("-C -u cam_0 --run 3", "--run: is not for a drp of a partition: control counts the runs"),
        ("-p myroi.py --group 2", "--group 2: is for a drp of a partition. Give -C as well."),
        ("-p myroi.py -Q 3", "-Q: cube workers are not in this version"),
        ("-p myroi.py --evnt-timeout 3", "--evnt-timeout: is no option of drp. Did you mean --event-timeout"),
        ("-p myroi.py --roi 1:2", 'Quote a script with its arguments as one word: -p "myroi.py --roi 1:2"'),
        ("-p myroi.py a.xtc2", "a.xtc2: belongs to no option. Quote a script"),
        ("-C", "-C: needs to know which drp"),
        ("-p myroi.py -l -W 3", "-l: selects lanes of PGP card hardware"),
        ("-p myroi.py --source gone/run7", "--source gone/run7: there is no such file"),
        ("-p myroi.py --source new:gone/run7.xtc2", "--source new:gone/run7.xtc2: there is no such file"),
        ("-p myroi.py --source .", "--source .: is a folder. Name the files in it"),
        ("-p myroi.py --source /dev/zero", "--source /dev/zero: is not a regular file"),
        ("-p myroi.py --source a_fifo", "--source a_fifo: is not a regular file"),
        ("-p myroi.py --source " + 300 * "x" + ".xtc2", "there is no such file"),
        ("-p myroi.py --offline --source sim:jungfrau", "--offline: reads recorded files"),
        ("-p myroi.py --offline --source run7", "--source run7: there is no such file"),
        ("-p myroi.py -o /proc/x", "-o /proc/x: nothing can be written in /proc: No such file or directory"),
        ("-p myroi.py -o . -P a.xtc2", "-o .: a.xtc2 is a file, not a folder"),
        ("-p myroi.py --expt ..", "--expt ..: may hold letters"),
        ("-p myroi.py --chunk-size " + 400 * "9", "--chunk-size 9999"),
        ("-p myroi.py --worker-memory " + 400 * "9", "is out of range"),
        ("-p myroi.py --fex-room " + 400 * "9", "is out of range"),
        ("-p myroi.py -k pebbleBufSize=" + 400 * "9", "is out of range"),
        ("-p myroi.py -k pebbleBufCount=" + 5000 * "9", "is not a whole number"),
        ("-p myroi.py -u epix_" + 5000 * "9", "is no alias"),
        ("-p myroi.py -P tst:" + 5000 * "9", "has no station number"),
        ("-p myroi.py -W many", "argument -W/--workers: invalid int value: 'many'. See drp --help"),
        ("-p myroi.py -W", "expected one argument"),
        ("-p myroi.py -W 0", "-W 0: is out of range"),
        ("-p myroi.py -u epix", "-u epix: is no alias"),
        (
            "-p myroi.py --log-domain run,workr",
            "--log-domain workr: is no part of drp that logs. The parts are run, worker, source, sink, script, offline, constants",
        ),
        (
            "-p myroi.py -M gone",
            "-M gone: there is no such folder. Name that of Prometheus's file_sd_configs",
        ),
        ("-p myroi.py -P tst:x", "-P tst:x: has no station number"),
        ("-p myroi.py --source gone.xtc2", "--source gone.xtc2: there is no such file"),
        ("-p myroi.py --offline", "--offline: reads recorded files"),
        ("-p myroi.py --on-overflow explode", "invalid choice"),
        ("-p myroi.py --worker-memory lots", "--worker-memory lots: is not a size"),
        (
            "-p myroi.py -k ep_provider=tcp",
            "-k ep_provider: is not available in this drp: it belongs to libfabric",
        ),
    ],
)
@pytest.mark.usefixtures("script")
def test_what_cannot_be_used_is_one_line_that_says_what_to_do(line: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(line.split())
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "text"), [("myroi.py 'open", "cannot be split"), ("  ", "-p: is empty")])
def test_a_word_that_is_no_command_is_refused(word: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse(["-p", word])


@pytest.mark.usefixtures("script")
def test_an_empty_folder_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="--output: is empty"):
        parse(["-p", "myroi.py", "-o", ""])


@pytest.mark.usefixtures("script")
def test_a_folder_that_is_still_to_be_made_is_taken() -> None:
    assert parse(["-p", "myroi.py", "-o", "new/and/newer"]).out_dir == Path("new/and/newer")


def test_help_shows_groups_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for part in (
        "script and workers:",
        "source:",
        "recording:",
        "limits:",
        "report and log:",
        "examples:",
        "exit status:",
    ):
        assert part in out
    assert 'drp -p "myroi.py --roi 40:140,50:150"' in out


def test_version_is_printed_and_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("drp ")


def test_a_member_of_a_partition_needs_no_script_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRP_CALIB", raising=False)
    config = parse(["-C", "-p", "2", "-P", "tst", "-u", "epixhr_1", "--group", "3", "--source", "sim:epixhr"])
    assert (config.control, config.script, config.events, config.platform) == ("", "", None, 2)
    assert (config.alias, config.readout_group) == ("epixhr_1", 3)
    assert parse(["-C", "drp-host", "-u", "epixhr_1", "-p", "4"]).readout_group == 4

"""Recording of runs: what stands in which file, read back by the format package."""

import errno
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dgrams import Builder

from drp.core.errors import RecorderError
from drp.core.ledger import LEDGER_FIELDS
from drp.shm._block import BlockError, encode_block
from drp.sink.answer import Answer, Reduced
from drp.sink.declare import DRPINFO, RUNINFO, Declared
from drp.sink.offline import OfflineWriter
from drp.sink.recorder import Output, Recorder, Then
from xtc import (
    Alg,
    Config,
    Damage,
    DataType,
    Dgram,
    Field,
    Names,
    Reader,
    Stream,
    TransitionId,
    check_file,
    encode_dgram,
    encode_shapes_data,
    find_smdinfo,
)

LEDGER = {name: number for number, name in enumerate(LEDGER_FIELDS)}
ROI = Declared(
    Names(
        0,
        "fex",
        "cam",
        "",
        0,
        Alg("roi", (1, 0, 0)),
        (Field("roi", DataType.UINT16, 2), Field("total", DataType.DOUBLE)),
    )
)
WORDS = Declared(
    Names(0, "cam", "cam", "", 0, Alg("trigger", (0, 0, 1)), (Field("keep", DataType.UINT8),)), "trigger"
)
SUMS = Declared(
    Names(
        0,
        "cam",
        "cam",
        "",
        0,
        Alg("reduce", (0, 0, 1)),
        (Field("image", DataType.INT32, 1), Field("hi", DataType.FLOAT)),
    ),
    "reduce",
)
DECLARED = Answer((ROI, WORDS, SUMS))


def roi_block(number: int, drops: tuple[int, ...] = ()) -> tuple[bytes, bytes]:
    value = struct.pack("<6Hd", *range(number, number + 6), number / 3)
    return encode_block(drops=drops, adds=[(0, [(2, 3)], value), (1, [], bytes([number % 2]))], words=True)


def sums(image: list[int], high: float) -> tuple[Reduced, ...]:
    return (
        Reduced("image", "sum", np.array(image, np.int32)),
        Reduced("hi", "max", np.array(high, np.float32)),
    )


def record(
    writer: OfflineWriter, dgrams: list[bytes], answers: dict[TransitionId, Answer] | None = None
) -> None:
    """Record whole dgrams; each second event without the first segment's raw data."""
    number = 0
    for raw in dgrams:
        dgram = Dgram(raw)
        if dgram.service == TransitionId.L1Accept:
            first = 0x101 if number % 2 else None
            desc, data = roi_block(number, (first,) if first else ())
            writer.event(raw, desc, data, pulse_id=1000 + number)
            number += 1
        else:
            ledger = LEDGER if dgram.service == TransitionId.EndRun else None
            writer.transition(raw, (answers or {}).get(dgram.service, Answer()), ledger=ledger)


def values(dgram: Dgram) -> dict[str, object]:
    return {f"{one.names.detname}.{one.names.alg.name}.{one.field.name}": one.value for one in dgram.fields()}


def big_file(folder: Path, chunk: int = 0, run: int = 7) -> Path:
    return folder / "drp" / "tst001" / "xtc" / f"tst001-r{run:04d}-s000-c{chunk:03d}.xtc2"


def smd_file(folder: Path, run: int = 7) -> Path:
    return folder / "drp" / "tst001" / "xtc" / "smalldata" / f"tst001-r{run:04d}-s000-c000.smd.xtc2"


@pytest.fixture
def one_run(tmp_path: Path) -> Path:
    """A recorded run of 10 events."""
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        record(writer, [build.configure(), *build.run(10, slow_every=4)], {TransitionId.Configure: DECLARED})
    return tmp_path


def test_the_file_holds_the_run_with_what_was_added_and_the_ledger(one_run: Path) -> None:
    assert list(check_file(big_file(one_run))) == []
    dgrams = list(Reader(big_file(one_run)))
    services = [one.service.name for one in dgrams]
    assert services[:4] == ["Configure", "BeginRun", "BeginStep", "Enable"]
    assert services[-3:] == ["Disable", "EndStep", "EndRun"]
    assert services.count("L1Accept") == 10
    assert services.count("SlowUpdate") == 3
    events = [one for one in dgrams if one.service == TransitionId.L1Accept]
    for number, event in enumerate(events):
        found = values(event)
        assert found["cam.roi.total"] == number / 3
        assert found["cam.trigger.keep"] == number % 2
        assert (found["drpinfo.drpinfo.pulse_id"], found["drpinfo.drpinfo.cause"]) == (1000 + number, 0)
        assert event.shapes_data()[-1].names.detname == "drpinfo"
        assert sum(one.names_id == 0x101 for one in event.shapes_data()) == (number + 1) % 2
    assert {name: values(dgrams[-1])[f"drpledger.drpledger.{name}"] for name in LEDGER_FIELDS} == LEDGER
    assert values(dgrams[1])["runinfo.runinfo.runnum"] == 7


def test_the_smd_file_points_at_every_event_and_carries_its_damage(one_run: Path) -> None:
    assert list(check_file(smd_file(one_run))) == []
    big = Reader(big_file(one_run))
    smd = list(Reader(smd_file(one_run)))
    assert find_smdinfo(Config(smd[0])) is not None
    assert len(smd) == len(list(big))
    for twin in smd:
        if twin.service == TransitionId.L1Accept:
            found = values(twin)
            at = big.at(found["smdinfo.offsetAlg.intOffset"])
            assert (twin.size, twin.timestamp, twin.env) == (76, at.timestamp, at.env)
            assert at.size == found["smdinfo.offsetAlg.intDgramSize"]
    assert smd[-1].service == TransitionId.EndRun
    assert smd[-1].size == 24


@pytest.mark.parametrize(("damage", "in_smd"), [(0x41, 0x41), (0x1001, 0x1001), (0x000A, 0x0002)])
def test_damage_is_in_both_files_but_for_corrupted(tmp_path: Path, damage: int, in_smd: int) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        for raw in [build.configure(), build.begin_run()]:
            writer.transition(raw)
        writer.event(build.event(0), damage=damage)
        writer.transition(build.bare(TransitionId.EndRun))
    assert [
        int(one.damage) for one in Reader(big_file(tmp_path)) if one.service == TransitionId.L1Accept
    ] == [damage]
    assert [
        int(one.damage) for one in Reader(smd_file(tmp_path)) if one.service == TransitionId.L1Accept
    ] == [in_smd]


def test_files_have_their_names_and_modes_only_when_they_are_whole(tmp_path: Path) -> None:
    build = Builder()
    writer = OfflineWriter(Output(tmp_path))
    writer.transition(build.configure())
    assert list(tmp_path.iterdir()) == []
    writer.transition(build.begin_run())
    for path in (big_file(tmp_path), smd_file(tmp_path)):
        partial = path.with_name(path.name + ".inprogress")
        assert not path.exists()
        assert partial.stat().st_mode & 0o777 == 0o640
    writer.transition(build.bare(TransitionId.EndRun))
    for path in (big_file(tmp_path), smd_file(tmp_path)):
        assert path.stat().st_mode & 0o777 == 0o440
    assert {one.name for one in big_file(tmp_path).parent.iterdir()} == {"smalldata", big_file(tmp_path).name}
    assert writer.close() == []


def test_chunks_begin_at_an_enable_and_read_back_as_one_stream(tmp_path: Path) -> None:
    build = Builder()
    dgrams = [build.configure(), build.begin_run()]
    for step in range(4):
        dgrams += [build.begin_step(step), build.bare(TransitionId.Enable)]
        dgrams += [build.event(step * 30 + k) for k in range(30)]
        dgrams += [build.bare(TransitionId.Disable), build.bare(TransitionId.EndStep)]
    dgrams.append(build.bare(TransitionId.EndRun))
    with OfflineWriter(Output(tmp_path, chunk_bytes=40_000)) as writer:
        record(writer, dgrams, {TransitionId.Configure: DECLARED})
    chunks = sorted(big_file(tmp_path).parent.glob("*.xtc2"))
    assert [one.name[-9:] for one in chunks] == ["c000.xtc2", "c001.xtc2", "c002.xtc2"]
    stream = Stream(chunks[0])
    read = list(stream)
    assert stream.paths == [str(one) for one in chunks]
    assert [one.timestamp for one in read] == [Dgram(one).timestamp for one in dgrams]
    config = Config(read[0])
    readers = [Reader(one, config=config) for one in chunks]
    assert [next(iter(one)).service for one in readers[1:]] == [TransitionId.L1Accept] * 2
    chunk = 0
    for twin in Reader(smd_file(tmp_path)):
        found = values(twin)
        if twin.service == TransitionId.L1Accept:
            at = readers[chunk].at(found["smdinfo.offsetAlg.intOffset"])
            assert (at.timestamp, at.size) == (twin.timestamp, found["smdinfo.offsetAlg.intDgramSize"])
        if "chunkinfo.chunkinfo.chunkid" in found:
            chunk += 1
            assert found["chunkinfo.chunkinfo.chunkid"] == chunk
            assert found["chunkinfo.chunkinfo.filename"] == chunks[chunk].name
    assert chunk == 2


def test_a_chunk_that_cannot_be_opened_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder()
    big_file(tmp_path, 1).parent.mkdir(parents=True)
    big_file(tmp_path, 1).write_bytes(b"of another run")
    with OfflineWriter(Output(tmp_path, chunk_bytes=1000)) as writer:
        record(writer, [build.configure(), *build.run(10)], {TransitionId.Configure: DECLARED})
    assert "no new chunk" in caplog.text
    assert list(check_file(big_file(tmp_path))) == []
    assert big_file(tmp_path, 1).read_bytes() == b"of another run"


def test_a_whole_file_is_not_written_over_unless_told(one_run: Path) -> None:
    before = big_file(one_run).read_bytes()
    build = Builder()
    with OfflineWriter(Output(one_run)) as writer:
        writer.transition(build.configure())
        with pytest.raises(RecorderError, match="--overwrite") as caught:
            writer.transition(build.begin_run())
    assert caught.value.errno == errno.EEXIST
    assert big_file(one_run).read_bytes() == before
    big_file(one_run, 1).write_bytes(b"a chunk of the run before")
    with OfflineWriter(Output(one_run, overwrite=True)) as writer:
        record(writer, [build.configure(), *build.run(3)], {TransitionId.Configure: DECLARED})
    assert len(big_file(one_run).read_bytes()) < len(before)
    assert sorted(one.name for one in big_file(one_run).parent.glob("*c*")) == [big_file(one_run).name]


def test_nothing_is_left_when_the_smd_file_cannot_be_made(one_run: Path) -> None:
    big_file(one_run).unlink()
    build = Builder()
    writer = OfflineWriter(Output(one_run))
    writer.transition(build.configure())
    with pytest.raises(RecorderError, match=r"smd\.xtc2"):
        writer.transition(build.begin_run())
    assert list(big_file(one_run).parent.glob("*.xtc2*")) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_what_a_dead_drp_left_is_moved_aside_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    partial = big_file(tmp_path).with_name(big_file(tmp_path).name + ".inprogress")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"left")
    monkeypatch.setattr(os, "link", link)
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        record(writer, [build.configure(), *build.run(1)], {TransitionId.Configure: DECLARED})
    assert big_file(tmp_path).with_suffix(".xtc2.noendrun").read_bytes() == b"left"


def test_what_a_dead_drp_left_is_moved_aside_untouched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partial = big_file(tmp_path).with_name(big_file(tmp_path).name + ".inprogress")
    partial.parent.mkdir(parents=True)
    for content in (b"first", b"second"):
        partial.write_bytes(content)
        build = Builder()
        with OfflineWriter(Output(tmp_path, overwrite=True)) as writer:
            record(writer, [build.configure(), *build.run(1)], {TransitionId.Configure: DECLARED})
    assert big_file(tmp_path).with_suffix(".xtc2.noendrun").read_bytes() == b"first"
    assert big_file(tmp_path).with_suffix(".xtc2.noendrun.1").read_bytes() == b"second"
    assert caplog.text.count("left behind") == 2


def test_a_file_that_somebody_writes_is_refused(tmp_path: Path) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as first:
        first.transition(build.configure())
        first.transition(build.begin_run())
        with OfflineWriter(Output(tmp_path)) as second:
            second.transition(build.configure())
            with pytest.raises(RecorderError, match="another process"):
                second.transition(build.begin_run())
        first.transition(build.bare(TransitionId.EndRun))
    assert list(check_file(big_file(tmp_path))) == []


def test_a_run_without_end_says_so_in_its_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        record(writer, [build.configure(), *build.run(5)][:-1], {TransitionId.Configure: DECLARED})
    assert not big_file(tmp_path).exists()
    left = big_file(tmp_path).with_suffix(".xtc2.noendrun")
    assert sum(one.service == TransitionId.L1Accept for one in Reader(left)) == 5
    assert "no end" in caplog.text


@pytest.mark.parametrize("word", ["../../etc", "a/b", "", ".hidden", "x" * 65])
def test_a_name_from_a_file_cannot_leave_the_folder(tmp_path: Path, word: str) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path, experiment=word or "/")) as writer:
        writer.transition(build.configure())
        with pytest.raises(RecorderError, match="--expt"):
            writer.transition(build.begin_run())
    assert list(tmp_path.iterdir()) == []


def test_an_own_recording_can_be_reduced_again(one_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    other = Declared(replace(ROI.names, alg=Alg("second", (0, 0, 1))))
    with OfflineWriter(Output(again)) as writer:
        for dgram in Reader(big_file(one_run)):
            raw = bytes(dgram)
            if dgram.service == TransitionId.L1Accept:
                desc, data = encode_block(adds=[(0, [(1, 1)], bytes(10))])
                writer.event(raw, desc, data, pulse_id=5)
            else:
                answer = Answer((other,)) if dgram.service == TransitionId.Configure else Answer()
                writer.transition(
                    raw, answer, ledger=LEDGER if dgram.service == TransitionId.EndRun else None
                )
    assert list(check_file(big_file(again))) == []
    for dgram in Reader(big_file(again)):
        own = [one.names.detname for one in dgram.shapes_data()]
        assert own.count("drpinfo") == (dgram.service == TransitionId.L1Accept)
        assert own.count("drpledger") == (dgram.service == TransitionId.EndRun)
    first, second = (Config(next(iter(Reader(big_file(one))))) for one in (one_run, again))
    assert set(first.names) < set(second.names)
    assert first.find("drpinfo", "drpinfo") == second.find("drpinfo", "drpinfo")


def test_other_fields_under_our_names_are_replaced_and_smdinfo_goes(tmp_path: Path) -> None:
    build = Builder()
    old = Names(
        0x120, "drpinfo", "drpinfo", "", 0, Alg("drpinfo", (0, 0, 0)), (Field("other", DataType.UINT8),)
    )
    smd = Names(0x1FE, "offset", "smdinfo", "", 0, Alg("offsetAlg"), (Field("intOffset", DataType.UINT64),))
    stale = encode_shapes_data(old, [3]) + encode_shapes_data(smd, [4])
    configure = encode_dgram(TransitionId.Configure, 1, [one.encode() for one in (*build.names, old, smd)])
    begin_run = build.begin_run()
    event = encode_dgram(TransitionId.L1Accept, build.time + 1, [stale])
    with OfflineWriter(Output(tmp_path)) as writer:
        writer.transition(configure)
        writer.transition(begin_run)
        writer.event(event, pulse_id=8)
        writer.transition(build.bare(TransitionId.EndRun))
    assert list(check_file(big_file(tmp_path))) == []
    dgrams = list(Reader(big_file(tmp_path)))
    assert Config(dgrams[0]).names[0x120] == replace(DRPINFO, names_id=0x120)
    assert "smdinfo" not in {one.detname for one in Config(dgrams[0]).names.values()}
    assert values(dgrams[2]) == {
        "drpinfo.drpinfo.pulse_id": 8,
        "drpinfo.drpinfo.cause": 0,
        "drpinfo.drpinfo.worker": 0xFFFF,
    }


def test_a_run_without_runinfo_gets_one(tmp_path: Path) -> None:
    configure = encode_dgram(TransitionId.Configure, 1, [Builder().raw[0].encode()])
    with OfflineWriter(Output(tmp_path, experiment="tst001")) as writer:
        writer.transition(configure)
        writer.transition(encode_dgram(TransitionId.BeginRun, 2))
        writer.transition(encode_dgram(TransitionId.EndRun, 3))
    dgrams = list(Reader(big_file(tmp_path, run=1)))
    assert values(dgrams[1]) == {"runinfo.runinfo.expt": "tst001", "runinfo.runinfo.runnum": 1}
    assert Config(dgrams[0]).names[0x1FF] == replace(RUNINFO, names_id=0x1FF)


def test_the_users_run_and_experiment_stand_in_name_and_runinfo(tmp_path: Path) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path, "mfx", "other", 12, stream=3)) as writer:
        for raw in (build.configure(), build.begin_run(), build.bare(TransitionId.EndRun)):
            writer.transition(raw)
    path = tmp_path / "mfx" / "other" / "xtc" / "other-r0012-s003-c000.xtc2"
    dgrams = list(Reader(path))
    assert values(dgrams[1]) == {"runinfo.runinfo.expt": "other", "runinfo.runinfo.runnum": 12}
    assert len(dgrams[1].shapes_data()) == 1


def record_runs(output: Output, *numbers: int | None) -> None:
    """Record empty runs of one Configure; those of None have no runinfo."""
    build = Builder()
    with OfflineWriter(output) as writer:
        writer.transition(build.configure())
        for number in numbers:
            bare = encode_dgram(TransitionId.BeginRun, 2)
            writer.transition(bare if number is None else build.begin_run(number))
            writer.transition(encode_dgram(TransitionId.EndRun, 3))


def recorded_runs(folder: Path) -> dict[str, int]:
    """The runs in the files under a folder, by name of file."""
    paths = sorted(path for path in folder.rglob("*.xtc2") if "smd" not in path.name)
    return {
        path.name.split("-")[1]: values(list(Reader(path))[1])["runinfo.runinfo.runnum"] for path in paths
    }


def test_runs_without_a_number_count_up_past_those_that_have_one(tmp_path: Path) -> None:
    record_runs(Output(tmp_path, experiment="tst"), None, 2, None)
    assert recorded_runs(tmp_path) == {"r0001": 1, "r0002": 2, "r0003": 3}


def test_the_users_number_is_that_of_the_first_run(tmp_path: Path) -> None:
    record_runs(Output(tmp_path, run=12), 7, 7)
    assert recorded_runs(tmp_path) == {"r0012": 12, "r0013": 13}


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_of_one_number_are_never_one_file(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(RecorderError, match=r"two runs 7 of .* --run"):
        record_runs(Output(tmp_path, overwrite=overwrite), 7, 7)
    assert list(recorded_runs(tmp_path).values()) == [7]


def test_added_transition_data_and_reduced_arrays(tmp_path: Path) -> None:
    build = Builder()
    add = (0, ((1, 1),), struct.pack("<Hd", 5, 0.5))
    answers = {
        TransitionId.Configure: replace(DECLARED, adds=(add,), damage=2),
        TransitionId.BeginStep: Answer(adds=(add,), drops=(0x166,), user=9),
        TransitionId.EndStep: Answer(reduced=sums([1, 2, 3], 4.0), reduce_index=2),
        TransitionId.EndRun: Answer(reduced=sums([10, 0, 0], 1.0), reduce_index=2),
    }
    with OfflineWriter(Output(tmp_path)) as writer:
        record(writer, [build.configure(), *build.run(2)], answers)
    assert list(check_file(big_file(tmp_path))) == []
    by_service = {one.service: one for one in Reader(big_file(tmp_path))}
    configure = by_service[TransitionId.Configure]
    assert values(configure)["cam.roi.total"] == 0.5
    assert configure.damage == Damage(2)
    kinds = [one.type for one in configure.xtcs()]
    assert kinds.index(1) < len(kinds)
    last_names = max(one.offset for one in configure.xtcs() if one.type == 4)
    assert configure.shapes_data()[-1].offset > last_names
    step = by_service[TransitionId.BeginStep]
    assert set(values(step)) == {"cam.roi.roi", "cam.roi.total"}
    assert step.damage.user_code == 9
    end_step, end_run = (values(by_service[one]) for one in (TransitionId.EndStep, TransitionId.EndRun))
    assert end_step["cam.reduce.image"].tolist() == [1, 2, 3]
    assert end_run["cam.reduce.image"].tolist() == [11, 2, 3]
    assert (end_step["cam.reduce.hi"], end_run["cam.reduce.hi"]) == (4.0, 4.0)


def test_reduced_arrays_are_in_the_big_file_only(tmp_path: Path) -> None:
    build = Builder()
    add = (0, ((1, 1),), struct.pack("<Hd", 5, 0.5))
    answers = {
        TransitionId.Configure: DECLARED,
        TransitionId.EndStep: Answer(adds=(add,), reduced=sums([1, 2, 3], 4.0), reduce_index=2),
    }
    with OfflineWriter(Output(tmp_path)) as writer:
        record(writer, [build.configure(), *build.run(2)], answers)
    (big,) = (one for one in Reader(big_file(tmp_path)) if one.service == TransitionId.EndStep)
    (smd,) = (one for one in Reader(smd_file(tmp_path)) if one.service == TransitionId.EndStep)
    assert {"cam.roi.total", "cam.reduce.image"} <= values(big).keys()
    assert values(smd).keys() == {"cam.roi.roi", "cam.roi.total"}
    assert list(check_file(smd_file(tmp_path))) == []


def test_reduced_arrays_that_do_not_fit_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder()
    answers = {
        TransitionId.Configure: DECLARED,
        TransitionId.EndStep: Answer(reduced=sums(list(range(10_000)), 4.0), reduce_index=2),
    }
    with OfflineWriter(Output(tmp_path), 30_000) as writer:
        record(writer, [build.configure(), *build.run(2)], answers)
        # The step's, and the run's: both have the array.
        assert writer.recorder.truncated == 2
    (end,) = (one for one in Reader(big_file(tmp_path)) if one.service == TransitionId.EndStep)
    assert (end.damage.user_code, values(end)) == (4, {})
    assert "does not fit its slot of 30000 bytes" in caplog.text
    caplog.clear()


def test_two_runs_of_one_configure(tmp_path: Path) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        answers = {TransitionId.Configure: Answer((ROI,)), TransitionId.BeginRun: Answer((WORDS,))}
        record(writer, [build.configure(), *build.run(2), *build.run(2, runnum=8)], answers)
        assert [one.path.name for one in writer.recorder.files if "smd" not in one.path.name] == [
            "tst001-r0007-s000-c000.xtc2",
            "tst001-r0008-s000-c000.xtc2",
        ]
    first, second = (next(iter(Reader(big_file(tmp_path, run=run)))) for run in (7, 8))
    assert bytes(first) == bytes(second)


def test_without_output_sizes_are_checked_and_nothing_is_written(tmp_path: Path) -> None:
    build = Builder()
    with OfflineWriter(None) as writer:
        record(writer, [build.configure(), *build.run(4)], {TransitionId.Configure: DECLARED})
        raw = build.event(9)
        desc, data = roi_block(9)
        writer.transition(build.begin_run(8))
        assert writer.event(raw, desc, data, bound=len(raw)) == 1
        with pytest.raises(BlockError):
            writer.event(raw, desc, data[:-1])
        assert writer.recorder.l1.events == 5
        assert writer.recorder.l1.truncated == 1
        assert writer.recorder.files == []


def test_a_transition_without_configure_is_an_error() -> None:
    with pytest.raises(RecorderError, match="without a Configure"):
        Recorder(None).transition(Builder().begin_run())


def test_begin_run_before_the_end_of_the_last_is_an_error(tmp_path: Path) -> None:
    build = Builder()
    with OfflineWriter(Output(tmp_path)) as writer:
        writer.transition(build.configure())
        writer.transition(build.begin_run())
        with pytest.raises(RecorderError, match="before the files"):
            writer.transition(build.begin_run(8))
        writer.transition(build.bare(TransitionId.EndRun))


def test_a_full_disk_pauses_events_and_transitions_and_nothing_is_lost(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500 << 10))
    build = Builder(shape=(130, 100))
    recorder = Recorder(Output(small_disk))
    pauses = 0
    sent = []
    for raw in [build.configure(), *build.run(18)]:
        if Dgram(raw).service == TransitionId.L1Accept:
            sent.append(Dgram(raw).timestamp)
            while recorder.l1.put_l1(raw, pulse_id=1) < 0:
                assert recorder.l1.error == errno.ENOSPC
                pauses += 1
                ballast.unlink()
            continue
        written = recorder.transition(raw)
        assert not written.big or recorder.l1.put_pair(written.big, written.smd)
        assert recorder.settle(written)
    assert pauses == 1
    assert list(check_file(big_file(small_disk))) == []
    assert [
        one.timestamp for one in Reader(big_file(small_disk)) if one.service == TransitionId.L1Accept
    ] == sent
    assert [
        one.timestamp for one in Reader(smd_file(small_disk)) if one.service == TransitionId.L1Accept
    ] == sent


def test_a_disk_that_stays_full_leaves_files_that_can_be_read(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder(shape=(100, 100))
    with (
        OfflineWriter(Output(small_disk)) as writer,
        pytest.raises(RecorderError, match="No space left") as caught,
    ):
        record(writer, [build.configure(), *build.run(100)], {TransitionId.Configure: DECLARED})
    assert caught.value.errno == errno.ENOSPC
    big = big_file(small_disk).with_suffix(".xtc2.noendrun")
    smd = smd_file(small_disk).with_suffix(".xtc2.noendrun")
    assert list(check_file(big)) == []
    reader = Reader(big)
    for twin in Reader(smd):
        if twin.service == TransitionId.L1Accept:
            assert reader.at(values(twin)["smdinfo.offsetAlg.intOffset"]).timestamp == twin.timestamp


def test_settle_waits_for_a_full_disk(small_disk: Path) -> None:
    build = Builder(shape=(30, 30))
    recorder = Recorder(Output(small_disk))
    for raw in (build.configure(), build.begin_run()):
        written = recorder.transition(raw)
        assert not written.big or recorder.l1.put_pair(written.big, written.smd)
    for number in range(20):
        assert recorder.l1.put_l1(build.event(number)) == 0
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
        file.write(bytes(2 << 20))
    written = recorder.transition(build.bare(TransitionId.EndRun))
    assert written.then is Then.CLOSE
    assert recorder.l1.put_pair(written.big, written.smd)
    assert not recorder.settle(written)
    os.truncate(ballast, 0)
    assert recorder.settle(written)
    assert list(check_file(big_file(small_disk))) == []

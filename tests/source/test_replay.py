"""Recorded files: every dgram as it is, chunks, loops, rates, and files that are not what they should be."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drp.core.errors import OrderError
from drp.core.transitions import Sequencer
from drp.engine._flow import Flow
from drp.shm._block import NamesTable
from drp.shm._pebble import Pebble, SlotBatch
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder
from drp.source import END, SourceError, SourceOptions, open_source
from drp.source.recording import Recording
from drp.source.replay import Replay, spin
from xtc import (
    Alg,
    ChunkInfo,
    DataType,
    Dgram,
    Field,
    Names,
    TransitionId,
    chunkinfo_names,
    encode_chunkinfo,
    encode_dgram,
    encode_shapes_data,
)

T = TransitionId
RAW = Names(1, "cam", "cam", "c1", 0, Alg("raw"), (Field("x", DataType.UINT32),))
INFO = Names(
    2,
    "drpinfo",
    "drpinfo",
    "",
    0,
    Alg("drpinfo", (0, 0, 1)),
    (Field("pulse_id", DataType.UINT64), Field("cause", DataType.UINT8)),
)
CHUNK = chunkinfo_names(0xFC)


def dgram(service: TransitionId, seconds: float, *parts: bytes, damage: int = 0) -> bytes:
    whole, ns = divmod(round(seconds * 1e9), 10**9)
    return encode_dgram(service, whole << 32 | ns, parts, env=1, damage=damage)


def configure(seconds: float, *names: Names) -> bytes:
    return dgram(T.Configure, seconds, *(one.encode() for one in names or (RAW, CHUNK)))


def event(seconds: float, x: int, pulse_id: int | None = None, damage: int = 0) -> bytes:
    parts = [encode_shapes_data(RAW, (x,))]
    if pulse_id is not None:
        parts.append(encode_shapes_data(INFO, (pulse_id, 0)))
    return dgram(T.L1Accept, seconds, *parts, damage=damage)


def begin(first: float) -> list[bytes]:
    return [dgram(one, first + k) for k, one in enumerate((T.BeginRun, T.BeginStep, T.Enable))]


def end(first: float) -> list[bytes]:
    return [dgram(one, first + k) for k, one in enumerate((T.Disable, T.EndStep, T.EndRun))]


def write(path: Path, *dgrams: bytes) -> Path:
    path.write_bytes(b"".join(dgrams))
    return path


def xs(basket: Any) -> list[int]:
    return [int.from_bytes(raw[-4:], "little") for raw in basket.dgrams if raw[11] & 0xF == 12]


def test_every_dgram_comes_as_it_is_recorded_damage_included(tmp_path: Path, drain: Any) -> None:
    made = [configure(1), *begin(2), event(5, 1, damage=0x1020), dgram(T.SlowUpdate, 6), event(7, 2), *end(8)]
    source = open_source(str(write(tmp_path / "a.xtc2", *made)))
    basket = drain(source)
    assert basket.dgrams == made
    assert set(basket.pulse_ids) == {0}
    assert source.fill(basket) == END
    assert source.max_event_bytes == len(made[4])
    assert source.max_transition_bytes == len(made[0])
    assert "2 events" in source.describe()


def test_several_files_come_in_the_order_given(tmp_path: Path, drain: Any) -> None:
    first = write(tmp_path / "b.xtc2", configure(1), event(2, 1))
    second = write(tmp_path / "a.xtc2", configure(3), event(4, 2))
    basket = drain(open_source([str(first), str(second)]))
    assert basket.services == [2, 12, 2, 12]
    assert xs(basket) == [1, 2]


def test_several_runs_in_one_file_all_come(tmp_path: Path, drain: Any) -> None:
    runs = [configure(1), *begin(2), event(5, 1), *end(6), *begin(9), event(12, 2), *end(13)]
    assert drain(open_source(str(write(tmp_path / "a.xtc2", *runs)))).dgrams == runs


def test_pulse_ids_come_from_drpinfo(tmp_path: Path, drain: Any) -> None:
    made = [configure(1, RAW, INFO), event(2, 1, 700), event(3, 2, 0), event(4, 3), event(5, 4, 900)]
    assert drain(open_source(str(write(tmp_path / "a.xtc2", *made)))).pulse_ids == [0, 700, 0, 0, 900]


def chunks(folder: Path, name: str = "d-r0001-s000-c001.xtc2") -> tuple[Path, Path]:
    info = encode_chunkinfo(CHUNK, ChunkInfo(name, 1))
    first = write(
        folder / "d-r0001-s000-c000.xtc2", configure(1), *begin(2), event(5, 1), dgram(T.Enable, 6, info)
    )
    return first, write(folder / "d-r0001-s000-c001.xtc2", event(7, 2), *end(8))


def test_chunks_are_followed_and_not_read_twice_when_named(tmp_path: Path, drain: Any) -> None:
    first, second = chunks(tmp_path)
    for given_files in ([first], [first, second]):
        assert xs(drain(Replay(given_files))) == [1, 2]


def test_a_missing_chunk_is_named(tmp_path: Path) -> None:
    first, second = chunks(tmp_path)
    second.unlink()
    with pytest.raises(SourceError, match=second.name):
        Replay([first])


def test_a_chunk_in_another_folder_is_refused(tmp_path: Path) -> None:
    first, _ = chunks(tmp_path, "../d-r0001-s000-c001.xtc2")
    with pytest.raises(SourceError, match="same folder"):
        Replay([first])


def test_a_chunk_that_leads_back_ends_the_stream(tmp_path: Path, drain: Any) -> None:
    first, _ = chunks(tmp_path, "d-r0001-s000-c000.xtc2")
    replay = Replay([first])
    assert len(replay._recording.paths) == 2
    first, _ = chunks(tmp_path)
    info = encode_chunkinfo(CHUNK, ChunkInfo(first.name, 0))
    write(tmp_path / "d-r0001-s000-c001.xtc2", event(7, 2), dgram(T.Enable, 8, info))
    assert xs(drain(Replay([first]))) == [1, 2]


def test_a_later_chunk_alone_says_which_chunk_is_needed(tmp_path: Path) -> None:
    first, second = chunks(tmp_path)
    with pytest.raises(SourceError, match=f"chunk 1.*{first.name}"):
        Replay([second])
    first.unlink()
    with pytest.raises(SourceError, match="c000"):
        Replay([second])


def test_a_file_without_configure_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="begins with L1Accept"):
        Replay([write(tmp_path / "a.xtc2", event(1, 1))])


@pytest.mark.parametrize(
    "content", [b"", b"x", b"not an xtc2 file at all, but text of some length", bytes(100)]
)
def test_what_is_no_xtc2_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.xtc2"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.xtc2: .*(empty|no xtc2 file)"):
        Replay([path])


def test_a_compressed_file_is_to_be_expanded(tmp_path: Path) -> None:
    path = tmp_path / "a.xtc2.gz"
    path.write_bytes(gzip.compress(configure(1)))
    with pytest.raises(SourceError, match=r"compressed with gzip\. Expand it first"):
        Replay([path])


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.xtc2"
    os.mkfifo(path)
    with pytest.raises(SourceError, match=r"pipe\.xtc2: it is not a regular file"):
        Replay([path])


def test_streams_of_one_run_are_not_read_one_after_the_other(tmp_path: Path, drain: Any) -> None:
    one, other, later = (
        tmp_path / f"x-{name}-c000.xtc2" for name in ("r0001-s000", "r0001-s001", "r0002-s001")
    )
    for path in (one, other, later):
        write(path, configure(1), event(2, 1))
    with pytest.raises(SourceError, match=r"another stream of the run than x-r0001-s000-c000\.xtc2"):
        Replay([one, other])
    assert xs(drain(Replay([one, later]))) == [1, 1]


def test_a_missing_file_names_those_like_it(tmp_path: Path) -> None:
    write(tmp_path / "run7.xtc2", configure(1))
    with pytest.raises(SourceError, match=r"no file .*run8.xtc2 .*run7\.xtc2"):
        open_source(str(tmp_path / "run8.xtc2"))
    with pytest.raises(SourceError, match=r"did you mean run7\.xtc2"):
        open_source([str(tmp_path / "run7.xtc2"), str(tmp_path / "run8.xtc2")])


def test_a_cut_off_end_is_reported_and_a_normal_end(
    tmp_path: Path, drain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.xtc2", configure(1), event(2, 1), event(3, 2)[:-1])
    with caplog.at_level(logging.WARNING):
        source = Replay([path])
    assert xs(drain(source)) == [1]
    assert source.truncated == [f"{path}: 63 of 64 bytes at byte {path.stat().st_size - 63}"]
    assert "cut off" in source.describe()
    assert "cut-off" in caplog.text


def test_a_dgram_out_of_order_is_told_by_its_place_in_the_recording(tmp_path: Path) -> None:
    names = Names(1, "d", "d", "", 0, Alg("raw"), (Field("x", DataType.UINT8),))
    made = [*begin(2), dgram(T.SlowUpdate, 5), event(6, 1), dgram(T.Unconfigure, 7), event(8, 2)]
    pebble = Pebble(8, 4096, 32, 4096)
    notify = os.eventfd(0, os.EFD_NONBLOCK)
    batch = SlotBatch(pebble, Sequencer("test"))
    Flow(pebble, L1Recorder(Gather(), NamesTable([names])), notify).hand_in(batch, 0, 0)
    source = Replay([write(tmp_path / "a.xtc2", configure(1), *made)])
    try:
        with pytest.raises(OrderError, match="dgram 7"):
            while source.fill(batch) >= 0:
                pass
    finally:
        os.close(notify)


@pytest.mark.parametrize("junk", [None, bytes(100)], ids=["a broken dgram", "zeros"])
def test_a_file_is_read_up_to_what_is_wrong_in_it_and_says_so(
    tmp_path: Path, drain: Any, caplog: pytest.LogCaptureFixture, junk: bytes | None
) -> None:
    good = configure(1) + event(2, 1)
    broken = bytearray(event(2, 1))
    broken[20:24] = (3).to_bytes(4, "little")
    path = write(tmp_path / "a.xtc2", good, junk or bytes(broken) + event(3, 2))
    source = Replay([path])
    assert xs(drain(source)) == [1]
    (fault,) = source.faults
    assert fault.startswith(f"{path} is read up to byte {len(good)}, ")
    assert fault.count(str(path)) == 1
    assert fault.endswith("xtc cut a.xtc2 whole.xtc2")
    assert [one.levelname for one in caplog.records] == ["ERROR"]


def test_events_that_are_not_later_than_the_one_before_are_given_as_they_are_for_drp_to_count(
    tmp_path: Path, drain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [*begin(2), event(9, 1), event(8, 2), event(8, 3), event(10, 4), *end(11), *begin(2), event(3, 5)]
    path = write(tmp_path / "a.xtc2", configure(1), *runs)
    assert xs(drain(Replay([path]))) == [1, 2, 3, 4, 5]
    assert not caplog.records
    recording = Recording([path])
    assert recording.not_rising == 2
    assert recording.warnings() == ["2 events are not later than the one before: recorded as they came"]


def test_what_is_broken_inside_an_event_is_left_to_its_reader(tmp_path: Path, drain: Any) -> None:
    broken = bytearray(event(2, 1, 700))
    broken[32:36] = (1).to_bytes(4, "little")
    made = [configure(1, RAW, INFO), bytes(broken), event(3, 2, 800)]
    basket = drain(Replay([write(tmp_path / "a.xtc2", *made)]))
    assert basket.dgrams == made
    assert basket.pulse_ids == [0, 0, 800]


def looped(path: Path, **options: Any) -> Any:
    return Replay([path], SourceOptions(loop=True, **options))


def test_a_loop_repeats_events_and_slow_updates_between_the_first_enable_and_the_last_disable(
    tmp_path: Path, drain: Any
) -> None:
    step = [dgram(T.Disable, 8), dgram(T.EndStep, 9), dgram(T.BeginStep, 10), dgram(T.Enable, 11)]
    made = [
        configure(1, RAW, INFO),
        *begin(2),
        event(5, 1, 50),
        dgram(T.SlowUpdate, 6),
        event(7, 2, 70),
        *step,
    ]
    made += [event(12, 3, 120), *end(13), dgram(T.SlowUpdate, 17)]
    basket = drain(looped(write(tmp_path / "a.xtc2", *made)), events=7)
    assert basket.services[:12] == [2, 4, 6, 8, 12, 10, 12, 12, 12, 10, 12, 12]
    stamps = basket.times_ns[4:]
    assert stamps[:4] == [5 * 10**9, 6 * 10**9, 7 * 10**9, 12 * 10**9]
    assert all(after > before for before, after in pairwise(stamps))
    pulses = [pulse for pulse in basket.pulse_ids if pulse]
    assert pulses[:3] == [50, 70, 120]
    assert all(after > before for before, after in pairwise(pulses))


def test_a_loop_rises_where_the_recorded_times_do_not(tmp_path: Path, drain: Any) -> None:
    made = [configure(1), *begin(2), event(9, 1), event(9, 2), event(7, 3), event(8, 4)]
    basket = drain(looped(write(tmp_path / "a.xtc2", *made)), events=20)
    assert all(after > before for before, after in pairwise(basket.times_ns[4:]))
    assert [int.from_bytes(raw[-4:], "little") for raw in basket.dgrams[-4:]] == [1, 2, 3, 4]


def test_unknown_pulse_ids_stay_unknown_in_a_loop(tmp_path: Path, drain: Any) -> None:
    made = [configure(1, RAW, INFO), event(2, 1, 10), event(3, 2), event(4, 3, 30)]
    basket = drain(looped(write(tmp_path / "a.xtc2", *made)), events=6)
    assert basket.pulse_ids == [0, 10, 0, 30, 50, 0, 70]


def test_a_loop_ends_before_another_configure(tmp_path: Path, drain: Any) -> None:
    made = [configure(1), *begin(2), event(5, 1), *end(6), configure(9, INFO), *begin(10), event(13, 2)]
    assert xs(drain(looped(write(tmp_path / "a.xtc2", *made)), events=3)) == [1, 1, 1]


def test_a_file_without_enable_loops_from_its_first_event(tmp_path: Path, drain: Any) -> None:
    made = [configure(1), event(2, 1), event(3, 2)]
    assert drain(looped(write(tmp_path / "a.xtc2", *made)), events=4).services == [2, 12, 12, 12, 12]


def test_nothing_to_loop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing to loop"):
        looped(write(tmp_path / "a.xtc2", configure(1), *begin(2)))


def test_events_come_at_the_rate_and_transitions_at_once(
    tmp_path: Path, clock: Any, make_basket: Any
) -> None:
    made = [configure(1), *begin(2), *(event(5 + k, k) for k in range(4)), *end(9)]
    path = write(tmp_path / "a.xtc2", *made)
    source, basket = Replay([path], SourceOptions(rate_hz=10, clock_ns=clock)), make_basket()
    assert source.wait_s() == 0
    source.fill(basket)
    assert basket.services == [2, 4, 6, 8, 12]
    assert source.wait_s() == pytest.approx(0.1)
    assert source.fill(basket) == 0
    clock.forward(0.2)
    assert source.fill(basket) == 2
    clock.forward(0.1)
    assert source.fill(basket) == 4
    assert source.fill(basket) == END


def test_the_schedule_starts_with_the_first_slot_for_an_event(
    tmp_path: Path, clock: Any, make_basket: Any
) -> None:
    path = write(tmp_path / "a.xtc2", configure(1), *(event(5 + k, k) for k in range(9)))
    source = Replay([path], SourceOptions(rate_hz=10, clock_ns=clock))
    source.fill(make_basket(events=0))
    clock.forward(5.0)
    basket = make_basket()
    assert source.fill(basket) == 1


def test_with_few_slots_nothing_is_lost_or_put_twice(tmp_path: Path, make_basket: Any) -> None:
    made = [configure(1), *begin(2)]
    for k in range(30):
        made += [event(5 + k, k), dgram(T.SlowUpdate, 5.5 + k)]
    source = Replay([write(tmp_path / "a.xtc2", *made)])
    gathered: list[bytes] = []
    for turn in range(1000):
        small = make_basket(events=turn % 3, transitions=(turn // 3) % 3)
        if source.fill(small) == END:
            break
        gathered += small.dgrams
    assert gathered == made


@given(stamps=st.lists(st.integers(0, 1 << 61), max_size=30))
def test_spun_stamps_rise_and_a_lap_is_longer_than_their_span(stamps: list[int]) -> None:
    import numpy as np

    spun = spin(np.array(stamps, np.uint64))
    values = [int(one) for one in spun.values]
    assert all(after > before for before, after in pairwise(values))
    assert all(value >= stamp for value, stamp in zip(values, stamps, strict=True))
    if values:
        assert values[0] == stamps[0]
        assert values[0] + spun.lap > values[-1]


BASE = b"".join([configure(1, RAW, INFO, CHUNK), *begin(2), event(5, 1, 9), event(6, 2, 10), *end(7)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(BASE)),
)
def test_a_damaged_file_gives_dgrams_of_the_file_or_a_source_error(
    edits: list[tuple[int, int]], cut: int, tmp_path: Path, drain: Any
) -> None:
    content = bytearray(BASE)
    for at, value in edits:
        content[at] = value
    path = tmp_path / "a.xtc2"
    path.write_bytes(content[:cut])
    for loop in (False, True):
        try:
            source = Replay([path], SourceOptions(loop=loop))
        except SourceError as error:
            assert "a.xtc2" in str(error)
            continue
        basket = drain(source, events=5)
        assert all(Dgram(raw).size == len(raw) for raw in basket.dgrams)
        if not loop:
            assert bytes(content[:cut]).startswith(b"".join(basket.dgrams))


def test_real_files_come_byte_for_byte(data: Path, drain: Any) -> None:
    for name in ("test_jungfrau05M_calib", "test_epix_calib", "test_timetool_psana", "test_ts"):
        path = data / f"{name}.xtc2"
        assert b"".join(drain(open_source(str(path))).dgrams) == path.read_bytes()


def test_the_real_chunks_are_followed_and_their_smd_is_not(
    data: Path, drain: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data / "chunking"
    basket = drain(open_source(str(folder / "xpptut15-r0014-s000-c000.xtc2")))
    assert basket.services.count(12) == 15
    smd = shutil.copy(folder / "smalldata" / "xpptut15-r0014-s000-c000.smd.xtc2", tmp_path / "a.smd.xtc2")
    with caplog.at_level(logging.WARNING):
        assert drain(open_source(str(smd))).services.count(12) == 15
    assert "a.smd.xtc2 is smalldata" in caplog.text
    with pytest.raises(SourceError, match=r"xpptut15-r0014-s000-c000\.xtc2"):
        open_source(str(folder / "data-r0001-s000-c001.xtc2"))

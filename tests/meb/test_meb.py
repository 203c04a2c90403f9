"""A meb between drps and viewers: what each gets, what is lost and to whom, and that nobody is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import zmq
from dgrams import DET
from meb_bench import NAME, FakeDrp, served, until

from drp import DataSource
from drp.core.wire import Kind
from drp.link.keys import Keys, LinkError
from drp.link.sockets import Endpoint, join, well_known
from drp.meb.assembly import Contributor
from drp.meb.server import Meb, MebConfig
from drp.script.errors import ScriptError
from drp.script.monitor import MonitorFeed, endpoint_of
from xtc import Config, Damage, Dgram, TransitionId

pytestmark = pytest.mark.timeout(30)
L1 = TransitionId.L1Accept


class Viewer(MonitorFeed):
    """A viewer that is asked for one dgram at a time."""

    def __init__(self, *, shared: bool = True, window: int = 8) -> None:
        super().__init__(well_known(f"view-{NAME}"), shared=shared, window=window)

    def join(self, meb: Meb) -> Viewer:
        """Wait for WELCOME and credit for the drps."""
        before = len(meb.viewers)
        while not self._stream:
            self._receive()
        until(lambda: len(meb.viewers) > before or before)
        return self

    def services(self, n: int) -> list[TransitionId]:
        return [TransitionId(self.next().service) for _ in range(n)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def drps(stack: ExitStack, meb: Meb, n: int = 1, credit: int = 1) -> list[FakeDrp]:
    made = [FakeDrp(meb.endpoint, one, det=DET if one == 0 else f"det{one}") for one in range(n)]
    for one in made:
        stack.callback(one.close)
        assert one.hello()["kind"] == Kind.WELCOME
        one.await_credit(credit)
    return made


def viewer(stack: ExitStack, meb: Meb, **how: object) -> Viewer:
    made = Viewer(**how)  # type: ignore[arg-type]
    stack.callback(made.close)
    return made.join(meb)


BEGUN = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]


@pytest.mark.parametrize("shared", [True, False])
def test_events_of_two_drps_come_as_one_with_the_data_of_both(stack: ExitStack, shared: bool) -> None:
    meb = stack.enter_context(served())
    sees = viewer(stack, meb, shared=shared)
    a, b = drps(stack, meb, 2)
    for one in (a, b):
        one.begin()
        one.events([10, 11])
    found = [sees.next() for _ in range(6)]
    assert [one.service for one in found] == [*BEGUN, L1, L1]
    assert [one.pulse_id for one in found[4:]] == [10, 11] and [one.index for one in found[4:]] == [0, 1]
    config = Config(Dgram(bytes(found[0].dgram)))
    values = {
        v.names.detname: v.value
        for v in Dgram(bytes(found[5].dgram), config=config).fields()
        if v.field.name == "raw"
    }
    assert values.keys() == {DET, "det1"}
    np.testing.assert_array_equal(values[DET], a.builder.frame(11, 0))
    assert sees.lost == 0


def test_without_viewers_drps_get_no_credit_and_with_one_they_do_at_once(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    (drp,) = drps(stack, meb, credit=0)
    header, payload = drp.receive()
    assert header.kind == Kind.CREDIT and int.from_bytes(payload, "little") == 0
    viewer(stack, meb)
    drp.await_credit(16)


def test_a_viewer_that_joins_late_is_told_what_is_in_force(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    early = viewer(stack, meb)
    (drp,) = drps(stack, meb)
    drp.begin()
    drp.builder.time = (1000 << 32) + 20
    drp.send(drp.builder.slow_update(7.5), 20)
    assert early.services(5) == [*BEGUN, TransitionId.SlowUpdate]
    late = viewer(stack, meb, window=2)
    drp.events([30])
    assert late.services(6) == [*BEGUN, TransitionId.SlowUpdate, L1]
    drp.end(40)
    assert late.services(3) == [TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun]


def test_a_viewer_that_never_reads_loses_and_holds_up_nobody(stack: ExitStack) -> None:
    meb = stack.enter_context(served(buffers=64))
    stuck = viewer(stack, meb, window=3)
    reads = viewer(stack, meb, window=64)
    (drp,) = drps(stack, meb, credit=64)
    drp.begin()
    assert reads.services(4) == BEGUN
    for number in range(40):
        drp.await_credit(number + 1)
        drp.events([100 + number])
        assert reads.next().pulse_id == 100 + number
    until(lambda: meb.counts["events"] == 40)
    slow = next(one for one in meb.viewers if one.granted == 3)
    assert (slow.events, slow.lost) == (3, 37) and reads.lost == 0
    for number in range(100):
        drp.builder.time = (1000 << 32) + 500 + number
        drp.send(drp.builder.slow_update(float(number)), 500 + number)
    drp.end(700)
    until(lambda: meb.counts["transitions"] == 106)
    assert slow.told == 64
    # Once it reads, it is told where the run stands.
    found = stuck.services(7)
    while found[-1] != TransitionId.EndRun:
        found.append(TransitionId(stuck.next().service))
    assert found[:7] == [*BEGUN, L1, L1, L1]
    assert found[7:].count(TransitionId.SlowUpdate) < 100
    until(lambda: stuck._receive() or stuck.lost == 37)


def test_what_a_viewer_was_not_sent_it_counts(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    sees = viewer(stack, meb, window=2)
    (drp,) = drps(stack, meb, credit=16)
    drp.begin()
    drp.events(range(10, 20))
    until(lambda: meb.counts["events"] == 10)
    assert sees.services(6) == [*BEGUN, L1, L1]
    drp.await_credit(17)
    drp.events([20])
    until(lambda: sees.next().pulse_id == 20)
    assert sees.lost == 8


def test_a_viewer_overtaken_in_shared_memory_notices(stack: ExitStack) -> None:
    meb = stack.enter_context(served(buffers=4))
    slow, fast = viewer(stack, meb, window=10), viewer(stack, meb, window=64, shared=True)
    (drp,) = drps(stack, meb, credit=4)
    drp.begin()
    assert fast.services(4) == BEGUN
    for number in range(10):
        drp.await_credit(number + 1)
        drp.events([10 + number])
        fast.next()
    assert slow.services(4) == BEGUN
    assert [slow.next().pulse_id for _ in range(4)] == [16, 17, 18, 19]
    assert slow.lost == 6


def test_an_event_that_one_drp_was_not_in_time_for_is_damaged_and_served(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    sees = viewer(stack, meb)
    a, b = drps(stack, meb, 2)
    for one in (a, b):
        one.begin()
    a.events([10])
    assert sees.services(4) == BEGUN
    event = sees.next()
    assert event.pulse_id == 10 and Dgram(bytes(event.dgram)).damage & Damage.DroppedContribution
    assert meb.metrics()["MEB_ToEvCt"] == 1


def test_a_drp_that_comes_anew_brings_its_run_with_it(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    sees = viewer(stack, meb)
    (a,) = drps(stack, meb)
    a.begin()
    a.events([10])
    assert sees.services(5) == [*BEGUN, L1]
    b = FakeDrp(meb.endpoint, 1, det="det1")
    stack.callback(b.close)
    b.hello()
    b.begin(again=True)
    for one in (a, b):
        one.events([50])
    found = []
    while not found or found[-1].service != L1:
        found.append(sees.next())
    services = [one.service for one in found]
    assert (
        TransitionId.EndRun in services
        and services[services.index(TransitionId.EndRun) :].count(TransitionId.Configure) == 1
    )
    config = Config(Dgram(bytes(next(one.dgram for one in found if one.service == TransitionId.Configure))))
    assert {one.detname for one in config.names.values()} >= {DET, "det1"}


def test_another_epoch_or_a_stranger_is_refused_and_tries_again(stack: ExitStack) -> None:
    meb = stack.enter_context(served(contributors=[Contributor(0, "drp0", 0)]))
    one = FakeDrp(meb.endpoint, 0)
    stack.callback(one.close)
    assert one.hello(epoch=3)["kind"] == Kind.ERROR
    assert one.hello()["kind"] == Kind.WELCOME
    other = FakeDrp(meb.endpoint, 5)
    stack.callback(other.close)
    assert "not of this partition" in str(other.hello()["what"])


def test_a_drp_that_does_not_know_of_a_new_meb_is_told_at_once(stack: ExitStack) -> None:
    meb = stack.enter_context(served())
    one = FakeDrp(meb.endpoint, 0)
    stack.callback(one.close)
    one.socket.poll(5000, zmq.POLLOUT)
    one.events([10])
    header, payload = one.receive()
    assert (header.kind, header.session) == (Kind.ERROR, one.session) and b"HELLO" in bytes(payload)
    assert one.hello()["kind"] == Kind.WELCOME


@pytest.mark.parametrize("frame", [b"", b"rubbish", bytes(16), b"DRP1" + bytes(40)])
def test_nonsense_is_counted_and_ends_nothing(stack: ExitStack, frame: bytes) -> None:
    meb = stack.enter_context(served())
    for endpoint in (meb.endpoint, meb.viewers_endpoint):
        with join(zmq.DEALER, endpoint) as bad:
            bad.send(frame)
            assert bad.poll(5000)
    sees = viewer(stack, meb)
    (drp,) = drps(stack, meb)
    drp.begin()
    assert sees.services(4) == BEGUN and meb.metrics()["MEB_ErrCt"] == 2


SCRIPT = """
import sys
from drp import DataSource
ds = DataSource(monitor="tst:0")
for run in ds.runs():
    raw = run.Detector("cam").raw
    print("run", run.runnum, run.Detector("hv")(run), flush=True)
    for evt in run.events():
        print(evt.pulse_id, evt.index, int(raw.raw(evt).sum()), ds.monitor_lost, flush=True)
    print("end", flush=True)
"""


def test_a_script_sees_one_run_after_another_as_it_would_offline(stack: ExitStack, tmp_path: Path) -> None:
    meb = stack.enter_context(served(buffers=64))
    script = tmp_path / "see.py"
    script.write_text(SCRIPT)
    child = stack.enter_context(
        subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
    )
    stack.callback(child.kill)
    until(lambda: len(meb.viewers))
    (drp,) = drps(stack, meb, credit=4)
    assert child.stdout is not None
    for run in range(2):
        drp.begin(1 + 100 * run)
        assert child.stdout.readline().split()[:2] == ["run", "7"]
        for number in range(3):
            drp.events([10 + 100 * run + number])
            expected = int(drp.builder.frame(10 + 100 * run + number, 0).sum())
            assert child.stdout.readline() == f"{10 + 100 * run + number} {number} {expected} 0\n"
        drp.end(50 + 100 * run)
        assert child.stdout.readline() == "end\n"
    child.send_signal(signal.SIGKILL)
    until(lambda: len(meb.viewers) == 0)


def test_a_viewer_finds_the_meb_of_its_partition(stack: ExitStack) -> None:
    assert endpoint_of("tst").address.endswith("view-meb0-tst-p0.ipc")
    assert endpoint_of("tst:3/meb1").address.endswith("view-meb1-tst-p3.ipc")
    with pytest.raises(ScriptError, match="INSTRUMENT:PLATFORM/ALIAS"):
        endpoint_of("tst:9")
    with pytest.raises(ScriptError, match="gets its events from a meb alone"):
        DataSource(monitor="tst", files="x.xtc2")


def test_a_meb_that_begins_anew_is_found_again(stack: ExitStack) -> None:
    first = ExitStack()
    meb = first.enter_context(served())
    sees = viewer(stack, meb)
    (drp,) = drps(first, meb)
    drp.begin()
    drp.events([10])
    assert sees.services(5) == [*BEGUN, L1]
    first.close()
    meb = stack.enter_context(served())
    sees._receive()
    until(lambda: sees._receive() or len(meb.viewers))
    (drp,) = drps(stack, meb)
    drp.begin(again=True)
    drp.events([20])
    start = time.monotonic()
    while sees.next().pulse_id != 20:
        assert time.monotonic() < start + 5


def test_a_viewer_that_asks_again_goes_on_with_its_run_and_counts_what_it_missed(stack: ExitStack) -> None:
    meb = stack.enter_context(served(buffers=64))
    sees, other = viewer(stack, meb), viewer(stack, meb, window=64)
    (drp,) = drps(stack, meb, credit=64)
    drp.begin()
    drp.events([10])
    assert sees.services(5) == [*BEGUN, L1] and other.services(5) == [*BEGUN, L1]
    sees._stream = sees._session = 0
    drp.events(range(11, 15))
    assert [other.next().pulse_id for _ in range(4)] == [11, 12, 13, 14]
    while not sees._stream:
        sees._receive()
    drp.events([20])
    event = sees.next()
    assert (event.pulse_id, event.index, sees.lost) == (20, 1, 4)


def test_with_keys_viewers_come_over_tcp_and_without_nobody_does(folder: Path) -> None:
    keys = Keys.make(folder / "keys")
    anywhere = "tcp://127.0.0.1:*"
    config = MebConfig(NAME, 16, bind=anywhere, viewers_bind=anywhere, keys=keys)
    with ExitStack() as stack:
        meb = stack.enter_context(served(config=config))
        where = meb.viewers_endpoint.address
        assert endpoint_of(where, keys) == meb.viewers_endpoint
        with pytest.raises(LinkError, match="tcp is for those who have keys"):
            endpoint_of(where)
        sees = MonitorFeed(endpoint_of(where, keys), keys)
        stack.callback(sees.close)
        while not sees._stream:
            sees._receive()
        drp = FakeDrp(meb.endpoint, 0, keys=keys)
        stack.callback(drp.close)
        drp.hello()
        drp.await_credit()
        drp.begin()
        drp.events([10])
        assert [sees.next().service for _ in range(5)] == [*BEGUN, L1]
        strange = Keys.make(folder / "other")
        refused = MonitorFeed(Endpoint(where, keys.server_public), strange)
        stack.callback(refused.close)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            refused._receive()
        assert not refused._stream and len(meb.viewers) == 1

"""A trigger stage with real processes: every submitted event comes back once and in order, whatever its script does."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from built_events import BOTH, EPIX, built, peaks

from drp.core.errors import DrpError, ScriptError
from drp.core.ledger import Cause
from drp.core.wire import PERSIST
from drp.engine.spawn import NurseryError
from drp.teb import stage as stage_module
from drp.teb.connect import connect_info
from drp.teb.stage import StageConfig, TriggerStage

LIMIT_S = 30.0
KEEP = """
from drp import TriggerDataSource
ds = TriggerDataSource()
for evt in ds.events():
    n = evt["epix_0"].npeaks
    {}
    ds.result(n > 15, 1)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriggerStage]:
    """One stage, and one nursery, for all tests: each configures it anew."""
    path = tmp_path_factory.mktemp("scripts") / "none.py"
    made = TriggerStage(StageConfig(str(path), event_timeout_s=0.3, first_event_timeout_s=1.0))
    made.start()
    yield made
    made.close()


@pytest.fixture
def configure(stage, tmp_path):
    """Have the stage run a script's text."""

    def run(text, contributors=BOTH, name="trigger.py", args=(), **told):
        path = tmp_path / name
        path.write_text(text)
        stage.configure(contributors, connect_info(contributors, **told), script=[str(path), *args])

    yield run
    stage.unconfigure()


def decided(stage, n):
    """Take verdicts until `n` have come."""
    found = [stage.verdicts()]
    until = time.monotonic() + LIMIT_S
    while sum(map(len, found)) < n:
        assert select.select([stage.fd], [], [], max(until - time.monotonic(), 0))[0], (
            f"only {sum(map(len, found))} of {n} verdicts"
        )
        found.append(stage.verdicts())
    return np.concatenate(found)


def wait_for_nursery(stage):
    """Return the pid of the nursery, once the engine has given it back."""
    until = time.monotonic() + LIMIT_S
    while stage._nursery is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return stage._nursery.pid


def ask(stage, *batches):
    """Submit batches as there is room; return all verdicts."""
    out = []
    for events, rows in batches:
        while not stage.room:
            out.append(decided(stage, 1))
        stage.submit(events, rows)
    found = sum(map(len, out))
    return np.concatenate([*out, decided(stage, sum(len(one[0]) for one in batches) - found)])


def test_events_come_back_decided_in_order(stage, configure):
    configure(KEEP.format("pass"))
    batches = [peaks([k % 32 for k in range(at, at + 20)], first=at) for at in range(100, 400, 20)]
    found = ask(stage, *batches)
    assert found["number"].tolist() == list(range(1100, 1400))
    assert found["pulse_id"].tolist() == list(range(100, 400))
    assert found["result"].tolist() == [(2 if k % 32 > 15 else 0) | 4 for k in range(100, 400)]
    assert not found["cause"].any()
    counts = stage.counts
    assert (counts.events, counts.batches, counts.failed_batches, counts.restarts) == (300, 15, 0, 0)


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        ("if n == 99: raise ValueError('n is 99')", Cause.raised),
        ("if n == 99: import time; time.sleep(60)", Cause.timed_out),
        ("if n == 99: import os; os._exit(3)", Cause.died),
        ("if n == 99: import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Cause.died),
        ("if n == 99: ds.result(True)", Cause.raised),
        ("if n == 99: continue", Cause.raised),
        ("if n == 99: break", Cause.left),
    ],
)
def test_a_batch_that_the_script_fails_on_persists_and_the_next_are_decided(stage, configure, does, cause):
    configure(KEEP.format(does))
    assert ask(stage, peaks([1, 20]))["result"].tolist() == [4, 6]
    found = ask(stage, peaks([1, 99, 20], first=200), peaks([2, 21], first=300), peaks([3], first=400))
    assert found["pulse_id"].tolist() == [200, 201, 202, 300, 301, 400]
    assert found["result"].tolist() == [PERSIST] * 3 + [4, 6, 4]
    assert found["cause"].tolist() == [cause] * 3 + [0] * 3
    assert stage.counts.failed_batches == 1


def test_a_worker_killed_from_outside_is_replaced(stage, configure, tmp_path):
    configure(
        KEEP.format(
            f"import os, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
        )
    )
    ask(stage, peaks([1]))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert ask(stage, peaks([1, 20], first=200))["result"].tolist() in ([4, 6], [PERSIST] * 2)
    assert ask(stage, peaks([1, 20], first=300))["result"].tolist() == [4, 6]


def test_a_script_that_fails_at_configure_is_told_and_another_can_follow(stage, configure):
    with pytest.raises(ScriptError, match="no threshold") as caught:
        configure("raise KeyError('no threshold')\n")
    assert "trigger.py" in caught.value.traceback
    assert not stage.ready and stage.room == 0
    with pytest.raises(DrpError, match="takes no events"):
        stage.submit(*peaks([1]))
    configure(KEEP.format("pass"))
    assert ask(stage, peaks([20]))["result"].tolist() == [6]


def test_begin_does_not_wait_and_fd_tells_when_the_script_stands(stage, configure, tmp_path):
    configure(KEEP.format("pass"))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = tmp_path / "waits.py"
    path.write_text(f"open({str(gate)!r}).close()\n" + KEEP.format("pass"))
    stage.begin(BOTH, connect_info(BOTH), script=[str(path)])
    assert not stage.ready and stage.room == 0
    gate.open("w").close()
    until = time.monotonic() + LIMIT_S
    while not stage.ready:
        assert select.select([stage.fd], [], [], until - time.monotonic())[0]
        stage.verdicts()
    assert ask(stage, peaks([20]))["result"].tolist() == [6]


@pytest.mark.slow
def test_a_nursery_killed_between_two_configures_is_replaced(stage, configure):
    configure(KEEP.format("pass"))
    ask(stage, peaks([1]))
    stage.unconfigure()
    os.kill(wait_for_nursery(stage), signal.SIGKILL)
    configure(KEEP.format("pass"))
    assert ask(stage, peaks([20]))["result"].tolist() == [6]


def test_a_configure_that_finds_no_nursery_fails_with_the_reason(tmp_path, monkeypatch):
    made = TriggerStage(StageConfig("none.py"))
    path = tmp_path / "trigger.py"
    path.write_text(KEEP.format("pass"))
    made.start()
    try:
        made._nursery.close()
        made._nursery = None

        def cannot(**_options):
            raise NurseryError("there is no more")

        monkeypatch.setattr(stage_module, "Nursery", cannot)
        with pytest.raises(DrpError, match="there is no more"):
            made.configure(BOTH, connect_info(BOTH), script=[str(path)])
    finally:
        made.close()


def test_a_script_that_is_not_there_is_told(stage):
    with pytest.raises(ScriptError, match="there is no trigger script"):
        stage.configure(BOTH, connect_info(BOTH), script=["/nowhere/trigger.py"])


def test_another_configure_has_another_script_with_its_arguments_and_contributors(stage, configure):
    configure(KEEP.format("pass"))
    ask(stage, peaks([1]))
    text = (
        "import sys\nfrom drp import TriggerDataSource\nds = TriggerDataSource()\n"
        "for evt in ds.events():\n    ds.result(evt['epix_0'].npeaks == int(sys.argv[2]), 0)\n"
    )
    configure(text, (EPIX,), "other.py", ["--n", "7"])
    assert ask(stage, built((EPIX,), [{"epix_0": {"npeaks": n}} for n in (6, 7)]))["result"].tolist() == [
        0,
        2,
    ]


def test_code_after_the_loop_runs_when_the_script_is_ended(stage, configure, tmp_path):
    configure(KEEP.format("pass") + f"\nimport pathlib; pathlib.Path({str(tmp_path / 'over')!r}).touch()\n")
    ask(stage, peaks([1]))
    configure(KEEP.format("pass"), name="next.py")
    assert (tmp_path / "over").exists()


def test_with_no_engine_left_all_events_persist(configure, tmp_path, monkeypatch, caplog):
    made = TriggerStage(StageConfig("none.py", event_timeout_s=5.0))
    path = tmp_path / "trigger.py"
    path.write_text(KEEP.format("while n == 99: pass"))
    try:
        made.start()
        nursery = made._nursery.pid
        made.configure(BOTH, connect_info(BOTH), script=[str(path)])
        made.submit(*peaks([1, 99]))
        made.submit(*peaks([1], first=200))

        def cannot(*_args):
            raise NurseryError("there is no more")

        monkeypatch.setattr("drp.engine.reducer.make_nursery", cannot)
        monkeypatch.setattr(stage_module, "Nursery", cannot)
        os.kill(nursery, signal.SIGKILL)
        found = decided(made, 3)
        made.submit(*peaks([1, 20], first=300))
        found = np.concatenate([found, made.verdicts()])
        assert found["pulse_id"].tolist() == [100, 101, 200, 300, 301]
        assert found["result"].tolist() == [PERSIST] * 5
        assert found["cause"].all()
        assert "all events persist" in caplog.text
    finally:
        monkeypatch.undo()
        made.close()

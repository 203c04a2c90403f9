"""What clients ask of control, and that nothing anybody sends to it ends it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from drp.cli.control import main
from drp.control.client import DaqControl, PartitionError
from drp.control.jobs import Settings
from drp.control.process import Control, Sockets
from drp.control.runs import Store
from drp.core.errors import DrpError
from drp.link.control import decode, encode
from drp.link.keys import LinkError
from drp.link.sockets import join, listen, well_known

pytestmark = pytest.mark.timeout(30)
LIMIT_MS = 5000.0
BODY = {
    "level": "drp",
    "alias": "cam_0",
    "state": "unallocated",
    "det_info": {"readout": 0},
    "proc_info": {"alias": "cam_0"},
}


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """The command sets up drp's log for its whole process."""
    root = logging.getLogger("drp")
    before = (root.handlers[:], root.propagate, root.level)
    yield
    root.handlers[:], root.propagate = before[:2]
    root.setLevel(before[2])


class Served:
    """A control in a thread, and a client of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        made = [
            listen(kind, f"{what}-tst-p0")
            for kind, what in ((zmq.ROUTER, "control"), (zmq.ROUTER, "clients"), (zmq.PUB, "status"))
        ]
        self.sockets = Sockets(*(one for one, _ in made), tuple(place for _, place in made))
        self.store = Store(folder / "store")
        self.control = Control(Settings("tst-p0", "tst", **settings), self.sockets, self.store)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self.control.serve, args=(self._stop,))
        self._thread.start()
        self.daq = DaqControl(platform=0, timeout=LIMIT_MS)

    def close(self) -> None:
        self.daq.close()
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        self.sockets.close()


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    made = Served(folder)
    try:
        yield made
    finally:
        made.close()


def test_a_client_is_told_how_the_partition_is(served: Served) -> None:
    daq = served.daq
    assert daq.getState() == "reset"
    assert daq.getInstrument() == "tst"
    assert daq.getPlatform() == {}
    assert daq.getStatus() == ("reset", "reset", "BEAM", False, {}, False, "none", 0, 0)
    assert daq.monitorStatus() == ("reset", "reset", "BEAM", False, False, "none", 0, 0)
    assert daq.getBlock({}) is None


def test_what_a_client_sets_is_set(served: Served) -> None:
    daq = served.daq
    assert [daq.setRecord(True), daq.setBypass(True), daq.setConfig("NOBEAM")] == [None, None, None]
    status = daq.getStatus()
    assert (status[2], status[3], status[5]) == ("NOBEAM", True, True)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("setState", {}),
        ("setState", {"state": "flying"}),
        ("setState", {"state": "running", "phase1": []}),
        ("setState", {"state": "running", "phase1": {"configur": {}}}),
        ("setTransition", {"transition": "fly"}),
        ("setTransition", {"transition": ["enable"]}),
        ("setRecord", {"record": 1}),
        ("setConfig", {"config": ""}),
        ("selectPlatform", {"drp": 1}),
        ("selectPlatform", {"drp": {"x": {"active": 1}}}),
        ("storeJsonConfig", {"json_data": "{"}),
        ("storeJsonConfig", {"json_data": "[]"}),
        ("storeJsonConfig", {"json_data": '{"drp": {"cam_0": {"det_info": {"readout": 9}}}}'}),
        ("storeJsonConfig", {"json_data": '{"cameras": {}}'}),
        ("fly", {}),
    ],
)
def test_what_control_cannot_do_is_answered_with_why(served: Served, key: str, body: dict[str, Any]) -> None:
    with pytest.raises(PartitionError) as error:
        served.daq.ask(key, body)
    assert error.value.failures[0].who == "control"
    assert served.daq.getState() == "reset"


def test_who_takes_part_is_remembered(served: Served) -> None:
    text = json.dumps(
        {"activedet": {"drp": {"cam_0": {"active": 1, "det_info": {"readout": 2}}}, "control": {"x": {}}}}
    )
    assert served.daq.storeJsonConfig(text) == {}
    assert served.store.load("tst-p0-activedet") == {
        "activedet": {"drp": {"cam_0": {"active": 1, "det_info": {"readout": 2}}}}
    }


def test_nothing_that_comes_in_ends_control(served: Served) -> None:
    junk = [
        b"",
        b"\xff" * 50,
        b"[]",
        b"{}",
        b"[" * 5000,
        encode("heartbeat", {}),
        encode("heartbeat", BODY | {"level": "x"}),
    ]
    junk += [
        encode("heartbeat", BODY | {name: value}, sender_id="a")
        for name in BODY
        for value in (None, [], {}, -1, "x" * 500)
    ]
    junk += [
        encode(key, {"service": [], "files": 3, "err_info": 2}, sender_id="drp/cam_0/1")
        for key in ("timingTransition", "error", "step", "warning", "x")
    ]
    with (
        join(zmq.DEALER, well_known("control-tst-p0")) as member,
        join(zmq.DEALER, well_known("clients-tst-p0")) as client,
    ):
        member.send(encode("heartbeat", BODY, sender_id="drp/cam_0/1"))
        for frame in junk:
            for one in (member, client):
                one.send(frame)
        member.send_multipart([b"a", b"b", b"c"])
        member.send(b"x" * (9 << 20))
        assert served.daq.getState() == "reset"
        member.send(encode("heartbeat", BODY, sender_id="drp/cam_0/1"))
        while served.daq.getPlatform().get("drp", {}).keys() != {"drp/cam_0/1"}:
            member.send(encode("heartbeat", BODY, sender_id="drp/cam_0/1"))
            served.daq.news(int(LIMIT_MS))


def test_a_process_whose_alias_is_taken_is_told_so(served: Served) -> None:
    with (
        join(zmq.DEALER, well_known("control-tst-p0")) as first,
        join(zmq.DEALER, well_known("control-tst-p0")) as second,
    ):
        first.send(encode("heartbeat", BODY, sender_id="drp/cam_0/1"))
        assert first.poll(LIMIT_MS)
        second.send(encode("heartbeat", BODY, sender_id="drp/cam_0/2"))
        assert second.poll(LIMIT_MS)
        answer = decode(second.recv())
        assert answer.key == "refused"
        assert "cam_0 is there already" in answer.body["what"]


def test_a_client_without_control_says_where_it_looked(folder: Path) -> None:
    with pytest.raises(LinkError, match="no control is here"):
        DaqControl(platform=3)
    with pytest.raises(LinkError, match="keys"):
        DaqControl(host="elsewhere", platform=0)
    daq = DaqControl(platform=0, instrument="tst", timeout=50)
    assert "control has not been heard for 0.05 s" in str(daq.setState("running"))
    assert daq.getState() == "error"
    with pytest.raises(DrpError):
        daq.news(10)
    daq.close()


def test_the_name_that_scripts_import_is_this_one() -> None:
    import drp

    assert drp.DaqControl is DaqControl
    with pytest.raises(AttributeError):
        _ = drp.NoSuchName


def test_control_makes_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", str(tmp_path / "keys")]) == 0
    assert "Copy the folder" in capsys.readouterr().out
    assert main(["keys", str(tmp_path / "keys")]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["-T", "0"],
        ["--limit", "configure"],
        ["--limit", "fly=3"],
        ["--limit", "configure=inf"],
        ["-S", "3"],
        ["-r", "/no/such/file"],
        ["-d", "/no/such/file"],
        ["extra"],
    ],
)
def test_options_that_make_no_sense_end_control_with_2(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", str(folder / "store"), *words]) == 2
    assert capsys.readouterr().err.startswith("control: ")


def test_a_line_of_lcls_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a .cnf file has it; what has no effect is noted, and then it serves until it is told to end."""
    monkeypatch.setattr(Control, "serve", lambda self, stop: None)
    line = "-P tst:1 -B DAQ:NEH -x 0 -C BEAM --user xppopr --password pcds --url https://x/ -d https://y/configDB -t trigger -S 1 -T 20000 -V elog.txt -p 3 -u control"
    assert main(["--store", str(folder / "store"), *line.split()]) == 0

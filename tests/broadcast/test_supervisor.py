"""A supervisor and its followers over real tcp: what arrives is what was sent; loss, wrong keys and nonsense are errors within their time."""

from __future__ import annotations

import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from calib.broadcast.follower import Follower
from calib.broadcast.keys import Keys, make_keys, read_keys, write_keys
from calib.broadcast.messages import Chunk, Done, Fetch, Find, Found, Gone, Message, Searching, decode, encode
from calib.broadcast.supervisor import Supervisor
from calib.errors import BroadcastError, ConstantsMissing, StoreError
from calib.model import Constant, DetectorId

ADDRESS = "tcp://127.0.0.1:*"
LIMIT_S = 20.0
DETECTOR = DetectorId("jungfrau", "jungfrau", ("serial3", "serial1"))


class Shelf:
    """A source that makes constants out of the serials it is asked for."""

    url = "shelf"

    def __init__(self, rows: int = 64) -> None:
        self.rows = rows
        self.asked: list[tuple[DetectorId, str | None, int, Collection[str] | None]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def find(
        self, detector: DetectorId, experiment: str | None, run: int, *, ctypes: Collection[str] | None = None
    ) -> dict[str, Constant]:
        self.gate.wait(LIMIT_S)
        self.asked.append((detector, experiment, run, ctypes))
        if self.error is not None:
            raise self.error
        shape = (3, len(detector.serials), self.rows, 32)
        base = np.array([int(one[-1]) for one in detector.serials], np.float32)
        pedestals = np.broadcast_to(base[None, :, None, None], shape) + np.arange(32, dtype=np.float32)
        return {
            "pedestals": replace(
                Constant.make(
                    "pedestals",
                    pedestals,
                    detector.serials,
                    experiment="tst001",
                    run=3,
                    version="v2",
                    created=17.5,
                ),
                put_digest="0f" * 32,
                id="17",
            ),
            "geometry": Constant.make("geometry", "# geometry", run=1, run_end=8, comment="survey"),
        }

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def keys() -> Keys:
    return make_keys()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def supervisor(shelf: Shelf, keys: Keys) -> Iterator[Supervisor]:
    made = Supervisor(shelf, ADDRESS, keys, chunk_bytes=1000)
    try:
        yield made
    finally:
        made.close()


def follower(supervisor: Supervisor | str, keys: Keys, limit_s: float = LIMIT_S) -> Follower:
    address = supervisor if isinstance(supervisor, str) else supervisor.address
    return Follower(address, keys, limit_s=limit_s, repeat_s=0.2)


def test_what_a_follower_finds_is_what_the_source_has(
    supervisor: Supervisor, shelf: Shelf, keys: Keys
) -> None:
    found = follower(supervisor, keys).find(DETECTOR, "tst001", 7, ctypes=("pedestals", "geometry"))
    assert shelf.asked == [(DETECTOR, "tst001", 7, ("pedestals", "geometry"))]
    expected = shelf.find(DETECTOR, "tst001", 7)
    assert found.keys() == expected.keys()
    for ctype, one in expected.items():
        got = found[ctype]
        assert isinstance(got.value, str) == isinstance(one.value, str)
        assert np.array_equal(got.value, one.value)
        for name in (field.name for field in fields(Constant) if field.name != "value"):
            assert getattr(got, name) == getattr(one, name), name
    assert supervisor.served > 10


def test_followers_each_get_their_own_panels_at_the_same_time(supervisor: Supervisor, keys: Keys) -> None:
    found: dict[int, float] = {}

    def one(number: int) -> None:
        detector = DetectorId("jungfrau", "jungfrau", (f"serial{number}",))
        value = follower(supervisor, keys).find(detector, None, 0)["pedestals"].value
        assert isinstance(value, np.ndarray)
        found[number] = float(value[0, 0, 0, 0])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert found == {number: float(number) for number in range(1, 7)}


@pytest.mark.parametrize(
    "error",
    [
        ConstantsMissing("pedestals of panel 'serial3' are missing", where="jungfrau", hint="Put them"),
        StoreError("the database is locked", where="store.db"),
    ],
)
def test_the_errors_of_the_source_reach_the_follower(
    supervisor: Supervisor, shelf: Shelf, keys: Keys, error: Exception
) -> None:
    shelf.error = error
    with pytest.raises(type(error)) as caught:
        follower(supervisor, keys).find(DETECTOR, None, 0)
    assert str(caught.value) == str(error)


def test_an_unexpected_error_of_the_source_is_no_hang(
    supervisor: Supervisor, shelf: Shelf, keys: Keys
) -> None:
    shelf.error = ZeroDivisionError("not ours")
    with pytest.raises(BroadcastError, match="ZeroDivisionError"):
        follower(supervisor, keys).find(DETECTOR, None, 0)
    shelf.error = None
    assert follower(supervisor, keys).find(DETECTOR, None, 0)


def test_a_slow_store_is_waited_for_and_asked_once(supervisor: Supervisor, shelf: Shelf, keys: Keys) -> None:
    shelf.gate.clear()
    threading.Timer(0.7, shelf.gate.set).start()
    assert follower(supervisor, keys).find(DETECTOR, None, 0)
    assert len(shelf.asked) == 1


def test_a_store_slower_than_the_limit_is_an_error(supervisor: Supervisor, shelf: Shelf, keys: Keys) -> None:
    shelf.gate.clear()
    with pytest.raises(BroadcastError, match=r"its source of constants found nothing within 0\.5 s"):
        follower(supervisor, keys, 0.5).find(DETECTOR, None, 0)
    shelf.gate.set()


def test_nobody_there_is_an_error_within_the_limit(keys: Keys) -> None:
    began = time.monotonic()
    with pytest.raises(BroadcastError, match=r"no supervisor answered within 0\.5 s"):
        follower("tcp://127.0.0.1:9", keys, 0.5).find(DETECTOR, None, 0)
    assert time.monotonic() - began < 5


def test_a_supervisor_that_stands_still_is_not_taken_for_one_with_other_keys(keys: Keys) -> None:
    """The kernel takes its connections."""
    with socket.create_server(("127.0.0.1", 0)) as still:
        address = f"tcp://127.0.0.1:{still.getsockname()[1]}"
        with pytest.raises(
            BroadcastError, match=r"nobody answers within 1 s: the supervisor stands still.*state T"
        ):
            follower(address, keys, 1.0).find(DETECTOR, None, 0)


def test_a_supervisor_that_falls_silent_is_told(keys: Keys) -> None:
    heard: list[Message] = []

    def play(message: Message) -> list[bytes] | None:
        heard.append(message)
        return [encode(Searching(message.token))] if isinstance(message, Find) and len(heard) == 1 else None

    relay = Relay(keys, play)
    with pytest.raises(BroadcastError, match=r"it answered, and then not for \d s.*state T"):
        follower(relay.address, keys, 1.5).find(DETECTOR, None, 0)
    relay.close()


def test_a_follower_with_another_key_is_refused_and_told(supervisor: Supervisor, keys: Keys) -> None:
    other = make_keys()
    for wrong in (other, replace(keys, client_public=other.client_public, client_secret=other.client_secret)):
        with pytest.raises(BroadcastError, match=r"other keys.*same key file"):
            follower(supervisor, wrong, 5).find(DETECTOR, None, 0)
    assert follower(supervisor, keys).find(DETECTOR, None, 0)


def test_one_without_any_key_is_not_heard(supervisor: Supervisor, shelf: Shelf) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(supervisor.address)
        socket.send(encode(Find("t", "jungfrau", "jungfrau", (), None, 0, None)))
        assert not socket.poll(300)
    assert shelf.asked == []


def client(context: zmq.Context[zmq.Socket[bytes]], address: str, keys: Keys) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.curve_serverkey = keys.server_public.encode()
    socket.curve_publickey = keys.client_public.encode()
    socket.curve_secretkey = keys.client_secret.encode()
    socket.connect(address)
    return socket


def test_nonsense_from_a_follower_is_refused_and_the_service_goes_on(
    supervisor: Supervisor, keys: Keys
) -> None:
    with zmq.Context() as context:
        for frames in ([b"x"], [b"", b""], [encode(Fetch("t", "d", -1))], [b"y" * (1 << 20)]):
            with client(context, supervisor.address, keys) as socket:
                socket.send_multipart(frames)
                reply = decode(socket.recv(), Gone) if frames[0].startswith(b"{") else None
                assert reply is None or isinstance(reply, Gone)
    assert follower(supervisor, keys).find(DETECTOR, None, 0)


def test_a_chunk_beyond_the_end_is_not_served(supervisor: Supervisor, keys: Keys) -> None:
    with zmq.Context() as context, client(context, supervisor.address, keys) as socket:
        socket.send(encode(Find("t", "jungfrau", "jungfrau", ("serial1",), None, 0, None)))
        found: Message = Searching("t")
        while isinstance(found, Searching):
            found = decode(socket.recv(), Searching, Found)
        assert isinstance(found, Found)
        for number in (-1, found.size_bytes // found.chunk_bytes + 1, 1 << 60):
            socket.send(encode(Fetch("t", found.digest, number)))
        assert not socket.poll(300)
        socket.send(encode(Fetch("t", found.digest, 0)))
        head, data = socket.recv_multipart()
        assert decode(head, Chunk) == Chunk("t", found.digest, 0)
        assert len(data) == found.chunk_bytes
        socket.send(encode(Done("t")))
        socket.send(encode(Fetch("t", found.digest, 0)))
        assert isinstance(decode(socket.recv(), Gone), Gone)


class Relay:
    """A supervisor played by the test: `play(message)` returns the frames to answer with, or None for silence."""

    def __init__(
        self, keys: Keys, play: Callable[[Message], list[bytes] | None], address: str = ADDRESS
    ) -> None:
        self._play = play
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.curve_server = True
        self._socket.curve_secretkey = keys.server_secret.encode()
        self._socket.curve_publickey = keys.server_public.encode()
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stop = False
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        while not self._stop:
            if self._socket.poll(20):
                address, frame = self._socket.recv_multipart()
                answer = self._play(decode(frame, Find, Fetch, Done))
                if answer is not None:
                    self._socket.send_multipart([address, *answer])

    def close(self) -> None:
        self._stop = True
        self._thread.join(LIMIT_S)
        self._context.destroy(linger=0)


def packed_set(shelf: Shelf) -> tuple[bytes, str]:
    from calib.broadcast.transfer import pack_constants

    plan = pack_constants(shelf, Find("t", "jungfrau", "jungfrau", ("serial1",), None, 0, None))
    buffer = bytearray(plan.size_bytes)
    plan.write(buffer)
    return bytes(buffer), plan.digest


class Player:
    """Answers as a supervisor does, with faults: `lose` chunks are lost the first time, `spoil` is given with one byte changed."""

    def __init__(
        self, content: bytes, digest: str, *, lose: int = 0, spoil: int = 0, stop_at: int = -1
    ) -> None:
        self.content, self.digest = content, digest
        self.lose, self.spoil, self.stop_at = lose, spoil, stop_at
        self.fetched: list[int] = []

    def __call__(self, message: Message) -> list[bytes] | None:
        if isinstance(message, Find):
            return [encode(Found(message.token, self.digest, len(self.content), 1000))]
        if not isinstance(message, Fetch):
            return None
        self.fetched.append(message.number)
        if message.number == self.stop_at:
            return None
        if self.lose and message.number % 3 == 0 and self.fetched.count(message.number) <= self.lose:
            return None
        data = bytearray(self.content[message.number * 1000 : message.number * 1000 + 1000])
        if message.number == 5 and self.fetched.count(5) <= self.spoil:
            data[500] ^= 1
        return [encode(Chunk(message.token, message.digest, message.number)), bytes(data)]


def test_chunks_that_are_lost_are_fetched_again(shelf: Shelf, keys: Keys) -> None:
    relay = Relay(keys, Player(*packed_set(shelf), lose=2))
    found = follower(relay.address, keys).find(DETECTOR, None, 0)
    relay.close()
    assert np.array_equal(
        found["pedestals"].value,
        shelf.find(replace(DETECTOR, serials=("serial1",)), None, 0)["pedestals"].value,
    )


def test_a_set_that_came_spoilt_is_fetched_again_once(shelf: Shelf, keys: Keys) -> None:
    relay = Relay(keys, Player(*packed_set(shelf), spoil=1))
    assert follower(relay.address, keys).find(DETECTOR, None, 0)
    relay.close()
    relay = Relay(keys, Player(*packed_set(shelf), spoil=2))
    with pytest.raises(BroadcastError, match="does not have its digest"):
        follower(relay.address, keys).find(DETECTOR, None, 0)
    relay.close()


def test_a_supervisor_lost_on_the_way_is_an_error_that_says_how_far_it_came(shelf: Shelf, keys: Keys) -> None:
    relay = Relay(keys, Player(*packed_set(shelf), stop_at=10))
    with pytest.raises(BroadcastError, match=r"supervisor was lost: \d+% of [\d,]+ bytes came within 1 s"):
        follower(relay.address, keys, 1.0).find(DETECTOR, None, 0)
    relay.close()


def test_a_supervisor_started_again_goes_on_where_the_first_ended(shelf: Shelf, keys: Keys) -> None:
    content, digest = packed_set(shelf)
    first = Player(content, digest, stop_at=10)
    relay = Relay(keys, first)
    found: list[dict[str, Constant]] = []
    thread = threading.Thread(
        target=lambda: found.append(follower(relay.address, keys).find(DETECTOR, None, 0)), daemon=True
    )
    thread.start()
    deadline = time.monotonic() + LIMIT_S
    while first.fetched.count(10) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    relay.close()
    second = Player(content, digest)
    again = Relay(
        keys,
        lambda message: (
            [encode(Gone(message.token, digest))]
            if isinstance(message, Fetch) and not second.fetched and second.fetched.append(-1) is None
            else second(message)
        ),
        relay.address,
    )
    thread.join(LIMIT_S)
    again.close()
    assert found and np.array_equal(
        found[0]["pedestals"].value,
        shelf.find(replace(DETECTOR, serials=("serial1",)), None, 0)["pedestals"].value,
    )
    assert len(set(second.fetched)) < len(content) // 1000


@pytest.mark.parametrize(
    "found",
    [
        Found("", "d" * 64, 0, 1000),
        Found("", "d" * 64, 1 << 60, 1000),
        Found("", "d" * 64, 1000, 0),
        Found("", "d" * 64, 1000, 1 << 40),
    ],
)
def test_a_set_of_an_impossible_size_is_refused(keys: Keys, found: Found) -> None:
    relay = Relay(keys, lambda message: [encode(replace(found, token=message.token))])  # type: ignore[union-attr]
    with pytest.raises(BroadcastError, match="which cannot be"):
        follower(relay.address, keys, 5).find(DETECTOR, None, 0)
    relay.close()


def test_an_address_that_is_taken_says_so(supervisor: Supervisor, shelf: Shelf, keys: Keys) -> None:
    with pytest.raises(BroadcastError, match="another supervisor"):
        Supervisor(shelf, supervisor.address, keys)


def test_a_supervisor_may_be_named_by_its_host(shelf: Shelf, keys: Keys) -> None:
    supervisor = Supervisor(shelf, "tcp://localhost:*", keys)
    port = supervisor.address.rpartition(":")[2]
    assert follower(f"tcp://localhost:{port}", keys).find(DETECTOR, None, 0)
    supervisor.close()
    with pytest.raises(BroadcastError, match="cannot be bound"):
        Supervisor(shelf, "tcp://no-such-host.invalid:5", keys)


def test_an_address_that_is_none_says_so(keys: Keys) -> None:
    with pytest.raises(BroadcastError, match="no address"):
        follower("tcp://no port", keys, 1).find(DETECTOR, None, 0)


def test_keys_are_kept_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = write_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == keys
    assert keys.server_secret not in repr(keys) and keys.client_secret not in repr(keys)
    with pytest.raises(BroadcastError, match="cannot be made"):
        write_keys(path)
    path.chmod(0o640)
    with pytest.raises(BroadcastError, match=r"mode 0640.*chmod 600"):
        read_keys(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "x" * 5000, '{"server_public": "short"}'])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BroadcastError, match="holds no keys"):
        read_keys(path)
    with pytest.raises(BroadcastError, match="cannot be read"):
        read_keys(tmp_path / "nowhere")
    with pytest.raises(BroadcastError, match="plain file"):
        (tmp_path / "folder").mkdir(mode=0o700)
        read_keys(tmp_path / "folder")

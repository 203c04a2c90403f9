"""Nobody comes in whom the folder of keys, or the run directory, does not let in; a name is served once."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from drp.core.errors import MessageError
from drp.link import sockets
from drp.link.keys import CLIENT_FILE, SERVER_FILE, Keys, LinkError
from drp.link.rundir import run_directory
from drp.link.sockets import Endpoint, join, listen, well_known
from tests.support.intruder import on_file, on_socket, succeed

pytestmark = pytest.mark.timeout(20)
LIMIT_MS = 3000
REFUSED_MS = 300
ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def keys(folder: Path) -> Keys:
    return Keys.make(folder / "keys")


def talk(server: zmq.Socket[bytes], client: zmq.Socket[bytes], limit_ms: int = LIMIT_MS) -> bool:
    """Say whether a client's word reaches the server and the answer comes back."""
    client.setsockopt(zmq.SNDTIMEO, limit_ms)
    try:
        client.send(b"hello")
    except zmq.Again:
        return False
    if not server.poll(limit_ms):
        return False
    address, word = server.recv_multipart()
    server.send_multipart([address, word])
    return bool(client.poll(limit_ms)) and client.recv() == b"hello"


def test_whoever_joins_the_endpoint_talks_to_who_listens(folder: Path) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb-tst-p0")
    with server, join(zmq.DEALER, Endpoint.from_dict(endpoint.as_dict())) as client:
        assert talk(server, client)
    assert well_known("teb-tst-p0") == endpoint


def test_a_socket_in_the_run_directory_is_closed_to_another_user(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root, who alone can become another user")
    server, endpoint = listen(zmq.ROUTER, "teb-tst-p0")
    path = Path(endpoint.address.removeprefix("ipc://"))
    with server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        attempts = {
            **on_socket(str(path), socket.AF_UNIX),
            **on_file(path.with_suffix(".lock")),
            **on_file(path.parent),
        }
        assert succeed(attempts) == []
        path.chmod(0o666)
        path.parent.chmod(0o755)
        assert f"connect to {path}" in succeed(attempts)


def test_a_name_that_another_process_serves_is_refused(folder: Path) -> None:
    text = (
        "import sys, zmq\nfrom drp.link.sockets import listen\nkept = listen(zmq.ROUTER, 'teb-tst-p0')\n"
        "print('up', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        with pytest.raises(LinkError, match="another process serves that name"):
            listen(zmq.ROUTER, "teb-tst-p0")
        with join(zmq.DEALER, well_known("teb-tst-p0")) as client:
            client.send(b"the first still serves")
        other.kill()
    listen(zmq.ROUTER, "teb-tst-p0")[0].close()


def test_a_name_is_free_again_once_its_socket_is_closed(folder: Path) -> None:
    first, _ = listen(zmq.ROUTER, "teb-tst-p0")
    with pytest.raises(LinkError, match="this process serves that name already"):
        listen(zmq.ROUTER, "teb-tst-p0")
    first.close()
    second, endpoint = listen(zmq.ROUTER, "teb-tst-p0")
    with second, join(zmq.DEALER, endpoint) as client:
        assert talk(second, client)


def test_a_process_that_ends_in_good_order_leaves_nothing_in_the_run_directory(folder: Path) -> None:
    text = (
        "import os, zmq\nfrom drp.link.rundir import run_directory\nfrom drp.link.sockets import listen\n"
        "kept = [listen(zmq.ROUTER, 'teb-tst-p0'), listen(zmq.PUB, 'words-tst-p0')]\nkept[1][0].close()\n"
        "if os.fork() == 0:\n    raise SystemExit\nos.wait()\n"
        "print(len(list(run_directory().iterdir())))\n"
    )
    done = subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, check=True, timeout=30)
    assert done.stdout == b"4\n", "a child that was forked removed what its parent serves"
    assert list(run_directory().iterdir()) == []


def test_a_name_whose_lock_was_swept_before_it_was_held_is_guarded_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    lock = run_directory() / "teb-tst-p0.lock"
    swept: list[Path] = []

    def sweep_first(fd: int, operation: int) -> None:
        if not swept:
            swept.append(lock)
            lock.unlink()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with listen(zmq.ROUTER, "teb-tst-p0")[0], lock.open("r+") as other, pytest.raises(BlockingIOError):
        flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", ["a/b", "../teb", ".hidden"])
def test_a_name_that_is_a_path_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(LinkError, match="no path"):
        listen(zmq.ROUTER, name)


def test_a_path_too_long_for_a_socket_is_refused_with_a_hint(folder: Path) -> None:
    with pytest.raises(LinkError, match="XDG_RUNTIME_DIR"):
        listen(zmq.ROUTER, "x" * 100)


def test_with_the_keys_tcp_works(keys: Keys) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    with server, join(zmq.DEALER, endpoint, keys=keys) as client:
        assert endpoint.key == keys.server_public
        assert talk(server, client)


def test_tcp_without_keys_is_refused_at_both_ends(keys: Keys) -> None:
    with pytest.raises(LinkError, match="--keys DIR"):
        listen(zmq.ROUTER, "teb", bind=ANY)
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    with server:
        with pytest.raises(LinkError, match="--keys DIR"):
            join(zmq.DEALER, endpoint)
        with pytest.raises(LinkError, match="--keys DIR"):
            join(zmq.DEALER, Endpoint(endpoint.address), keys=keys)


def test_a_client_with_a_key_of_its_own_does_not_get_in(folder: Path, keys: Keys) -> None:
    others = Keys.make(folder / "others")
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    with server, join(zmq.DEALER, endpoint, keys=others) as client:
        assert not talk(server, client, REFUSED_MS)


def test_a_client_of_another_partition_of_this_process_does_not_get_in(folder: Path, keys: Keys) -> None:
    others = Keys.make(folder / "others")
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    second, _ = listen(zmq.ROUTER, "teb", bind=ANY, keys=others)
    with server, second, join(zmq.DEALER, endpoint, keys=others) as client:
        assert not talk(server, client, REFUSED_MS)


def test_a_client_without_a_key_does_not_get_in(keys: Keys) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    with server, sockets.context().socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.IMMEDIATE, 1)
        client.connect(endpoint.address)
        assert not talk(server, client, REFUSED_MS)


def test_a_client_is_not_taken_in_by_a_server_of_other_keys(folder: Path, keys: Keys) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=Keys.make(folder / "others"))
    wanted = Endpoint(endpoint.address, keys.server_public)
    with server, join(zmq.DEALER, wanted, keys=keys) as client:
        assert not talk(server, client, REFUSED_MS)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"1.0"],
        [b"1.0", b"1", b"domain", b"", b"", b"NULL", b""],
        [b"2.0", b"1", b"domain", b"", b"", b"CURVE", b"k" * 32],
        [b"1.0", b"1", b"\xff", b"", b"", b"CURVE", b"k" * 32],
    ],
)
def test_a_request_to_be_let_in_that_is_odd_is_refused(frames: list[bytes]) -> None:
    assert sockets._verdict(frames)[2] == b"400"


def test_a_message_over_the_limit_costs_its_sender_the_connection(folder: Path) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb-tst-p0", max_bytes=1000)
    with server, join(zmq.DEALER, endpoint) as bad, join(zmq.DEALER, endpoint) as good:
        bad.send(b"x" * 2000)
        assert talk(server, good)


@pytest.mark.parametrize(
    "bind", ["tcp://*:1234", "tcp://0.0.0.0:1234", "127.0.0.1:1234", "tcp://1234", "ipc:///x"]
)
def test_an_address_that_others_could_not_reach_is_refused(keys: Keys, bind: str) -> None:
    with pytest.raises(LinkError, match="tcp://HOST:PORT"):
        listen(zmq.ROUTER, "teb", bind=bind, keys=keys)


def test_a_port_in_use_is_named(keys: Keys) -> None:
    server, endpoint = listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)
    with server, pytest.raises(LinkError, match=endpoint.address):
        listen(zmq.ROUTER, "teb", bind=endpoint.address, keys=keys)


@pytest.mark.parametrize("fields", [None, {}, {"address": "ipc://x"}, {"address": 1, "key": ""}, []])
def test_what_is_no_endpoint_is_refused(fields: object) -> None:
    with pytest.raises(MessageError):
        Endpoint.from_dict(fields)


def test_an_address_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(LinkError, match="no address"):
        join(zmq.DEALER, Endpoint("ipc://"))


def test_keys_are_for_their_owner_alone(folder: Path, keys: Keys) -> None:
    paths = [folder / "keys", folder / "keys" / SERVER_FILE, folder / "keys" / CLIENT_FILE]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o700, 0o600, 0o600]
    assert Keys.load(folder / "keys") == keys
    assert keys.server_secret not in repr(keys)
    assert keys.client_secret not in repr(keys)


def test_keys_are_not_made_over_others(folder: Path, keys: Keys) -> None:
    with pytest.raises(LinkError, match="there are keys already, and they are kept"):
        Keys.make(folder / "keys")
    assert Keys.load(folder / "keys") == keys


@pytest.mark.parametrize(("name", "mode"), [("", 0o750), (SERVER_FILE, 0o640), (CLIENT_FILE, 0o604)])
def test_keys_that_others_can_reach_are_refused(folder: Path, keys: Keys, name: str, mode: int) -> None:
    (folder / "keys" / name).chmod(mode)
    with pytest.raises(LinkError, match=f"mode {mode:04o}"):
        Keys.load(folder / "keys")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"public": "x", "secret": "y"}', "[" * 3000, "\xff"])
def test_a_file_that_holds_no_key_is_refused(folder: Path, keys: Keys, text: str) -> None:
    (folder / "keys" / CLIENT_FILE).write_text(text)
    with pytest.raises(LinkError, match="holds no key"):
        Keys.load(folder / "keys")


def test_a_folder_that_is_not_there_is_named_with_what_to_do(folder: Path) -> None:
    with pytest.raises(LinkError, match="control keys DIR"):
        Keys.load(folder / "none")


def test_what_is_told_to_the_socket_is_the_client_key_alone(keys: Keys) -> None:
    listen(zmq.ROUTER, "teb", bind=ANY, keys=keys)[0].close()
    good = [
        b"1.0",
        b"7",
        keys.server_public.encode(),
        b"",
        b"",
        b"CURVE",
        z85.decode(keys.client_public.encode()),
    ]
    assert sockets._verdict(good)[:3] == [b"1.0", b"7", b"200"]
    assert sockets._verdict([*good[:6], z85.decode(keys.server_public.encode())])[2] == b"400"


def test_names_are_found_that_somebody_serves_and_no_others(folder: Path) -> None:
    server, endpoint = listen(zmq.ROUTER, "view-meb0-tst-p0")
    other, _ = listen(zmq.ROUTER, "view-meb1-tst-p0")
    left = Path(endpoint.address.removeprefix("ipc://")).with_name("view-meb2-tst-p0.ipc")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    with server:
        with other:
            assert sockets.served("view-*-tst-p0") == ["view-meb0-tst-p0", "view-meb1-tst-p0"]
        assert left.exists() and sockets.served("view-meb2-*") == []
        with join(zmq.DEALER, endpoint) as client:
            assert talk(server, client)

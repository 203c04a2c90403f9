"""Sockets between the processes of a partition: in the run directory, where only this user comes, or over tcp with CURVE.

There is no third way: a tcp socket without keys is an error. Who serves has a name of its own in the run directory, guarded by a lock, so that a
second process of the same name is refused and does not take the place of the first, which zmq alone would let it do. Over tcp, a thread of
the process lets in those clients whose key it knows (ZMTP's authentication protocol, RFC 27).

Every socket has LINGER 0, a limit to what it queues, and one to the size of a message, over which the sender loses its connection; sending
waits for a second at most and then raises zmq.Again. A ROUTER says when nobody is there any more (zmq.ZMQError, EHOSTUNREACH), and a socket
that connects takes nothing before it is connected.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket as net
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import zmq
from zmq.utils import z85

from drp.core.errors import MessageError
from drp.link.keys import Keys, LinkError
from drp.link.rundir import lock_of_name, remove_name, run_directory

MAX_MESSAGE_BYTES = 8 << 20
HIGH_WATER = 1000
SEND_LIMIT_MS = 1000
RECONNECT_MS, MAX_RECONNECT_MS = 50, 500
PATH_LIMIT_BYTES = 107
KEEPALIVE_S, KEEPALIVE_TRIES = 1, 3
PINGS = 3
ZAP_ADDRESS = "inproc://zeromq.zap.01"
_SUFFIX = ".ipc"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a socket is served: `ipc://PATH` or `tcp://HOST:PORT`, and over tcp the server's public key (Z85)."""

    address: str
    key: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return what `from_dict` takes, for JSON."""
        return {"address": self.address, "key": self.key}

    @classmethod
    def from_dict(cls, fields: object) -> Self:
        """Return the endpoint that another process told; MessageError where it is none."""
        if not isinstance(fields, dict) or not all(
            isinstance(fields.get(name), str) for name in ("address", "key")
        ):
            raise MessageError(f"{str(fields)[:200]} is no endpoint")
        return cls(fields["address"], fields["key"])


_lock = threading.Lock()
_context: zmq.Context[zmq.Socket[bytes]] | None = None
_known: dict[str, bytes] = {}
_served: dict[Path, tuple[int, zmq.Socket[bytes]]] = {}


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return the zmq context of this process, made at the first call."""
    with _lock:
        return _context_of_process()


def well_known(name: str, *, host: str = "", port: int = 0, keys: Keys | None = None) -> Endpoint:
    """Return where `name` is served on this machine, or at a host and port by whoever has the same keys; LinkError without keys."""
    if not host:
        return Endpoint(f"ipc://{_path(name)}")
    if keys is None:
        raise _no_keys(f"tcp://{host}:{port}")
    return Endpoint(f"tcp://{host}:{port}", keys.server_public)


def served(pattern: str) -> list[str]:
    """Return the names in the run directory that match a pattern, such as `words-*-tst-p0`, and are served: who was killed leaves its name behind."""
    return sorted(path.stem for path in run_directory().glob(f"{pattern}{_SUFFIX}") if _answers(path))


def _answers(path: Path) -> bool:
    with net.socket(net.AF_UNIX) as knock:
        knock.settimeout(0.1)
        try:
            knock.connect(str(path))
        except OSError:
            return False
    return True


def listen(
    kind: int,
    name: str,
    *,
    bind: str | None = None,
    keys: Keys | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    high_water: int = HIGH_WATER,
) -> tuple[zmq.Socket[bytes], Endpoint]:
    """Return a socket that serves, and what others `join`: `name` in the run directory, or tcp at `bind` (tcp://HOST:PORT, the port `*` for any).

    LinkError: another process serves that name or port, or there are no keys for tcp. The name is free again once the socket is closed.
    """
    made = _socket(kind, max_bytes, high_water)
    try:
        if kind == zmq.ROUTER:
            made.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if bind is None:
            return made, _listen_here(made, name)
        return made, _listen_far(made, bind, keys)
    except BaseException:
        made.close()
        raise


def join(
    kind: int,
    endpoint: Endpoint,
    *,
    keys: Keys | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    high_water: int = HIGH_WATER,
    silent_s: float = 0.0,
) -> zmq.Socket[bytes]:
    """Return a socket that connects to an endpoint, and does so again whenever the connection is lost.

    `silent_s`: the connection is lost when the other process, however busy, does not answer for so long since it is stopped (0: never).
    LinkError: tcp without keys, or no such address. That nobody serves there is no error: sending raises zmq.Again until somebody does.
    """
    made = _socket(kind, max_bytes, high_water)
    try:
        if silent_s:
            made.setsockopt(zmq.HEARTBEAT_IVL, int(silent_s * 1000 / PINGS))
            made.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(silent_s * 1000))
        if not endpoint.address.startswith("ipc://"):
            if keys is None or not endpoint.key:
                raise _no_keys(endpoint.address)
            made.curve_serverkey = endpoint.key.encode()
            made.curve_publickey = keys.client_public.encode()
            made.curve_secretkey = keys.client_secret.encode()
        made.connect(endpoint.address)
    except (zmq.ZMQError, ValueError) as error:
        made.close()
        raise LinkError(f"this is no address to connect to: {error}", address=endpoint.address) from error
    except BaseException:
        made.close()
        raise
    return made


def _socket(kind: int, max_bytes: int, high_water: int) -> zmq.Socket[bytes]:
    made = context().socket(kind)
    options = {
        zmq.LINGER: 0,
        zmq.SNDHWM: high_water,
        zmq.RCVHWM: high_water,
        zmq.SNDTIMEO: SEND_LIMIT_MS,
        zmq.IMMEDIATE: 1,
        zmq.RECONNECT_IVL: RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: MAX_RECONNECT_MS,
        zmq.MAXMSGSIZE: max_bytes,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_S,
        zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_S,
        zmq.TCP_KEEPALIVE_CNT: KEEPALIVE_TRIES,
    }
    for option, value in options.items():
        made.setsockopt(option, value)
    return made


def _listen_here(made: zmq.Socket[bytes], name: str) -> Endpoint:
    path = _path(name)
    with _lock:
        _guard(path, made)
        try:
            made.bind(f"ipc://{path}")
            path.chmod(0o600)
        except (zmq.ZMQError, OSError) as error:
            raise LinkError(f"the socket cannot be made: {error}", address=str(path)) from error
    return Endpoint(f"ipc://{path}")


def _guard(path: Path, made: zmq.Socket[bytes]) -> None:
    """Hold the lock of a name for as long as this process lives; LinkError where it, or another, serves it."""
    fd, before = _served.get(path, (-1, None))
    if before is not None and not before.closed:
        raise LinkError("this process serves that name already", address=str(path))
    if fd < 0:
        fd = lock_of_name(path)
        if fd < 0:
            raise LinkError(
                "another process serves that name",
                address=str(path),
                hint="Is the same process of this partition running already?",
            )
        if not _served:
            atexit.register(_leave, os.getpid())
    _served[path] = (fd, made)


def _leave(pid: int) -> None:
    """Leave nothing in the run directory when the process ends in good order; one that was forked has nothing there of its own."""
    if os.getpid() == pid:
        for path in _served:
            remove_name(path)


def _listen_far(made: zmq.Socket[bytes], bind: str, keys: Keys | None) -> Endpoint:
    if keys is None:
        raise _no_keys(bind)
    host, colon, port = bind.removeprefix("tcp://").rpartition(":")
    if not bind.startswith("tcp://") or not colon or host in ("", "*", "0.0.0.0"):  # noqa: S104 - it is refused
        raise LinkError(
            "a socket is bound to tcp://HOST:PORT",
            address=bind,
            hint="HOST is how the others reach this machine; the port may be *",
        )
    with _lock:
        _serve_authentication()
        _known[keys.server_public] = z85.decode(keys.client_public.encode())
    made.curve_server = True
    made.curve_publickey = keys.server_public.encode()
    made.curve_secretkey = keys.server_secret.encode()
    made.setsockopt_string(zmq.ZAP_DOMAIN, keys.server_public)
    try:
        number = net.getaddrinfo(host, None, family=net.AF_INET, type=net.SOCK_STREAM)[0][4][0]
        made.bind(f"tcp://{number}:{port}")
    except (zmq.ZMQError, OSError) as error:
        raise LinkError(
            f"the address cannot be bound: {error}", address=bind, hint="Does another process serve there?"
        ) from error
    bound = made.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
    return Endpoint(f"tcp://{host}:{bound}", keys.server_public)


def _path(name: str) -> Path:
    path = run_directory() / f"{name}{_SUFFIX}"
    if "/" in name or name.startswith("."):
        raise LinkError("a socket's name is no path", address=name)
    if len(os.fsencode(path)) > PATH_LIMIT_BYTES:
        raise LinkError(
            f"the socket's path is longer than {PATH_LIMIT_BYTES} bytes",
            address=str(path),
            hint="Set XDG_RUNTIME_DIR to a shorter directory of your own",
        )
    return path


def _no_keys(address: str) -> LinkError:
    return LinkError(
        "tcp is for those who have keys",
        address=address,
        hint="Make some with `control keys DIR`, and give every process --keys DIR",
    )


def _context_of_process() -> zmq.Context[zmq.Socket[bytes]]:
    global _context  # noqa: PLW0603 - a process has one, for the thread that lets clients in serves one
    if _context is None:
        _context = zmq.Context()
    return _context


def _serve_authentication() -> None:
    """Start, once, the thread that says which clients are let in."""
    if _known:
        return
    asked = _context_of_process().socket(zmq.REP)
    asked.setsockopt(zmq.LINGER, 0)
    asked.bind(ZAP_ADDRESS)
    threading.Thread(target=_authenticate, args=(asked,), name="drp/keys", daemon=True).start()


def _authenticate(asked: zmq.Socket[Any]) -> None:
    with contextlib.suppress(zmq.ZMQError):  # the context is gone, and the process soon
        while True:
            asked.send_multipart(_verdict(asked.recv_multipart()))


def _verdict(frames: list[bytes]) -> list[bytes]:
    """Answer one request: version, id, domain, address, identity, mechanism, key."""
    good = len(frames) == 7 and frames[0] == b"1.0" and frames[5] == b"CURVE"
    good = good and frames[6] == _known.get(frames[2].decode(errors="replace"))
    request = frames[1] if len(frames) > 1 else b""
    said = [b"200", b"OK", b"member", b""] if good else [b"400", b"this key is not known here", b"", b""]
    return [b"1.0", request, *said]

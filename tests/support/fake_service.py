"""A calibration service that answers what a test tells it to, however wrong: for clients that must survive it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

Answer = bytes | Callable[[socket.socket], object]


def reply(body: bytes | str | object, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole HTTP answer; what is neither bytes nor text goes as JSON."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = {"content-length": str(len(data)), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data


@dataclass
class FakeService:
    """Answers by path; `asked` are the paths and query strings, in order."""

    url: str
    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, link: socket.socket, request: bytes) -> None:
        target = urlsplit(request.split()[1].decode())
        self.asked.append((target.path, parse_qs(target.query).get("query_string", [""])[0]))
        known = self.answers.get(target.path.removeprefix("/calib_ws"), reply([]))
        chosen = (known.pop(0) if len(known) > 1 else known[0]) if isinstance(known, list) else known
        if callable(chosen):
            chosen(link)
        else:
            link.sendall(chosen)


@contextmanager
def running(answers: Mapping[str, Answer | list[Answer]] | None = None) -> Iterator[FakeService]:
    """Run it on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    service = FakeService(f"http://127.0.0.1:{listener.getsockname()[1]}", dict(answers or {}))
    over = threading.Event()

    def talk(link: socket.socket) -> None:
        with link:
            link.settimeout(10)
            request = b""
            try:
                while b"\r\n\r\n" not in request:
                    part = link.recv(65536)
                    if not part:
                        return
                    request += part
                service.answer(link, request)
            except OSError:
                return

    def take() -> None:
        while not over.is_set():
            try:
                link, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=talk, args=(link,), daemon=True).start()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield service
    finally:
        over.set()
        thread.join()
        listener.close()

"""Asking a service over HTTP, with limits on everything: time, tries, and the size of answers.

It knows addresses and bytes, and nothing of constants. Each failure is a ServiceError that names the address and what to do. An answer that
takes long to begin is told in the log while it is waited for, and never waited for again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import httpx
import numpy as np
from numpy.typing import NDArray

from calib.errors import ServiceError

LOG = logging.getLogger("calib.client")
MAX_JSON_BYTES = 64 << 20
TRIES = 3
FIRST_PAUSE_S = 0.25
FIRST_BYTES_S = 30.0
SENT_S = 300.0
"""How long what was sent may take to be kept."""
PATIENCE_S = 3.0
"""After so long without an answer it is said what is waited for."""
SLOWEST_BYTES_PER_S = 1 << 20
TIMEOUTS = httpx.Timeout(30.0, connect=5.0)
_AGAIN = (429, 500, 502, 503, 504)
_LOCAL = ("127.0.0.1", "localhost", "::1")
_SNIPPET = 300
_REACH = "Is the service running, and is this its address?"
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


class HttpClient:
    """GET from a service below `base`; `sleep` is how it waits between tries."""

    def __init__(
        self,
        base: str,
        *,
        bearer: str | None = None,
        timeout: httpx.Timeout = TIMEOUTS,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base = base
        self._sleep = sleep
        self._clock = clock
        headers = {"accept-encoding": "identity", "user-agent": "calib"}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        local = httpx.URL(base).host in _LOCAL
        self._client = httpx.Client(headers=headers, timeout=timeout, trust_env=not local)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def json(self, path: str, query: str | None = None) -> Any:
        """Return what a path answers, as JSON."""
        data = self.data(path, MAX_JSON_BYTES, query=query)
        try:
            return json.loads(data.tobytes())
        except (ValueError, RecursionError):
            shown = data[:_SNIPPET].tobytes().decode("utf-8", "replace")
            raise self._error(path, f"the answer is no JSON but {shown!r}") from None

    def data(
        self, path: str, limit: int, *, size: int | None = None, query: str | None = None
    ) -> NDArray[np.uint8]:
        """Return the bytes that a path answers, of which there must be `size` where that is given, and never more than `limit`."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._once(path, limit, size, query)
            except _TryAgain as again:
                if attempt == TRIES or again.is_last:
                    tries = f" ({attempt} tries)" if attempt > 1 else ""
                    raise self._error(path, f"{again}{tries}", _REACH) from again.__cause__
                LOG.info("%s%s: %s; trying again", self.base, path, again)
                self._sleep(FIRST_PAUSE_S * 4 ** (attempt - 1))
        raise self._error(path, "not tried")

    def send(self, method: str, path: str, body: IO[bytes] | None = None) -> Any:
        """Send what changes the service, once, and return its answer as JSON."""
        try:
            with self._speaking(path, SENT_S):
                answer = self._client.request(
                    method,
                    f"{self.base}{path}",
                    content=_pieces(body) if body else None,
                    timeout=httpx.Timeout(SENT_S, connect=self._client.timeout.connect),
                )
        except _TryAgain as failure:
            raise self._error(path, str(failure), _REACH) from failure.__cause__
        try:
            said = answer.json()
        except ValueError:
            said = {}
        if answer.status_code != httpx.codes.OK:
            why = said.get("error") if isinstance(said, dict) else None
            raise self._error(path, f"refused with {answer.status_code}: {why or answer.text[:_SNIPPET]!r}")
        return said

    def _once(self, path: str, limit: int, size: int | None, query: str | None) -> NDArray[np.uint8]:
        parameters = None if query is None else {"query_string": query}
        with (
            self._speaking(path, self._client.timeout.read),
            self._client.stream("GET", f"{self.base}{path}", params=parameters) as answer,
        ):
            if answer.status_code in _AGAIN:
                raise _TryAgain(f"answered {answer.status_code} {answer.reason_phrase}")
            if answer.status_code != httpx.codes.OK:
                raise self._refused(path, answer)
            announced = answer.headers.get("content-length", "")
            if announced.isdecimal() and int(announced) > limit:
                raise self._error(path, f"the answer has {announced} bytes, the limit is {limit}")
            return self._collect(path, answer, limit, size)

    def _collect(self, path: str, answer: httpx.Response, limit: int, size: int | None) -> NDArray[np.uint8]:
        parts: list[bytes] = []
        buffer = None if size is None else np.empty(size, np.uint8)
        at = 0
        started = self._clock()
        until = started + FIRST_BYTES_S + (limit if size is None else size) / SLOWEST_BYTES_PER_S
        for part in answer.iter_bytes():
            if self._clock() > until:
                raise self._error(path, f"the answer comes too slowly: {at} bytes in {until - started:.0f} s")
            if at + len(part) > (limit if size is None else size):
                raise self._error(
                    path, f"the answer is longer than the {limit if size is None else size} bytes expected"
                )
            if buffer is None:
                parts.append(part)
            else:
                buffer[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        if buffer is None:
            return np.frombuffer(b"".join(parts), np.uint8).copy()
        if at != size:
            raise _TryAgain(f"the answer ends after {at} of {size} bytes")
        return buffer

    def _refused(self, path: str, answer: httpx.Response) -> ServiceError:
        code = answer.status_code
        hint = ""
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            hint = "It wants to know who asks: set CALIB_JWT, or use another service."
        elif code == httpx.codes.NOT_FOUND:
            hint = "Is this the address of a calibration service?"
        return self._error(path, f"answered {code} {answer.reason_phrase}", hint)

    @contextlib.contextmanager
    def _speaking(self, path: str, longest_s: float | None) -> Iterator[None]:
        """Turn what goes wrong into _TryAgain, and say what is waited for where the block takes longer than PATIENCE_S."""
        said = "%s%s: the answer is not there yet; it is given up after %g s of silence"
        timer = threading.Timer(PATIENCE_S, LOG.warning, (said, self.base, path, longest_s))
        timer.daemon = True
        timer.start()
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise _TryAgain(f"no connection within {self._client.timeout.connect:g} s") from error
        except httpx.TimeoutException as error:
            raise _TryAgain(f"no answer within {longest_s:g} s", is_last=True) from error
        except httpx.ConnectError as error:
            raise _TryAgain(f"it cannot be reached: {_plain(error)}") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise _TryAgain(f"the connection failed: {_plain(error)}") from error
        finally:
            timer.cancel()

    def _error(self, path: str, what: str, hint: str = "") -> ServiceError:
        return ServiceError(what, where=f"{self.base}{path}", hint=hint)


class _TryAgain(Exception):
    """What may be gone the next time, unless there `is_last` no time left for one."""

    def __init__(self, what: str, *, is_last: bool = False) -> None:
        super().__init__(what)
        self.is_last = is_last


def _plain(error: Exception) -> str:
    """Return what an error says, without the system's number for it."""
    return _ERRNO.sub("", str(error)) or type(error).__name__


def _pieces(body: IO[bytes]) -> Iterator[bytes]:
    while piece := body.read(1 << 20):
        yield piece

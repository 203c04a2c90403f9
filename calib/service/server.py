"""The service: a store over HTTP, in the read protocol of LCLS's calibration service, and writes for who has the token.

It reads with the store's own calls and holds no constants. What comes in is bounded before it is read: a write is an archive as `calib
export` makes it, kept in a file while it arrives. Whoever reaches the port may read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from calib.errors import CalibError, ServiceError
from calib.service import documents as lcls
from calib.service.query import Condition, conditions, parse_query
from calib.service.token import allows
from calib.store import Record, Store, read_archive

LOG = logging.getLogger("calib.serve")
ROOT = "/calib_ws"
MAX_ARCHIVE_BYTES = 4 << 30
MAX_QUERY_BODY = 64 << 10
SPOOL_BYTES = 1 << 20
PIECE_BYTES = 256 << 10  # a socket's buffer moves up all that is left with each send
SLOWEST_BODY_S = 600.0


def make_app(store: Store, token: str | None = None) -> Starlette:
    """Return the application over an open store; without a token it takes no writes."""
    service = _Service(store, token)
    app = Starlette(
        routes=[
            Route(ROOT, service.databases, methods=["GET"]),
            Route(f"{ROOT}/", service.databases, methods=["GET"]),
            Route(f"{ROOT}/import", service.take, methods=["POST"]),
            Route(f"{ROOT}/{{database}}", service.collections, methods=["GET"]),
            Route(f"{ROOT}/{{database}}/gridfs/{{data_id}}", service.payload, methods=["GET"]),
            Route(f"{ROOT}/{{database}}/{{collection}}", service.documents, methods=["GET"]),
            Route(f"{ROOT}/{{database}}/{{collection}}/{{document_id}}", service.document, methods=["GET"]),
            Route(f"{ROOT}/{{database}}/{{collection}}/{{document_id}}", service.remove, methods=["DELETE"]),
        ],
        exception_handlers={HTTPException: _refuse, CalibError: _failed},
    )
    app.router.redirect_slashes = False
    return app


def serve(store: Store, listener: socket.socket, token: str | None, ready: Callable[[], None]) -> None:
    """Answer on a socket that is bound already, until SIGINT or SIGTERM; `ready` is called when connections are taken."""
    config = uvicorn.Config(
        make_app(store, token),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 << 10,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        listener.listen(128)
        ready()
        await server.serve(sockets=[listener])

    asyncio.run(run())


class _Service:
    """The answers, one method for each route. Those that ask the store run in threads."""

    def __init__(self, store: Store, token: str | None) -> None:
        self._store = store
        self._token = token

    def databases(self, _request: Request) -> Response:
        return JSONResponse(lcls.databases(self._store))

    def collections(self, request: Request) -> Response:
        return JSONResponse(lcls.collections(self._store, _database(request)))

    async def documents(self, request: Request) -> Response:
        database, collection = _database(request), request.path_params["collection"]
        wanted = await _query(request)
        found = await run_in_threadpool(lcls.documents, self._store, database, collection)
        return JSONResponse([one for one in found if all(condition.holds(one) for condition in wanted)])

    def document(self, request: Request) -> Response:
        asked = request.path_params["document_id"].lower()
        found = lcls.documents(self._store, _database(request), request.path_params["collection"])
        for one in found:
            if one["_id"] == asked:
                return JSONResponse(one)
        raise HTTPException(404, "there is no document with this id")

    async def payload(self, request: Request) -> Response:
        database, data_id = _database(request), request.path_params["data_id"]
        record = await run_in_threadpool(lcls.payload_record, self._store, database, data_id)
        if record is None:
            raise HTTPException(404, "there is no payload with this id")
        parts = self._store.payload(record.id)
        # What cannot be read at all is an error, and not the beginning of an answer.
        first = await run_in_threadpool(next, parts, b"")
        return StreamingResponse(
            _checked_before_the_end(first, parts),
            media_type="application/octet-stream",
            headers={"content-length": str(record.size_bytes)},
        )

    async def take(self, request: Request) -> Response:
        self._authorise(request)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as body:
            try:
                async with asyncio.timeout(SLOWEST_BODY_S):
                    await _receive(request, body)
            except TimeoutError:
                raise HTTPException(408, f"the archive did not arrive in {SLOWEST_BODY_S:.0f} s") from None
            body.seek(0)
            try:
                records = await run_in_threadpool(self._import, body)
            except CalibError as error:
                if isinstance(error.__cause__, SQLAlchemyError | OSError):
                    raise
                raise HTTPException(400, str(error)) from error
        LOG.info("%s: put %d constants", _client(request), len(records))
        return JSONResponse({"put": [record.id for record in records]})

    def _import(self, body: Any) -> Sequence[Record]:
        return self._store.put_all(read_archive(body, "the archive"), again=False)

    def remove(self, request: Request) -> Response:
        self._authorise(request)
        found = lcls.documents(self._store, _database(request), request.path_params["collection"])
        asked = request.path_params["document_id"].lower()
        number = lcls.document_number(asked)
        if number is None or all(one["_id"] != asked for one in found):
            raise HTTPException(404, "there is no document with this id")
        (record,) = self._store.remove([number])
        LOG.info("%s: removed %s", _client(request), record)
        return JSONResponse({"status": True})

    def _authorise(self, request: Request) -> None:
        if self._token is None:
            raise HTTPException(403, "this service takes no writes: it was started without --token-file")
        if not allows(self._token, request.headers.get("authorization", "")):
            LOG.warning("%s: a write was refused, without the token", _client(request))
            raise HTTPException(401, "a write needs the service's token: Authorization: Bearer TOKEN")


async def _query(request: Request) -> list[Condition]:
    """Return what is asked: in `query_string`, or in a JSON body, as LCLS's clients with a web token ask."""
    try:
        text = request.query_params.get("query_string")
        if text is not None:
            return parse_query(text)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_QUERY_BODY:
                raise HTTPException(413, "the query is too long")
        if body:
            return parse_query(body.decode("utf-8", "replace"))
        return conditions(dict(request.query_params))
    except ServiceError as error:
        raise HTTPException(400, str(error)) from error


async def _receive(request: Request, body: Any) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_ARCHIVE_BYTES:
        raise HTTPException(413, f"an archive may have {MAX_ARCHIVE_BYTES} bytes")
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_ARCHIVE_BYTES:
            raise HTTPException(413, f"an archive may have {MAX_ARCHIVE_BYTES} bytes")
        await run_in_threadpool(body.write, part)


async def _checked_before_the_end(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield all parts in pieces, the last part only when the whole has been checked: a damaged payload arrives cut short, and not as if
    it were whole.
    """
    held: bytes | None = first
    while held is not None:
        following = await run_in_threadpool(next, rest, None)
        for start in range(0, len(held), PIECE_BYTES):
            yield held[start : start + PIECE_BYTES]
        held = following


def _database(request: Request) -> str:
    name: str = request.path_params["database"]
    if not name.startswith(lcls.PREFIX):
        raise HTTPException(405, f"the databases of constants begin with {lcls.PREFIX}")
    return name


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _refuse(_request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    return JSONResponse({"error": detail}, status_code=code)


def _failed(_request: Request, error: Exception) -> Response:
    """Answer what failed in the store with 500, never 503: that ends an LCLS client on the spot."""
    LOG.error("%s", error)
    what = error.what if isinstance(error, CalibError) else ""  # where the store lies is not for everybody
    return JSONResponse({"error": what}, status_code=500)

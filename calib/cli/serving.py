"""`calib serve`."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
from pathlib import Path

from calib.cli import options
from calib.errors import ServiceError

LOCAL = "127.0.0.1"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="give constants to others over HTTP, psana among them",
        description="Give constants to others over HTTP, as LCLS's calibration service does: psana reads from it where "
        "LCLS_CALIB_HTTP is the address that is printed. Whoever reaches the port may read; to write takes the token.",
    )
    serve.add_argument(
        "--bind", default=LOCAL, metavar="ADDRESS", help=f"listen here (default: {LOCAL}, this machine only)"
    )
    serve.add_argument(
        "--port", type=int, default=0, metavar="N", help="on this port (default: 0, any that is free)"
    )
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="allow writes to who has the token in FILE, which is made if there is none",
    )
    options.add_store(serve)
    serve.set_defaults(call=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from calib.service.server import serve  # noqa: PLC0415 - no other subcommand needs a web server
    from calib.service.token import make_token  # noqa: PLC0415

    logging.getLogger("calib").setLevel(logging.INFO)
    token = make_token(arguments.token_file) if arguments.token_file else None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the server ends on its own, and then says the signal again
    with options.open_own(arguments) as store, _listener(arguments.bind, arguments.port) as listener:
        address = listener.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        if not _is_local(address[0]):
            logging.getLogger("calib.serve").warning(
                "other machines can read these constants, and the token of a write crosses the network in the clear"
            )
        serve(store, listener, token, lambda: print(f"{store.url} at http://{host}:{address[1]}", flush=True))
    return 0


def _listener(address: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise ServiceError(
            f"it cannot listen there: {getattr(error, 'strerror', None) or error}",
            where=f"{address} port {port}",
            hint="Choose another port, or 0 for any that is free.",
        ) from error
    return listener


def _is_local(address: str) -> bool:
    return address == "::1" or address.startswith("127.")

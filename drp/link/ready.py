"""Saying that a process stands: its sockets are there, and who asks it gets an answer.

The word is that of systemd's sd_notify: a datagram `READY=1` to the socket that the environment names in NOTIFY_SOCKET, where whoever started this
process may wait for it. `procmgr start` does; it tells processes apart by DRP_PROCESS.
"""

from __future__ import annotations

import logging
import os
import socket

NOTIFY_SOCKET = "NOTIFY_SOCKET"
PROCESS = "DRP_PROCESS"
_LOG = logging.getLogger("drp.link")


def say_ready() -> None:
    """Tell whoever started this process, where it asked for that, that the process stands. Who does not listen any more is no error."""
    address = os.environ.get(NOTIFY_SOCKET, "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = f"READY=1\n{PROCESS}={os.environ.get(PROCESS, '')}\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(text.encode(), address)
    except OSError as error:
        _LOG.debug("nobody at %s to tell that this process stands: %s", address, error)

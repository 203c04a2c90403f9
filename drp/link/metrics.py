"""Metrics of any process of drp, for Prometheus to fetch over HTTP, and the file in the folder of `-M` that tells Prometheus where.

The file is one of Prometheus's `file_sd_configs`; it is there as long as the process is. What is counted is asked for by a thread of the HTTP server
when Prometheus asks, so a process hands in a function that reads its counters and does nothing else. Names are those of LCLS's processes where they
have the same thing; its counts have no `_total` at their end.

It needs prometheus_client, and is imported only where `-M` is given.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from drp.core.errors import ConfigError

FIRST_PORT = 9200
N_PORTS = 100
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to know it, not to bind to it
HERE = "127.0.0.1"
TARGET_MODE = 0o644
LABELS = ("instrument", "partition", "detname", "detseg", "alias")

log = logging.getLogger("drp.run")

Values = Mapping[str, "float | Labelled"]
"""What is read: numbers by name. A name that ends in `_total` is a counter's, another is taken as it is and has no type."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A number for each value of one more label."""

    label: str
    values: Mapping[str, float]


class ReadCollector(Collector):
    """Metrics that are read when Prometheus asks."""

    def __init__(self, who: Sequence[str], read: Callable[[], Values], texts: Mapping[str, str]) -> None:
        """Take the values of LABELS, what reads the numbers by name (in a thread of the server), and what each name means."""
        self._who = tuple(who)
        self._read = read
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics."""
        for name, value in self._read().items():
            label, values = (value.label, value.values) if isinstance(value, Labelled) else ("", {"": value})
            family = CounterMetricFamily if name.endswith("_total") else UnknownMetricFamily
            one = family(name, self._texts.get(name, name), labels=(*LABELS, label) if label else LABELS)
            for kind, number in values.items():
                one.add_metric((*self._who, kind) if label else self._who, float(number))
            yield one


class Exporter:
    """An HTTP server on the first free port from 9200 on, and its target file in `folder`, as long as the `with` block.

    `address` is what it listens on. Raises ConfigError where there is no port, or the file cannot be written.
    """

    def __init__(self, folder: Path, collector: Collector, address: str = HERE) -> None:
        """Serve what `collector` tells, from now on."""
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._address = address
        self._server, self._thread, self.port = self._serve()
        host = socket.gethostname()
        self.target = folder / f"drpmon_{host}_{self.port - FIRST_PORT}.json"
        where = host if address in EVERYWHERE else address
        self.url = f"http://{_with_port(where, self.port)}/metrics"
        try:
            _write_whole(self.target, json.dumps([{"targets": [_with_port(where, self.port)]}]) + "\n")
        except OSError as error:
            self._stop()
            raise ConfigError(
                f"the target file cannot be written: {error.strerror}", option="-M", value=str(folder)
            ) from error
        log.info("metrics at %s, told to Prometheus in %s", self.url, self.target)

    def _serve(self) -> tuple[WSGIServer, Thread, int]:
        for port in range(FIRST_PORT, FIRST_PORT + N_PORTS):
            try:
                return (*start_http_server(port, self._address, self._registry), port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(
                        f"nothing can listen there: {error.strerror}",
                        option="--metrics-bind",
                        value=self._address,
                    ) from error
        raise ConfigError(
            f"no port from {FIRST_PORT} to {FIRST_PORT + N_PORTS - 1} is free",
            option="-M",
            hint="End some drps.",
        )

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.target.unlink(missing_ok=True)
        self._stop()


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _write_whole(path: Path, text: str) -> None:
    """Write a file under another name and give it its own: Prometheus watches the folder, and never reads half of it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, TARGET_MODE)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise

"""The options that the processes of a partition share, with LCLS's letters: who it is, and where its control is.

Every command adds its own to `parser`, and gets from `partition_of` what it needs to open its sockets.
"""

from __future__ import annotations

import argparse
import logging
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from drp.core.errors import ConfigError
from drp.core.metric_names import METRICS
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, well_known

if TYPE_CHECKING:
    from drp.link.metrics import Values

MAX_PLATFORM = 7
MEMBER_PORT, CLIENT_PORT, STATUS_PORT = 29980, 30000, 30010
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,29}")
_HERE = ("", "localhost", "127.0.0.1")
_LEVEL = ("info", "debug")
# What scripts say may hold anything: none of it may steer a terminal. Tab and newline may stay.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


@dataclass(frozen=True, slots=True)
class Partition:
    """Which partition a process belongs to, as the command line says it. `keys` is None where all of it is on this machine."""

    instrument: str
    station: int
    platform: int
    control_host: str = ""
    alias: str = ""
    keys: Keys | None = None

    @property
    def name(self) -> str:
        """The partition's name, of which the names of its sockets are made: `tst-p0`, at station 1 `tst-s1-p0`."""
        station = f"-s{self.station}" if self.station else ""
        return f"{self.instrument}{station}-p{self.platform}"

    @property
    def control(self) -> Endpoint:
        """Where control takes its members."""
        return self._of_control("control", MEMBER_PORT)

    @property
    def clients(self) -> Endpoint:
        """Where control answers those who ask it for something."""
        return self._of_control("clients", CLIENT_PORT)

    @property
    def status(self) -> Endpoint:
        """Where control publishes its state."""
        return self._of_control("status", STATUS_PORT)

    @property
    def bind(self) -> str | None:
        """What a process of the partition gives to `listen`: None in the run directory, with keys any port of this machine."""
        return None if self.keys is None else f"tcp://{socket.gethostname()}:*"

    def socket_name(self, what: str) -> str:
        """Return the name of a socket of this process for `listen`, such as `teb0-tst-p0`."""
        return f"{what}-{self.name}"

    def _of_control(self, what: str, port: int) -> Endpoint:
        host = "" if self.keys is None else self.control_host or socket.gethostname()
        return well_known(self.socket_name(what), host=host, port=port + self.platform, keys=self.keys)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors are ConfigErrors."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError."""
        raise ConfigError(message, hint=f"See {self.prog} --help.")


def parser(prog: str, description: str, *, member: bool = True) -> Parser:
    """Return a parser with the options that all have: -P -p --keys -v, and for a member -C -u -k -M."""
    made = Parser(prog=prog, description=description, allow_abbrev=False)
    group = made.add_argument_group("the partition")
    group.add_argument(
        "-P", dest="instrument", metavar="INSTRUMENT[:STATION]", default="tst", help="(default: tst)"
    )
    group.add_argument(
        "-p",
        dest="platform",
        metavar="N",
        type=int,
        choices=range(MAX_PLATFORM + 1),
        default=0,
        help="platform, 0-7, which is also the readout group that all events have (default: 0)",
    )
    group.add_argument(
        "--keys",
        metavar="DIR",
        help="folder of keys, made by `control keys DIR`: the partition then speaks over tcp, encrypted",
    )
    group.add_argument("-v", dest="verbose", action="count", default=0, help="say more")
    if member:
        group.add_argument(
            "-C", dest="control_host", metavar="HOST", default="", help="where control runs (default: here)"
        )
        group.add_argument(
            "-u", dest="alias", metavar="ALIAS", default="", help="unique name of this process"
        )
        group.add_argument(
            "-k", dest="kwargs", metavar="K=V[,K=V]", action="append", default=[], help="further settings"
        )
        group.add_argument(
            "-M", dest="prometheus_dir", metavar="DIR", type=Path, help="metrics, and a file_sd target in DIR"
        )
    return made


def partition_of(options: argparse.Namespace, *, default_alias: str = "") -> Partition:
    """Return the partition that the options name; ConfigError for a name that is none, LinkError for keys that cannot be used."""
    instrument, _, station = str(options.instrument).partition(":")
    if not _NAME.fullmatch(instrument) or (station and not station.isdecimal()):
        raise ConfigError("is INSTRUMENT or INSTRUMENT:STATION", option="-P", value=options.instrument)
    host = getattr(options, "control_host", "")
    if host in (*_HERE, socket.gethostname(), socket.getfqdn()):
        host = ""
    if host and not options.keys:
        raise ConfigError(
            "another machine is reached by those who have keys",
            option="-C",
            value=host,
            hint="Make some with `control keys DIR`, and give every process --keys DIR",
        )
    alias = getattr(options, "alias", "") or default_alias
    if alias and not _NAME.fullmatch(alias):
        raise ConfigError("is at most 30 letters, digits, and _ . -", option="-u", value=alias)
    keys = Keys.load(options.keys) if options.keys else None
    return Partition(instrument, int(station or 0), options.platform, host, alias, keys)


def kwargs_of(options: argparse.Namespace) -> Mapping[str, str]:
    """Return what `-k` says, by key; ConfigError where one has no value or comes twice."""
    found: dict[str, str] = {}
    for one in ",".join(options.kwargs).split(","):
        key, equals, value = one.strip().partition("=")
        if not key and not equals:
            continue
        if not equals or not key or key in found:
            raise ConfigError("is KEY=VALUE, each once", option="-k", value=one)
        found[key] = value
    return found


def printable(text: str) -> str:
    """Return a text that steers no terminal."""
    return text.translate(_ESCAPES)


class _Formatter(logging.Formatter):
    """Writes lines that steer no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(super().format(record))


def set_up_logging(verbose: int) -> None:
    """Have what drp logs come out on stderr, with the time; more of it with -v."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger("drp")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(_LEVEL[min(verbose, 1)].upper())


def exported(
    options: argparse.Namespace, partition: Partition, read: Callable[[], Values]
) -> AbstractContextManager[object]:
    """Return a block in which what `read` returns, in a thread of its own, is shown to Prometheus, where -M asks for that. Raises ConfigError."""
    folder = getattr(options, "prometheus_dir", None)
    if folder is None:
        return nullcontext()
    # A server and its library, for those who want them.
    from drp.link.metrics import Exporter, ReadCollector  # noqa: PLC0415

    who = (partition.instrument, str(partition.platform), partition.alias, "0", partition.alias)
    return Exporter(folder, ReadCollector(who, read, METRICS))

"""The `drp` command: options in, a summary out, and the exit code that says whether anything was lost or damaged."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from drp.cli.options import DEFAULT_EVENTS, drp_version, parse, prepared
from drp.cli.paths import STDOUT
from drp.cli.status import StatusLine
from drp.core.conditions import Conditions
from drp.core.config import DrpConfig
from drp.core.errors import ConfigError, DrpError, OrderError, SourceError
from drp.core.report import Report, Snapshot, summary
from drp.engine.judging import ConditionsJudge, Judge, groups_of
from drp.engine.offline import reduce_offline
from drp.engine.reducer import EXIT_INTERRUPTED, Interrupted, Reducer
from drp.link.ready import say_ready

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from drp.engine.meblink import MebLinks
    from drp.engine.metrics import Exporter

EXIT_FAILED = 1
EXIT_USAGE = 2
REPORT_MODE = 0o644
# Names in a file and what a script says may hold anything: none of it may steer a terminal. Tab and newline may stay.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}

log = logging.getLogger("drp")


class _LogHandler(logging.Handler):
    """Write log lines above the status line."""

    def __init__(self, status: StatusLine) -> None:
        super().__init__()
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._status.above(self.format(record).translate(_ESCAPES))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drp command with `argv` (default: the process's own) and return its exit code."""
    try:
        config = parse(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        print(f"drp: {error}", file=sys.stderr)
        return EXIT_USAGE
    # The stderr of a member is a log, though the terminal of whoever keeps the process may take it.
    status = StatusLine(sys.stderr, live=config.control is None and sys.stderr.isatty())
    _set_up_logging(config, status)
    for note in config.notes:
        log.warning("%s", note)
    if config.source_is_default:
        log.info("no --source: simulating %d events", config.events or DEFAULT_EVENTS)
    try:
        if config.control is not None:
            return _serve(config, status)
        if config.offline:
            say_ready()
        report = reduce_offline(config) if config.offline else _reduce(config, status)
    except Interrupted:
        status.close()
        print("drp: ended by a second signal; the files have no EndRun", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        # Only where there are no workers yet, or none at all: a run takes its signals itself.
        status.close()
        print("drp: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except DrpError as error:
        status.close()
        print(f"drp: {error}", file=sys.stderr)
        begun = isinstance(error, OrderError)  # what an order of dgrams breaks is a run
        return EXIT_USAGE if isinstance(error, ConfigError | SourceError) and not begun else EXIT_FAILED
    status.close()
    return _tell(config, replace(report, version=drp_version()))


def _serve(config: DrpConfig, status: StatusLine) -> int:
    """Be a member of a partition until a signal comes."""
    from drp.cli.partition import partition_of  # noqa: PLC0415 - sockets, for those who need them
    from drp.member.links import PartitionLinks  # noqa: PLC0415 - as above
    from drp.member.process import Process  # noqa: PLC0415 - as above

    partition = partition_of(
        argparse.Namespace(
            instrument=f"{config.instrument}:{config.station}",
            platform=config.platform,
            control_host=config.control or "",
            alias=config.alias or "",
            keys=config.keys_dir,
        )
    )

    def report(done: Report) -> None:
        _tell(config, replace(done, version=drp_version()))

    exported = _Exported(config, status)
    process = Process(
        config,
        partition.control,
        PartitionLinks(config.alias or "", partition.keys, first_event=config.first_event),
        keys=partition.keys,
        prepare=prepared,
        report=report,
        watch=exported.watch,
        export=exported.export,
    )
    try:
        return process.run()
    finally:
        status.close()


class _Exported:
    """What there is to see of a run: on the status line, and for Prometheus where the user asks for it."""

    def __init__(self, config: DrpConfig, status: StatusLine) -> None:
        self._config = config
        self._status = status
        self._exporter: Exporter | None = None

    def export(self) -> AbstractContextManager[object]:
        """Return the server of the metrics, which is there while it is entered."""
        folder = self._config.prometheus_dir
        if folder is None:
            return contextlib.nullcontext()
        # A server and its library, for those who want them.
        from drp.engine.metrics import Exporter  # noqa: PLC0415

        self._exporter = Exporter(folder, self._config.metrics_bind)
        return self._exporter

    def watch(self, reducer: Reducer, snapshot: Snapshot) -> None:
        """Show how it is now."""
        self._status.show(snapshot)
        if self._exporter is not None:
            self._exporter.take(reducer.readings(snapshot))


def _reduce(config: DrpConfig, status: StatusLine) -> Report:
    """Run with workers, watched by the status line, and by Prometheus and a meb where the user asks for it."""
    exported = _Exported(config, status)
    links = links_of(config)

    @contextlib.contextmanager
    def beside() -> Iterator[None]:
        with exported.export(), contextlib.ExitStack() as stack:
            if links is not None:
                stack.callback(links.close)
                links.start()
            say_ready()
            yield

    reducer = Reducer(
        config,
        lambda snapshot: exported.watch(reducer, snapshot),
        beside,
        judge=judge_of(config),
        monitor=links,
    )
    return reducer.run()


def links_of(config: DrpConfig) -> MebLinks | None:
    """Return what copies all events of a drp without a partition for a meb, None where the user has not asked for that."""
    if config.monitor is None:
        return None
    from drp.cli.partition import Partition  # noqa: PLC0415 - sockets, for those who need them
    from drp.engine.meblink import MebLinks, MebTarget  # noqa: PLC0415 - as above
    from drp.link.sockets import well_known  # noqa: PLC0415 - as above

    name = Partition(config.instrument, config.station, config.platform).socket_name(config.monitor)
    target = MebTarget(0, config.monitor, well_known(name))
    return MebLinks([target], alias=config.alias or "drp", group=config.platform, always=1)


def judge_of(config: DrpConfig) -> Judge | None:
    """Return who decides, in a drp without a partition, which events are kept; None: all are."""
    groups = groups_of(config)
    if config.keep_if is not None:
        return ConditionsJudge(Conditions.parse(config.keep_if), config.prescale, groups=groups)
    if config.trigger:
        from drp.engine.ownteb import OwnTeb  # noqa: PLC0415 - zmq, for those who have a trigger

        return OwnTeb(
            config.trigger,
            groups=groups,
            prescale=config.prescale,
            instrument=config.instrument,
            platform=config.platform,
        )
    return None


def _tell(config: DrpConfig, report: Report) -> int:
    """Print the summary and write the report."""
    told = "\n".join(summary(report)).translate(_ESCAPES)
    text = "" if config.report is None else json.dumps(report.as_dict(), indent=1)
    if config.report == STDOUT:
        print(told, file=sys.stderr)
        _print(text)
        return report.exit_code
    _print(told)
    if config.report is not None:
        try:
            _write(config.report, text + "\n")
        except OSError as error:
            print(f"drp: the report {config.report} cannot be written: {error.strerror}", file=sys.stderr)
            return report.exit_code or 1
    return report.exit_code


def _print(text: str) -> None:
    """Print text that may hold what no encoding has; that nobody reads it any more is no fault of the run."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError as error:
        # Whoever read it has gone, or its disk is full: the run itself is what the exit code tells. Without the
        # other stdout the interpreter tries again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with contextlib.suppress(OSError):
            print(f"drp: the summary cannot be printed: {error.strerror}", file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    """Write a file; a symbolic link is followed only where it is ours or root's, as in a /tmp where anybody may lay one."""
    if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, "it is the symbolic link of another user", str(path))
    follow = 0 if path.is_symlink() else os.O_NOFOLLOW
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | follow, REPORT_MODE)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _set_up_logging(config: DrpConfig, status: StatusLine) -> None:
    handler = _LogHandler(status)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    if config.log_domains:
        wanted = tuple(f"drp.{one}" for one in config.log_domains)
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith(wanted))
    for name in ("drp", "calib"):
        root = logging.getLogger(name)
        root.handlers[:] = [handler]
        root.setLevel(config.log_level.upper())
        root.propagate = False

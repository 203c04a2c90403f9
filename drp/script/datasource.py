"""DataSource, the one object a script makes: live in a worker, over files elsewhere, with the same names.

Where it gets its stream is decided by what process it is in: a worker, or `drp --offline`, has opened a session for it; elsewhere it opens one
over the files it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp.script.errors import NotAWorkerError, ScriptError, UnknownNameError, near_misses
from drp.script.info import DrpInfo
from drp.script.run import Run, ScriptVerbs
from drp.script.session import Session

if TYPE_CHECKING:
    from drp.script.monitor import MonitorFeed

# psana's keywords that change nothing here: there is no smd, no database and no Prometheus client of the script's.
WITHOUT_EFFECT = frozenset(
    {
        "log_level",
        "log_file",
        "batch_size",
        "dbsuffix",
        "use_calib_cache",
        "cached_detectors",
        "fetch_calib_cache_max_retries",
        "prom_jobid",
        "psmon_publish",
        "smalldata_kwargs",
        "auto_tune",
    }
)
FILES = 'In drp, say DataSource(): --source says what is read. Without drp, name the files: DataSource(files=["x-r0007-s000-c000.xtc2"]).'
# psana's keywords that would change what the script sees.
NOT_HERE = {
    "exp": FILES,
    "run": FILES,
    "dir": FILES,
    "max_events": "Use drp -n, or evt.index in the script.",
    "detectors": "All detectors of the stream are there.",
    "xdetectors": "All detectors of the stream are there.",
    "small_xtc": "There is no small data here.",
    "timestamps": "Compare evt.timestamp in the script.",
    "intg_det": "Streams are not joined here.",
    "intg_delta_t": "Streams are not joined here.",
    "smd_callback": "There is no small data here.",
    "live": "Run the script with drp.",
}


class _Current:
    """The session that this process opened for its script."""

    session: Session | None = None
    refused: bool = False


def give_session(session: Session | None) -> None:
    """Let the next DataSource of this process take its stream from `session`."""
    _Current.session = session


def current_session() -> Session | None:
    """Return the stream that was given to this process, None where there is none."""
    return _Current.session


def refuse_sessions() -> None:
    """Let no DataSource of this process have a stream: a script started it beside its own."""
    _Current.refused = True


class DataSource(ScriptVerbs):
    """The stream of dgrams. `files` (paths), `output` (folder, or None) and `calib` (where the constants are: a store's path or URL, or a
    service's; default: $DRP_CALIB) are for a script that runs without drp. `skip_calib_load` ("all" or names) does without the constants of these
    detectors.

    `monitor` says of which running partition a script without drp gets the monitored events: `tst:0/meb0`, `tst:0` or `tst` on this machine, or a
    meb's tcp://HOST:PORT, for which `keys` is the folder of keys. psana's `shmem` is taken as the same. Runs come for as long as the script asks.

    `drp` and psana's other keywords are taken too; one that would change what is read is an error that says what to do.
    """

    copy_views = False

    def __init__(
        self,
        *,
        drp: DrpInfo | None = None,
        files: str | Path | list[str | Path] | None = None,
        output: str | Path | None = None,
        calib: str | None = None,
        skip_calib_load: str | Iterable[str] | None = None,
        monitor: str | bool | None = None,
        shmem: str | None = None,
        keys: str | Path | None = None,
        **psana: Any,
    ) -> None:
        if _Current.refused:
            raise NotAWorkerError(
                "a process that the script starts is no worker: it gets no events",
                hint="Make the DataSource in the script itself, and hand the process what it needs.",
            )
        check_keywords(psana)
        if drp is not None and not isinstance(drp, DrpInfo):
            raise ScriptError("drp= takes the global drp_info", found=type(drp).__name__)
        session = _Current.session
        where = shmem or (monitor if isinstance(monitor, str) else None)
        self._feed: MonitorFeed | None = None
        if where is not None:
            if session is not None or files or output:
                raise ScriptError(
                    "a script that monitors gets its events from a meb alone",
                    hint="Run it without drp, and without files.",
                )
            from drp.script.monitor import open_monitor  # noqa: PLC0415 - only viewers need sockets

            session, self._feed = open_monitor(where, keys, calib)
        elif session is None:
            if not files:
                raise ScriptError(
                    "there is no drp around this script",
                    hint="Run it with drp -p, or give files=[...], or monitor= for a running partition.",
                )
            from drp.script.offline import open_files  # noqa: PLC0415 - only scripts without drp need the sinks

            session = open_files([files] if isinstance(files, (str, Path)) else list(files), output, calib)
        elif files or output or calib:
            raise ScriptError(
                "drp gives this script its stream and its constants",
                hint="Leave files=, output= and calib= out: DataSource().",
            )
        session.open()
        session.skip_constants(skip_calib_load)
        session.stream.copy_views = self.copy_views
        super().__init__(session)

    @property
    def args(self) -> list[str]:
        """The script's arguments, as in sys.argv[1:]."""
        return self._session.args

    @property
    def drp_info(self) -> DrpInfo:
        """What the script is told of its drp."""
        return self._session.info

    @property
    def monitor_lost(self) -> int:
        """How many monitored events this script did not get, since it asks for them too slowly or too late; 0 where it does not monitor."""
        return 0 if self._feed is None else self._feed.lost

    @property
    def stacked_copies(self) -> int:
        """How many times `raw` had to copy segments that do not lie evenly."""
        return int(self._session.stream.stacked_copies)

    def runs(self) -> Iterator[Run]:
        """Yield the runs of this Configure; what is declared before the first is written in the Configure."""
        while True:
            run = self._session.next_run()
            if run is None:
                return
            yield run

    def add_trigger(self, words: Mapping[str, Any]) -> None:
        """Declare the trigger words, `{name: numpy type}`, each one number; before `runs()`. Set them with `set_trigger`."""
        self._session.add_trigger(words)

    def is_mpi(self) -> bool:
        """Return False, as psana does in a drp."""
        return False

    def unique_user_rank(self) -> bool:
        """Return True, as psana does in a drp."""
        return True


class PsanaDataSource(DataSource):
    """DataSource under psana's name: arrays are copies unless the script asks otherwise, as there."""

    copy_views = True


def check_keywords(given: Mapping[str, Any]) -> None:
    """Raise for a keyword that is unknown, or that cannot be honoured here."""
    for name, value in given.items():
        if name in WITHOUT_EFFECT:
            continue
        if name not in NOT_HERE:
            known = {
                "drp",
                "files",
                "output",
                "calib",
                "skip_calib_load",
                "monitor",
                "shmem",
                "keys",
                *WITHOUT_EFFECT,
                *NOT_HERE,
            }
            raise UnknownNameError(f"DataSource has no keyword {name!r}", hint=near_misses(name, known))
        if value:
            raise ScriptError(f"DataSource cannot honour {name}=", hint=NOT_HERE[name])

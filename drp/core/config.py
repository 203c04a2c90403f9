"""The configuration of one drp: a frozen record, made once at the edge and checked as a whole.

It also knows the `-k key=value` arguments of LCLS's drp: those that mean something here, and those of
hardware that is not here, which are refused by name. It reads no file and no environment: whoever makes it
has looked there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drp.core.conditions import ConditionError, Conditions
from drp.core.errors import ConfigError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_WORKERS = 256
DEFAULT_SPARES = 1
MAX_SLOT_BYTES = 2 * GIB - 1
MAX_SIZE_BYTES = 1 << 62
MIN_TRANSITION_BYTES = 64 * KIB
DEFAULT_TRANSITION_BYTES = 8 * MIB
RESULT_SHARE = 48
"""How much of a transition's result the largest event has room for, unless the user says: the sums of a dark run (`fex_scripts/dark.py`) are
28 bytes for each pixel of two in each of up to three gain ranges, and 4 more. Memory that is not touched costs nothing."""
DEFAULT_CHUNK_BYTES = 500_000_000_000
MIN_ROOM_BYTES = 64 * KIB
WORKER_CONFIGURE_S = 60.0
COMPILE_LIMIT_S = 300.0
"""Longest for the nursery to stand where it compiles what calibrates events; once on a machine, then numba's cache has it."""
WORKER_TRANSITION_S = 30.0

_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_ALIAS = re.compile(r"([A-Za-z0-9_]+)_(\d{1,9})")
_WORD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_SUPERVISOR = re.compile(r"([^@]+)@(tcp://(?:[A-Za-z0-9_.*-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})")

Policy = Literal["continue", "stop"]


@dataclass(frozen=True, slots=True)
class Room:
    """What a result may have beyond the largest raw dgram: a share of it (0.25 is 25 %), or so many bytes."""

    share: float = 0.25
    size_bytes: int | None = None

    def of(self, largest_event_bytes: int) -> int:
        """Return the room in bytes beside the largest raw dgram; of a share at least 64 KiB."""
        if self.size_bytes is not None:
            return self.size_bytes
        return max(int(largest_event_bytes * self.share), MIN_ROOM_BYTES)


def transition_room(asked: int | None, largest: int, largest_event: int, room: Room) -> tuple[int, int]:
    """Return the bytes of a transition's slot, and of one with what workers add, from -k trBufSize and the largest dgrams there are."""
    slot = max(DEFAULT_TRANSITION_BYTES if asked is None else asked, largest + room.of(0))
    if asked is not None:
        return slot, slot
    return slot, max(slot, min(RESULT_SHARE * largest_event, MAX_SLOT_BYTES))


@dataclass(frozen=True, slots=True)
class DrpConfig:
    """Everything that the user may say about one drp. Sizes are bytes, times seconds.

    None leaves the choice to drp: detector, experiment and run are then those that the source tells, and `first_segment`, the lowest segment of the
    detector that this drp has, is `det_segment`. `notes`
    are lines to warn the user with, about options that are understood but do nothing here.

    Raises ConfigError where a value is out of range or two are at odds; the error names the option.
    """

    script: str = ""
    script_args: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("sim",)
    source_is_default: bool = False
    workers: int = 1
    platform: int = 0
    instrument: str = "drp"
    station: int = 0
    det_name: str | None = None
    det_segment: int = 0
    first_segment: int | None = None
    det_type: str = ""
    det_id: str = ""
    out_dir: Path | None = None
    expt: str | None = None
    run: int | None = None
    overwrite: bool = False
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    events: int | None = None
    rate_hz: float | None = None
    loop: bool = False
    offline: bool = False
    report: Path | None = None
    prometheus_dir: Path | None = None
    metrics_bind: str = "127.0.0.1"
    log_level: str = "info"
    log_domains: tuple[str, ...] = ()
    verbose: int = 0
    event_timeout_s: float = 2.0
    first_event_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    spares: int = DEFAULT_SPARES
    worker_memory_bytes: int | None = None
    fex_room: Room = Room()
    pebble_slot_bytes: int | None = None
    pebble_slots: int | None = None
    transition_bytes: int | None = None
    on_overflow: Policy = "continue"
    on_script_failure: Policy = "continue"
    check_views: bool = False
    check_jit: bool = False
    calib: str | None = None
    calib_timeout_s: float = 20.0
    calib_supervisor: str | None = None
    calib_address: str | None = None
    calib_key: Path | None = None
    require_constants: bool = False
    keep_if: str | None = None
    trigger: tuple[str, ...] = ()
    prescale: int = 0
    control: str | None = None
    group: int | None = None
    first_event: int = 0
    keys_dir: Path | None = None
    monitor: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for check in (
            _check_names,
            _check_ranges,
            _check_order,
            _check_control,
            _check_constants,
            _check_trigger,
        ):
            check(self)

    @property
    def alias(self) -> str | None:
        """The name of this drp in a partition, `<detector>_<segment>`; None where the user gave none."""
        return None if self.det_name is None else f"{self.det_name}_{self.det_segment}"

    @property
    def readout_group(self) -> int:
        """Its readout group in a partition: the platform, which is that of all events, unless the user gave another."""
        return self.platform if self.group is None else self.group

    @property
    def has_constants(self) -> bool:
        """Whether calibration constants are to be had from anywhere."""
        return self.calib is not None or self.calib_address is not None

    @property
    def supervises(self) -> bool:
        """Whether this drp is the one that fetches constants for the others of its detector."""
        return self.calib_supervisor is not None and self.calib_supervisor == self.alias


_RANGES: dict[str, tuple[str, float, float]] = {
    "workers": ("-W", 1, MAX_WORKERS),
    "group": ("--group", 0, 7),
    "platform": ("-p", 0, 7),
    "station": ("-P", 0, 7),
    "det_segment": ("-u", 0, 0xFFFF),
    "run": ("--run", 1, 9999),
    "chunk_bytes": ("--chunk-size", MIB, 1 << 60),
    "events": ("-n", 1, 1 << 62),
    "rate_hz": ("--rate", 0.001, 10_000_000),
    "event_timeout_s": ("--event-timeout", 0.01, 86_400),
    "first_event_timeout_s": ("--first-event-timeout", 0.01, 86_400),
    "stop_timeout_s": ("--stop-timeout", 0.1, 86_400),
    "calib_timeout_s": ("--calib-timeout", 0.1, 86_400),
    "spares": ("--spares", 0, MAX_WORKERS),
    "worker_memory_bytes": ("--worker-memory", 16 * MIB, 1 << 50),
    "pebble_slot_bytes": ("-k pebbleBufSize", 1 * KIB, MAX_SLOT_BYTES),
    "pebble_slots": ("-k pebbleBufCount", 2, 1 << 24),
    "prescale": ("--prescale", 0, 1 << 60),
    "transition_bytes": ("-k trBufSize", MIN_TRANSITION_BYTES, MAX_SLOT_BYTES),
}


def _check_ranges(config: DrpConfig) -> None:
    for name, (option, least, most) in _RANGES.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(
                f"is out of range, it must lie between {least:,} and {most:,}", option=option, value=value
            )
    room = config.fex_room
    if not 0 <= room.share <= 100 or not 0 <= (room.size_bytes or 0) <= MAX_SLOT_BYTES:
        raise ConfigError(
            "is out of range", option="--fex-room", hint="Give a share such as 25% or a size such as 4M."
        )


def _check_names(config: DrpConfig) -> None:
    if not config.script and config.control is None:
        raise ConfigError(
            "there is no script", option="-p", hint='Name one, as in -p "myroi.py --roi 40:140,50:150".'
        )
    if not config.sources:
        raise ConfigError("there is no source", option="--source", hint="Name sim, sim:TYPE or a file.")
    words = (("-P", config.instrument), ("-u", config.det_name), ("--expt", config.expt))
    for option, word in words:
        if word is not None and (not _WORD.fullmatch(word) or len(word) > 255):
            raise ConfigError(
                "may hold letters, digits, '_', '-' and '.' only, and not begin with '.'",
                option=option,
                value=word,
            )


def _check_order(config: DrpConfig) -> None:
    at_most = (
        ("event_timeout_s", "first_event_timeout_s", "the first event also compiles the script's kernels"),
        (
            "event_timeout_s",
            "stop_timeout_s",
            "an event that times out while drp stops must still be settled",
        ),
    )
    for small, large, why in at_most:
        if getattr(config, small) > getattr(config, large):
            option, other = _RANGES[small][0], _RANGES[large][0]
            raise ConfigError(
                f"is longer than {other} {getattr(config, large):g}: {why}",
                option=option,
                value=f"{getattr(config, small):g}",
                hint=f"Raise {other}, or lower {option}.",
            )
    if config.workers + config.spares > MAX_WORKERS:
        raise ConfigError(
            f"and -W {config.workers} are more than {MAX_WORKERS} processes",
            option="--spares",
            value=config.spares,
        )


def _check_control(config: DrpConfig) -> None:
    """Check what only a drp of a partition has, and what one has not."""
    if config.monitor is not None and config.offline:
        raise ConfigError(
            "is for live runs", option="--monitor", value=config.monitor, hint="Leave --offline out."
        )
    if config.control is None:
        alone: tuple[tuple[str, int | None], ...] = (
            ("--group", config.group),
            ("-k l1aOffset", config.first_event or None),
        )
        for option, value in alone:
            if value is not None:
                raise ConfigError(
                    "is for a drp of a partition", option=option, value=value, hint="Give -C as well."
                )
        return
    if config.alias is None:
        raise ConfigError(
            "needs to know which drp of the partition this is", option="-C", hint="Give -u DET_SEGMENT."
        )
    said_by_others: tuple[tuple[str, object, str], ...] = (
        ("--offline", config.offline, "control says when there are events"),
        ("--run", config.run, "control counts the runs"),
        ("--rate", config.rate_hz, "timing says when there is an event"),
        ("-n", config.events, "timing says when there is an event"),
        ("--monitor", config.monitor, "control says which mebs there are"),
        ("--loop", config.loop, "data begin again at their end"),
        ("--expt", config.expt, "control names the experiment"),
        ("--keep-if", config.keep_if is not None, "the teb decides for all"),
        ("--trigger", config.trigger, "the teb decides for all"),
    )
    for option, given, why in said_by_others:
        if given:
            raise ConfigError(f"is not for a drp of a partition: {why}", option=option, hint="Leave it out.")


def _check_constants(config: DrpConfig) -> None:
    if config.require_constants and not config.has_constants:
        raise ConfigError(
            "there is no source of constants", option="--require-constants", hint="Name one: --calib URL."
        )
    if config.calib_supervisor is None:
        return
    option = "--calib-supervisor"
    if config.offline:
        raise ConfigError("has nobody to share with", option="--offline", hint="Give --calib URL alone.")
    if config.alias is None:
        raise ConfigError("needs to know which drp this is", option=option, hint="Give -u DET_SEGMENT.")
    if config.calib_key is None:
        raise ConfigError(
            "needs a key file", option=option, hint="Make one with calib key FILE, and give --calib-key FILE."
        )
    if config.supervises and config.calib is None:
        raise ConfigError(
            "this drp is the supervisor, and has no source of constants",
            option=option,
            hint="Give --calib URL.",
        )


def _check_trigger(config: DrpConfig) -> None:
    option = "--keep-if" if config.keep_if is not None else "--trigger"
    if config.offline and (config.trigger or config.keep_if is not None):
        raise ConfigError(
            "is for live runs: with --offline all events are kept", option=option, hint="Leave out --offline."
        )
    if config.keep_if is not None:
        if config.trigger:
            raise ConfigError("and --trigger both decide", option=option, hint="Leave one of them out.")
        try:
            Conditions.parse(config.keep_if)
        except ConditionError as error:
            raise ConfigError(str(error), option="--keep-if") from None
    elif config.prescale and not config.trigger:
        raise ConfigError(
            "keeps events that a trigger does not want, and there is none",
            option="--prescale",
            value=config.prescale,
            hint='Give one, as in --keep-if "npeaks > 15".',
        )


def parse_supervisor(text: str) -> tuple[str, str]:
    """Return alias and address of `ALIAS@tcp://HOST:PORT`. Raises ConfigError."""
    match = _SUPERVISOR.fullmatch(text)
    if match is None or _ALIAS.fullmatch(match[1]) is None:
        raise ConfigError(
            "names no supervisor",
            option="--calib-supervisor",
            value=text,
            hint="Give the alias of the drp that is it, and where it listens: jungfrau_0@tcp://HOST:PORT.",
        )
    return match[1], match[2]


def parse_size(text: str, option: str) -> int:
    """Return the bytes of `text`: a number with k, M, G or T for powers of 1024. Raises ConfigError naming
    `option`.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "is not a size", option=option, value=text, hint="Give bytes, or a number with k, M, G or T."
        )
    size = float(match[1]) * _UNITS[match[2].lower()]
    if size > MAX_SIZE_BYTES:
        raise ConfigError("is out of range", option=option, value=_short(text))
    return int(size)


def _short(text: str) -> str:
    """Return the text, or the beginning of one that nobody wants to see whole."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def parse_room(text: str) -> Room:
    """Return the room of `--fex-room`: `25%` of the largest raw dgram, or a size. Raises ConfigError."""
    stripped = text.strip()
    if not stripped.endswith("%"):
        return Room(size_bytes=parse_size(stripped, "--fex-room"))
    try:
        return Room(share=float(stripped[:-1]) / 100)
    except ValueError:
        raise ConfigError(
            "is not a share", option="--fex-room", value=text, hint="Give one such as 25%."
        ) from None


def parse_alias(text: str) -> tuple[str, int]:
    """Return detector name and segment of an alias `<detector>_<segment>`. Raises ConfigError."""
    match = _ALIAS.fullmatch(text)
    if match is None:
        raise ConfigError(
            "is no alias", option="-u", value=text, hint="Give <detector>_<segment>, such as epixhr_0."
        )
    return match[1], int(match[2])


def _yes_no(text: str, option: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ConfigError("must be yes or no", option=option, value=text)
    return text.lower() == "yes"


def _count(text: str, option: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ConfigError("is not a whole number below 1e18", option=option, value=_short(text))
    return int(text)


def _python_only(text: str, option: str) -> str:
    if text != "python":
        raise ConfigError(
            "is not available: this drp runs Python scripts", option=option, value=text, hint="Give python."
        )
    return text


def _text(text: str, option: str) -> str:
    if not text:
        raise ConfigError("has no value", option=option)
    return text


def _file(text: str, option: str) -> tuple[str]:
    return (_text(text, option),)


KEYS: dict[str, tuple[str | None, Callable[[str, str], Any]]] = {
    "drp": (None, _python_only),
    "pythonScript": ("script", _text),
    "pebbleBufSize": ("pebble_slot_bytes", parse_size),
    "pebbleBufCount": ("pebble_slots", _count),
    "trBufSize": ("transition_bytes", parse_size),
    "batching": (None, _yes_no),
    "directIO": (None, _yes_no),
    "chunkSize": ("chunk_bytes", parse_size),
    "xtcfile": ("sources", _file),
    "l1aOffset": ("first_event", _count),
}
"""The `-k` keys: which field of DrpConfig each sets (None: only checked), and what reads its value."""

WITHOUT_EFFECT: dict[str, str] = {
    "batching": "events are handed over in batches wherever that costs no latency",
    "directIO": "files are written through the page cache, from one staging buffer in whole dgrams",
}
"""Keys of LCLS's drp that are taken and change nothing here, and why."""

_FABRIC = "it belongs to libfabric"
_PGP = "it belongs to the PGP card and its detectors"
_PVA = "it belongs to the EPICS PVA drp"
_EMULATED = "the simulator takes its place (--source sim:TYPE)"
ABSENT_KEYS: dict[str, str] = {
    **dict.fromkeys(("forceEnet", "ep_fabric", "ep_domain", "ep_provider"), _FABRIC),
    **dict.fromkeys(("sim_length", "sw_sim_length", "timebase", "xpmpv", "feb_lane", "feb_channel"), _PGP),
    **dict.fromkeys(("ttreffile", "hsd_epics_prefix", "strm_limit", "epics_prefix"), _PGP),
    **dict.fromkeys(("segNums", "slsHosts", "ttpv", "ttpv_minp"), _PGP),
    **dict.fromkeys(("simxtc", "simxtc2", "simtime", "imgArray"), _EMULATED),
    "pva_addr": _PVA,
}
"""Keys of LCLS's drp that mean nothing here, and why."""


def parse_keys(arguments: Iterable[str]) -> dict[str, Any]:
    """Return the fields of DrpConfig that `-k` arguments set, each argument `key=value[,key=value]...`; `notes` tells of keys without effect.

    Raises ConfigError for a key that is unknown (with the near misses), given twice with two values, not
    available here, or whose value cannot be read.
    """
    found: dict[str, str] = {}
    for item in (item.strip() for argument in arguments for item in argument.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigError("is not key=value", option="-k", value=item or None)
        _check_key(key)
        if found.get(key, value) != value:
            raise ConfigError(f"is given twice, as {found[key]} and as {value}", option=f"-k {key}")
        found[key] = value
    out: dict[str, Any] = {}
    for key, value in found.items():
        name, read = KEYS[key]
        parsed = read(value, f"-k {key}")
        if name is not None:
            out[name] = parsed
    out["notes"] = tuple(
        f"-k {key} is understood and has no effect: {WITHOUT_EFFECT[key]}"
        for key in found
        if key in WITHOUT_EFFECT
    )
    return out


def _check_key(key: str) -> None:
    if key in KEYS:
        return
    option = f"-k {key}"
    if key in ABSENT_KEYS:
        raise ConfigError(
            f"is not available in this drp: {ABSENT_KEYS[key]}", option=option, hint="Leave it out."
        )
    near = difflib.get_close_matches(key.lower(), {known.lower(): known for known in KEYS}, n=3, cutoff=0.5)
    names = [known for known in KEYS if known.lower() in near]
    hint = f"Did you mean {' or '.join(names)}?" if names else f"The keys are {', '.join(KEYS)}."
    raise ConfigError("is no key that drp knows", option=option, hint=hint)

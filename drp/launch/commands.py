"""From a process of the file to the command that is started here: LCLS's programs are translated, the others taken as they are.

What needs hardware or is a window of LCLS's is named and left out; options that steer hardware are named and left off. Prefixes (`taskset`, `env`,
`nice`, `chrt`, `numactl`) are kept where this machine can do what they ask. Nothing is started, and no shell has a part in it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drp.launch.plan import LOCAL, UNUSED_KEYS, LaunchError, Plan, Process, near, words_of

RESERVED_CORES = 4
OURS = ("drp", "teb", "meb", "timing", "control", "daqstate", "calib", "configdb")
SAYS_READY = frozenset({"control", "timing", "teb", "meb", "drp"})
"""Programs that tell when they stand."""
TRANSLATED = {"monReqServer": "meb"}
WINDOWS = (
    "xpmpva",
    "groupca",
    "control_gui",
    "configdb_GUI",
    "daqstat",
    "procstat",
    "pvrtmon",
    "epics_exporter",
)
HARDWARE = ("drp_pva", "drp_bld", "drp_udpencoder", "drp_gpu", "epicsArch")
_AMI = re.compile(r"ami-\w+")
_TIMING_TYPE = "ts"
_TIMING = "drp -D ts"
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")

# Options that steer what is not here, by LCLS's program: how many words follow each, and why it is left off.
_CARD = "it is of a PGP card"
_SERVER = "it is of LCLS's servers"
_LEFT_OFF: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "drp": {"-d": (1, _CARD), "-l": (1, _CARD)},
    _TIMING: {
        "-d": (1, _CARD),
        "-l": (1, _CARD),
        "-D": (1, "timing is of this type"),
        "-W": (1, "timing has no workers"),
        "-S": (1, "timing has no serial number"),
        "-k": (1, "timing has no such settings"),
    },
    "monReqServer": {"-d": (0, "frames go to every viewer"), "-q": (1, "viewers have queues of their own")},
    "control": {
        "-B": (1, "there are no EPICS variables"),
        "-x": (1, "there is no XPM"),
        "-V": (1, _SERVER),
        "--url": (1, _SERVER),
        "--user": (1, _SERVER),
        "--password": (1, _SERVER),
    },
}
_KEYS_LEFT_OFF = re.compile(
    r"ep_\w+|forceEnet|pva_addr|(sw_)?sim_length|timebase|xpmpv|feb_lane|feb_channel|interface|mon_throttle"
)


@dataclass(frozen=True, slots=True)
class Command:
    """What is started for a process: words and environment. `skipped` says why nothing is, `kind` is the program's name, `notes` are for the user.

    It is stopped with SIGINT if `interrupts`, and tells when it stands if `says_ready`.
    """

    id: str
    kind: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    interrupts: bool = False
    says_ready: bool = False
    notes: tuple[str, ...] = ()
    skipped: str = ""


def commands_of(plan: Plan, ids: Sequence[str] = (), *, here: bool = False) -> list[Command]:
    """Return the commands of processes of `plan`; with `here` those of other machines too, as if they were of this one.

    Raises LaunchError that names all processes of other machines, and for a program that is not there.
    """
    chosen = plan.select(ids)
    away = [f"{one.id} ({one.host})" for one in chosen if not here and not is_this_machine(one.host)]
    if away:
        raise LaunchError(
            f"processes of other machines cannot be started from here yet: {', '.join(away)}",
            place=plan.path,
            hint="Leave them out by naming the ids to start, or start all on this machine with --here.",
        )
    station = _station_of_control(plan)
    return [command_of(one, plan, here=here, station=station) for one in chosen]


def command_of(process: Process, plan: Plan, *, here: bool = False, station: str = "") -> Command:
    """Return the command of one process, at `station` where it names none itself. Raises LaunchError where its program is not there."""
    place = f"{plan.path}, process {process.id}"
    notes = [f"{key} has no effect: {UNUSED_KEYS[key]}" for key, _ in process.unused]
    prefix, env, rest = _split_prefix(words_of(process.cmd, place), notes)
    if not rest:
        raise LaunchError("has no program in its cmd", place=place)
    program, arguments = rest[0], rest[1:]
    base = program.rpartition("/")[2]
    if why := _absent(base):
        return Command(process.id, base, skipped=why)
    kind = TRANSLATED.get(base, base)
    if kind == "drp" and _value_of(arguments, "-D") == _TIMING_TYPE:
        kind = "timing"
    if kind != base:
        notes.append(f"{base} is {kind} here")
    table = _LEFT_OFF.get(_TIMING if base != kind == "timing" else base, {})
    arguments = _left_on(table, arguments, notes, control=kind == "control", here=here)
    if base != kind == "timing" and "-o" in arguments:
        arguments = [*arguments, "--stream"]  # LCLS's is a drp, and records
    if process.cores is not None and kind == "drp" and _value_of(arguments, "-W") is None:
        arguments = [*arguments, "-W", str(max(1, process.cores - _reserved_cores()))]
    if kind in OURS:
        arguments = _at_station(arguments, station)
    if "p" in process.flags:
        arguments = [*arguments, "-p", str(plan.platform)]
    if "u" in process.flags:
        arguments = [*arguments, "-u", process.id]
    if "g" in process.flags:
        notes.append("flag g: all GPUs of this machine are to be seen, not one")
    if set("xX") & set(process.flags):
        notes.append("flags x and X open no terminal: what it prints is in its log")
    argv = (*_real_time(process, notes), *prefix, *_program(kind, program, place), *arguments)
    return Command(
        process.id,
        kind,
        argv,
        {**dict(process.env), **env},
        interrupts="s" in process.flags,
        says_ready=kind in SAYS_READY,
        notes=tuple(dict.fromkeys(notes)),
    )


def _station_of_control(plan: Plan) -> str:
    """Return the station of control's -P INSTRUMENT:STATION: in LCLS's files the others name the instrument alone, and belong to it all the same."""
    for one in plan.processes:
        _, _, rest = _split_prefix(words_of(one.cmd, f"{plan.path}, process {one.id}"), [])
        if rest and rest[0].rpartition("/")[2] == "control":
            return (_value_of(rest[1:], "-P") or "").partition(":")[2].lstrip("0")
    return ""


def _at_station(words: Sequence[str], station: str) -> list[str]:
    out = list(words)
    for number, word in enumerate(out[:-1]):
        if word == "-P" and station and ":" not in out[number + 1]:
            out[number + 1] += f":{station}"
    return out


def is_this_machine(host: str) -> bool:
    """Say whether a host's name is one of this machine's own."""
    own = socket.gethostname()
    return host in (LOCAL, "127.0.0.1", "::1", own, own.partition(".")[0], socket.getfqdn())


def _absent(base: str) -> str:
    if base in WINDOWS or _AMI.fullmatch(base):
        return f"{base} is not part of drp"
    return f"{base} needs hardware or EPICS, which is not here" if base in HARDWARE else ""


def _split_prefix(words: Sequence[str], notes: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the words before the program, the variables set among them, and the program with its arguments."""
    prefix: list[str] = []
    env: dict[str, str] = {}
    rest = list(words)
    while rest:
        if _ASSIGNMENT.match(rest[0]):
            name, _, env[name] = rest.pop(0).partition("=")
        elif rest[0] == "env" and len(rest) > 1 and not rest[1].startswith("-"):
            rest.pop(0)
        elif rest[0] in _PREFIXES:
            count = _length(rest)
            part, rest = rest[:count], rest[count:]
            if why := _cannot(part):
                notes.append(f"{shlex.join(part)} is left off: {why}")
            else:
                prefix += [shutil.which(part[0]) or part[0], *part[1:]]
        else:
            break
    return prefix, env, rest


_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "taskset": ("-c", "--cpu-list"),
    "nice": ("-n", "--adjustment"),
    "numactl": (),
    "chrt": (),
    "setarch": (),
    "stdbuf": (),
}
"""Programs that run another, and their options that take a word of their own."""


def _length(words: Sequence[str]) -> int:
    """Return how many words a prefix has, at the beginning of `words`."""
    takes = _PREFIXES[words[0]]
    count = 1
    while count < len(words) and words[count].startswith("-"):
        count += 2 if words[count] in takes else 1
    if words[0] == "taskset" and not set(words[1:count]) & set(takes):
        count += 1  # the mask
    if words[0] == "chrt":
        count += 1  # the priority
    return min(count, len(words))


def _cannot(part: Sequence[str]) -> str:
    """Say why this machine cannot do what a prefix asks; empty where it can."""
    if shutil.which(part[0]) is None:
        return f"there is no {part[0]} here"
    if Path(part[0]).name not in ("taskset", "chrt"):
        return ""
    try:
        tried = subprocess.run([*part, "true"], capture_output=True, timeout=5, check=False, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode and tried.stderr.strip() else ""


def _left_on(
    table: Mapping[str, tuple[int, str]], words: Iterable[str], notes: list[str], *, control: bool, here: bool
) -> list[str]:
    """Return the arguments without those of the table, nor keys that steer what is not here."""
    out: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, joined = (
            (word[:2], word[2:]) if re.match(r"-[A-Za-z]", word) else (word.partition("=")[0], "")
        )
        if option in table and (not joined or table[option][0]):
            takes, why = table[option]
            value = [rest.pop(0)] if takes and not joined and "=" not in word and rest else []
            notes.append(f"{shlex.join([word, *value])} is left off: {why}")
        elif control and word == "-d" and rest and "://" in rest[0]:
            notes.append(f"{shlex.join([word, rest.pop(0)])} is left off: {_SERVER}")
        elif word == "-k" and rest:
            if kept := _keys_left_on(rest.pop(0), notes):
                out += ["-k", kept]
        elif word == "-C" and rest and not control and (here or is_this_machine(rest[0])):
            out += [word, LOCAL]
            rest.pop(0)
        elif rest and word in ("-p", "-u", "-P", "-o", "-M", "-D", "-S"):
            out += [word, rest.pop(0)]
        else:
            out.append(word)
    return out


def _keys_left_on(text: str, notes: list[str]) -> str:
    kept = []
    for item in text.split(","):
        key = item.partition("=")[0].strip()
        if _KEYS_LEFT_OFF.fullmatch(key):
            notes.append(f"-k {key}= is left off: it is of hardware or a network that is not here")
        else:
            kept.append(item)
    return ",".join(kept)


def _value_of(words: Sequence[str], option: str) -> str | None:
    for number, word in enumerate(words):
        if word == option and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(option) and len(word) > len(option):
            return word[len(option) :]
    return None


def _reserved_cores() -> int:
    text = os.environ.get("PS_DRP_N_RSV_CORES", "")
    return int(text) if text.isdecimal() else RESERVED_CORES


def _real_time(process: Process, notes: list[str]) -> list[str]:
    if process.rtprio is None:
        return []
    part = [shutil.which("chrt") or "chrt", "-f", str(process.rtprio)]
    if why := _cannot(part):
        notes.append(f"rtprio {process.rtprio} is left off: {why}")
        return []
    return part


def _program(kind: str, program: str, place: str) -> list[str]:
    """Return what starts a program: one of ours from beside this Python, another from PATH."""
    if kind in OURS:
        beside = Path(sys.executable).with_name(kind)
        if beside.is_file():
            return [str(beside)]
        return [sys.executable, "-c", f"import sys, drp_start; sys.exit(drp_start.{kind}())"]
    found = shutil.which(program)
    if found is None:
        raise LaunchError(f"there is no program {program}", place=place, hint=near(program, OURS))
    return [found]

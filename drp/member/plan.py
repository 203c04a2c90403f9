"""What control says to a drp, read and checked: its place in the partition, a Configure, a run.

Nothing of it is believed before it is looked at; what cannot be read is a MessageError, which control gets for an answer. No sockets here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drp.core.config import DrpConfig
from drp.core.errors import ConfigError, MessageError
from drp.core.wire import MAX_DRPS, MAX_GROUPS, MAX_MEBS, MAX_TEBS
from drp.link.sockets import Endpoint
from drp.sink.recorder import Output

_TYPED_JSON = "alg:RO"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another member: who it is and where it serves."""

    alias: str
    id: int
    endpoint: Endpoint
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a drp stands in a partition. `id` is its number among the drps, and that of its stream of files; `first`: it is the lowest."""

    id: int
    name: str
    first: bool
    platform: int
    group: int
    timing: Peer
    tebs: tuple[Peer, ...]
    mebs: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """One Configure: the configuration to reduce with, the typed JSON that its `config` is to hold (or ""), and the limit of phase 2."""

    epoch: int
    config: DrpConfig
    config_json: str
    phase2_s: float | None


def place_of(alloc: Mapping[str, Any], connect: Mapping[str, Any], group: int) -> Place:
    """Return what the bodies of alloc and connect say. `group`: the readout group that the drp has unless control gave it another."""
    members = connect.get("partition")
    if not isinstance(members, dict):
        raise MessageError("connect has no partition")
    timings = _peers(members, "timing", 1)
    if not timings:
        raise MessageError("the partition has no timing, so there are no triggers")
    number = alloc.get("id")
    if not isinstance(number, int) or not 0 <= number < MAX_DRPS:
        raise MessageError(f"{number!r} is no id of a drp, which is 0 to {MAX_DRPS - 1}")
    name = str(alloc.get("partition", ""))
    first = number <= min(_ids(members), default=number)
    platform = alloc.get("platform")
    if not isinstance(platform, int) or not 0 <= platform < MAX_GROUPS:
        raise MessageError(f"{platform!r} is no platform")
    tebs, mebs = _peers(members, "teb", MAX_TEBS), _peers(members, "meb", MAX_MEBS)
    group = alloc.get("readout", group)
    if not isinstance(group, int) or not 0 <= group < MAX_GROUPS:
        raise MessageError(f"{group!r} is no readout group")
    return Place(number, name, first, platform, group, timings[0], tebs, mebs)


def _ids(members: Mapping[str, Any]) -> list[int]:
    drps = members.get("drp", {})
    found = [one.get("id") for one in drps.values()] if isinstance(drps, dict) else []
    return [one for one in found if isinstance(one, int)]


def _peers(members: Mapping[str, Any], level: str, most: int) -> tuple[Peer, ...]:
    found = members.get(level, {})
    if not isinstance(found, dict) or len(found) > most:
        raise MessageError(f"the partition names its {level} as nobody can read it, or more than {most}")
    try:
        peers = [
            Peer(
                alias,
                int(one["id"]),
                Endpoint.from_dict(one["connect_info"]["endpoint"]),
                one["connect_info"],
            )
            for alias, one in found.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a {level} of the partition cannot be read: {error!r}") from None
    return tuple(sorted(peers, key=lambda one: one.id))


def configured(base: DrpConfig, body: Mapping[str, Any]) -> Configured:
    """Return what the body of configure says; a script that it names takes the place of that of -p. ConfigError: there is none."""
    epoch = body.get("epoch")
    if not isinstance(epoch, int) or epoch < 1:
        raise MessageError(f"{epoch!r} is no epoch")
    script = _mine(body.get("script"), base.alias)
    config = replace(base, control=None, group=None, first_event=0, out_dir=None)
    if script is not None:
        if not isinstance(script, list) or not script or not all(isinstance(one, str) for one in script):
            raise MessageError("a script is a list of texts: its path and its arguments")
        config = replace(config, script=script[0], script_args=tuple(script[1:]))
    if not config.script:
        raise ConfigError("there is no script", option="-p", hint="Give drp one, or name one with configure.")
    given = body.get("config")
    if isinstance(given, dict) and _TYPED_JSON not in given:
        given = _mine(given, base.alias)
    limit = body.get("phase2_s")
    return Configured(
        epoch,
        config,
        json.dumps(given) if given else "",
        float(limit) if isinstance(limit, int | float) else None,
    )


def _mine(value: Any, alias: str | None) -> Any:
    """Return what is for this drp of what may be for each by its alias."""
    return value.get(alias) if isinstance(value, dict) else value


def check_limits(config: DrpConfig, place: Place, phase2_s: float | None) -> None:
    """Raise ConfigError unless an event may take less than the event builder waits for it, and that less than control does for a transition."""
    for teb in place.tebs:
        builder_s = teb.info.get("eb_timeout_s")
        if not isinstance(builder_s, int | float):
            continue
        if config.event_timeout_s >= builder_s:
            raise ConfigError(
                f"is not below the {builder_s:g} s that {teb.alias} waits for an event: what takes long would be damaged before it is late",
                option="--event-timeout",
                value=f"{config.event_timeout_s:g}",
                hint=f"Lower it, or raise the time-out of {teb.alias}.",
            )
        if phase2_s is not None and builder_s >= phase2_s:
            raise ConfigError(
                f"{teb.alias} waits {builder_s:g} s for an event, and control {phase2_s:g} s for a transition, which comes after it",
                hint=f"Lower the time-out of {teb.alias}, or raise that of control (-T).",
            )


def output_of(base: DrpConfig, place: Place, body: Mapping[str, Any]) -> Output | None:
    """Return where beginrun says that the run is recorded, None where it is not."""
    info = body.get("run_info")
    if not isinstance(info, dict):
        raise MessageError("beginrun has no run_info")
    experiment, run = info.get("experiment_name"), info.get("run_number")
    if not isinstance(experiment, str) or not isinstance(run, int):
        raise MessageError("beginrun says neither experiment nor run number")
    if not body.get("record"):
        return None
    if base.out_dir is None:
        raise ConfigError(
            "the run is to be recorded, and there is no folder for it", option="-o", hint="Give one."
        )
    # The same checks as for a command line.
    checked = replace(base, control=None, group=None, first_event=0, expt=experiment, run=run)
    return Output(
        base.out_dir, base.instrument, checked.expt, checked.run, place.id, base.overwrite, base.chunk_bytes
    )

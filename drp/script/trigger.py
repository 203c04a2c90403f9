"""What a trigger script sees: `TriggerDataSource`, with the verbs of psdaq's tebTrigger and words by name.

Its stream is that of a drp's script with batches of built events for L1Accepts; the Configure holds who contributes, with which words, and what
the partition is, as JSON (`setup_dgram`). A script is run once for each Configure, and its events end with it, over all runs between.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from drp.core.batch import Contributor
from drp.script._trigger import Decider, Member, TriggerEvent
from drp.script.datasource import current_session
from drp.script.declare import Declaration
from drp.script.errors import ScriptError, UnknownNameError, near_misses
from drp.script.session import Session
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

SETUP = Names(1 << 8, "teb", "teb", "", 0, Alg("config", (1, 0, 0)), (Field("setup", DataType.CHARSTR, 1),))
VERDICTS = Declaration("teb", "teb", "", 0, "verdicts", (1, 0, 0), (("results", DataType.UINT32, 1),))
MARKED = frozenset(f"{name}:RO" for name in ("detName", "detType", "detId", "doc", "alg", "version"))
"""Keys of a configuration that psdaq leaves as they are, for they say of what it is one."""


def setup_dgram(
    contributors: Iterable[Contributor], connect: Mapping[str, Any], platform: int, timestamp: int
) -> bytes:
    """Return the Configure of a trigger script's stream. `connect`: what it is told of the partition, JSON-able."""
    told = {
        "contributors": [
            [one.id, one.alias, one.group, [list(word) for word in one.words]] for one in contributors
        ],
        "connect": json.dumps(connect),
        "platform": platform,
    }
    parts = [SETUP.encode(), encode_shapes_data(SETUP, (json.dumps(told),))]
    return encode_dgram(TransitionId.Configure, timestamp, parts, src=1)


class TriggerSession(Session):
    """A session whose events are batches, to be decided on."""

    contributors: tuple[Contributor, ...] = ()
    connect_json = "{}"
    platform = 0

    def configure(self) -> None:
        """Take the Configure in hand."""
        super().configure()
        (text,) = (one.value for one in self.setup.dgram.fields() if one.names.detname == SETUP.detname)
        told = json.loads(text)
        self.contributors = tuple(
            Contributor(number, alias, group, tuple((name, kind) for name, kind in words))
            for number, alias, group, words in told["contributors"]
        )
        self.connect_json, self.platform = told["connect"], told["platform"]

    def open(self) -> None:
        """Refuse a DataSource."""
        raise ScriptError(
            "this is the trigger of a partition: it has no datagrams",
            hint="Make a TriggerDataSource; or give the script to drp -p.",
        )

    def decide(self) -> Decider:
        """Return the stream of events for the script's TriggerDataSource."""
        super().open()
        return Decider(self.stream, self, self.contributors, self._declare(VERDICTS))

    def passed(self, service: int) -> bool:
        """Take note of a transition; True where the events end."""
        self.over = service < 0 or service in (TransitionId.Configure, TransitionId.Unconfigure)
        return self.over

    @property
    def left(self) -> bool:
        """Whether a script that ends now has left its event loop."""
        return self.asked and not self.over and not self.link.at_end

    @property
    def idle(self) -> bool:
        """False: a trigger script is given no event only where there are none."""
        return False


class TriggerDetector:
    """One contributor: `trigger(event)` makes `kind` of its payload."""

    def __init__(self, member: Member, kind: Any) -> None:
        self._member = member
        self._kind = kind

    def trigger(self, event: TriggerEvent) -> Any:
        """Return what the detector gave, None where it did not contribute to this event."""
        found = event.contribution(self._member)
        return None if found is None else self._kind(found.payload())


class TriggerDataSource:
    """The built events of a partition, each to be decided on once.

    `connect_json` and `connect_info` say who is in the partition, as psdaq's do; `args.p` is the platform.
    """

    def __init__(self) -> None:
        session = current_session()
        if not isinstance(session, TriggerSession):
            raise ScriptError(
                "there is no trigger around this script",
                hint="Run it with teb -p, on recorded files with teb -p --source, or with drp --trigger.",
            )
        self._session = session
        self._decider = session.decide()
        self.result = self._decider.result
        self.connect_json = session.connect_json
        self.connect_info: dict[str, Any] = json.loads(session.connect_json)
        self.args = Namespace(p=session.platform)

    @property
    def contributors(self) -> dict[str, tuple[str, ...]]:
        """The contributors by alias, each with the names of its trigger words."""
        return {one.alias: one.words for one in self._decider.members}

    def events(self) -> Decider:
        """Return the events, to iterate over; asking for the next one sends the decision on the last on its way."""
        self._session.asked = True
        return self._decider

    def detector(self, alias: str, kind: Any) -> TriggerDetector:
        """Return a contributor by alias, whose payloads are read by `kind` (TmoTebData, TimingTebData, ...).

        UnknownNameError: there is none.
        """
        for one in self._decider.members:
            if one.alias == alias:
                return TriggerDetector(one, kind)
        raise UnknownNameError(
            f"there is no contributor {alias!r}", hint=near_misses(alias, self.contributors)
        )

    def mebs(self, names: str | Iterable[str] | None = None) -> int:
        """Return the mask of all mebs, or of those in whose alias one of `names` is found."""
        wanted = None if names is None else [names] if isinstance(names, str) else list(names)
        mask = 0
        for one in self.connect_info.get("body", {}).get("meb", {}).values():
            if wanted is None or any(name in one["proc_info"]["alias"] for name in wanted):
                mask |= 1 << one["meb_id"]
        return mask


class CubeTriggerDataSource:
    """psdaq's trigger of data cubes, which is not there."""

    def __init__(self, config: Any = None) -> None:  # noqa: ARG002 - psdaq's signature
        raise ScriptError(
            "CubeTriggerDataSource is not there: no cubes are summed after the trigger",
            hint="Decide with TriggerDataSource, and sum with ds.reduce in the drp's script.",
        )


def get_config(connect_json: str, cfgtype: str, detname: str, detsegm: int) -> dict[str, Any]:
    """Return the configuration that the partition was configured with for `<detname>_<detsegm>`, as psdaq's get_config.

    The mark ":RO" is left off keys of values. ScriptError: there is none of this alias (`cfgtype`) and name.
    """
    control = json.loads(connect_json).get("body", {}).get("control", {}).get("0", {}).get("control_info", {})
    alias, configs = control.get("config_alias", ""), control.get("configs", {})
    name = f"{detname}_{detsegm}"
    if alias and cfgtype != alias:
        raise ScriptError(
            f"get_config: the partition is configured as {alias!r}, not {cfgtype!r}",
            hint=f"Ask for {alias!r}, or configure it as {cfgtype!r}.",
        )
    if name not in configs:
        raise ScriptError(
            f"get_config: there is no configuration of {name!r}", hint=near_misses(name, configs)
        )
    plain: dict[str, Any] = _without_marks(configs[name])
    return plain


def get_config_json(connect_json: str, cfgtype: str, detname: str, detsegm: int) -> str:
    """Return what get_config returns, as text."""
    return json.dumps(get_config(connect_json, cfgtype, detname, detsegm))


def _without_marks(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {
        key if key in MARKED else key.replace(":RO", ""): _without_marks(one) for key, one in node.items()
    }

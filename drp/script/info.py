"""What a script is told of the drp it runs in: `drp_info`, and how the detector it is about is found in a Configure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from drp.script.errors import ScriptError, UnknownNameError, near_misses
from xtc import Config, Names

ENVIRONMENT = ("epics", "scan")
BOOKKEEPING = frozenset(
    {
        "runinfo",
        "epicsinfo",
        "chunkinfo",
        "smdinfo",
        "stepinfo",
        "drpinfo",
        "drpledger",
        "drpcalib",
        *ENVIRONMENT,
    }
)
TRANSITION_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class DrpInfo:
    """The global `drp_info` of a script; attribute names are those of the LCLS-II DRP.

    `pebble_bufsize` and `transition_bufsize` are what kept raw and new data of an event and of a transition may come to, in bytes.
    """

    det_name: str = ""
    det_type: str = ""
    det_id: str = ""
    det_segment: int = 0
    worker_num: int = 0
    pebble_bufsize: int = 0
    transition_bufsize: int = TRANSITION_BYTES
    instrument: str = ""
    partition: int = 0
    alias: str = ""
    is_supervisor: bool = True
    ipc_info: Any = None
    tcp_socket_name: str = ""
    ipc_socket_name: str = ""
    prom_cfg_dir: str | None = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> DrpInfo:
        """Build from a JSON object; raise ScriptError for a key that is none of ours."""
        known = {one.name for one in fields(cls)}
        for key in given:
            if key not in known:
                raise ScriptError(f"drp_info has no {key!r}", hint=near_misses(key, known))
        return cls(**given)

    def with_sizes(self, event_bytes: int, transition_bytes: int) -> DrpInfo:
        """Return the same with other buffer sizes."""
        return replace(self, pebble_bufsize=event_bytes, transition_bufsize=transition_bytes)

    def completed(self, config: Config) -> DrpInfo:
        """Return the same with what the user left open about the detector taken from the Configure.

        Raises UnknownNameError where the user named a detector, or a segment of it, that the Configure does not have.
        """
        names = find_detector(config, self.det_name or None)
        if names is None:
            known = {one.detname for one in config.names.values()}
            if self.det_name and self.det_name not in known:
                raise UnknownNameError(
                    f"-u: the source has no detector {self.det_name!r}",
                    hint=near_misses(self.det_name, known - BOOKKEEPING),
                )
            return self
        if self.det_name:
            names = self._named(names.detname, config)
        return replace(
            self,
            det_name=names.detname,
            det_type=self.det_type or names.dettype,
            det_id=self.det_id or names.detid,
            det_segment=self.det_segment if self.det_name else names.segment,
            alias=self.alias or f"{names.detname}_{names.segment}",
        )

    def _named(self, detname: str, config: Config) -> Names:
        """Return the Names of the segment that the user named."""
        parts = {one.segment: one for raw in (False, True) for one in _detectors(config, detname, raw=raw)}
        if self.det_segment not in parts:
            listed = ", ".join(str(number) for number in sorted(parts))
            raise UnknownNameError(
                f"-u: detector {detname!r} has no segment {self.det_segment}",
                hint=f"It has {listed}: give -u {detname}_{min(parts)}.",
            )
        return parts[self.det_segment]


def _detectors(config: Config, name: str | None, *, raw: bool) -> list[Names]:
    """Return the Names of `name`, or of all detectors, that hold data; `raw`: only those of alg raw."""
    return [
        one
        for one in config.names.values()
        if one.detname not in BOOKKEEPING
        and (one.alg.name == "raw" if raw else one.alg.name != "config")
        and name in (None, one.detname)
    ]


def find_detector(config: Config, name: str | None = None) -> Names | None:
    """Return the Names a script is about: the first `raw` alg of `name` (default: of the first detector that has one).

    Of several segments it is the lowest. None where the Configure has no detector data at all.
    """
    raw = _detectors(config, name, raw=True) or _detectors(config, name, raw=False)
    if not raw:
        return None
    return min((one for one in raw if one.detname == raw[0].detname), key=lambda one: one.segment)

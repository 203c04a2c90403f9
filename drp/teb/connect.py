"""What a trigger script is told of its partition: the connect message of psdaq's collection, made of what ours knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drp.core.batch import Contributor


def connect_info(
    contributors: Iterable[Contributor],
    *,
    platform: int = 0,
    mebs: Mapping[str, int] | None = None,
    instrument: str = "",
    config_alias: str = "",
    configs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return it as an object for JSON.

    `mebs`: id by alias; `configs`: typed JSON by `<detector>_<segment>`, as `get_config` finds it for the alias `config_alias`.
    """
    control = {
        "instrument": instrument,
        "config_alias": config_alias,
        "cfg_dbase": "",
        "configs": dict(configs or {}),
    }
    drps = {
        str(one.id): {
            "proc_info": {"alias": one.alias},
            "drp_id": one.id,
            "det_info": {"readout": one.group},
            "active": 1,
        }
        for one in contributors
    }
    body: dict[str, Any] = {"control": {"0": {"control_info": control, "platform": platform}}, "drp": drps}
    if mebs:
        body["meb"] = {
            str(number): {"proc_info": {"alias": alias}, "meb_id": number, "active": 1}
            for alias, number in mebs.items()
        }
    return {"header": {"key": "connect"}, "body": body}

"""What a configuration becomes in a Configure: one Names of the alg `config`, and a ShapesData with its values, which psana shows as `det.config`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drp.configdb.errors import ConfigStoreError
from drp.configdb.typed import HEADERS, READ_ONLY, TYPES, check_typed, normalise
from xtc import Names
from xtc.from_json import json_to_names
from xtc.values import encode_shapes_data

ALG = "config"


def to_config_names(
    content: Mapping[str, Any],
    *,
    names_id: int,
    detname: str | None = None,
    segment: int = 0,
    dettype: str | None = None,
    detid: str | None = None,
) -> tuple[Names, list[object]]:
    """Return the Names and the value of each field for typed JSON, as segment `segment` of a detector; what is None is as the JSON says.

    Of keys that end in `:RO` that end is left off, as LCLS's detectors do. Raises ConfigStoreError where `content` is no typed JSON.
    """
    plain = _without_ending(normalise(content))
    given = {"detName:RO": detname, "detType:RO": dettype, "detId:RO": detid}
    plain |= {key: text for key, text in given.items() if text is not None}
    check_typed(plain)
    names, values = json_to_names(json.dumps(plain), names_id=names_id, segment=segment)
    return replace(names, alg=replace(names.alg, name=ALG)), values


def config_xtcs(content: Mapping[str, Any], *, names_id: int, **who: Any) -> tuple[bytes, bytes]:
    """Return the same as the Names Xtc and the ShapesData Xtc of a Configure; `who` as in `to_config_names`."""
    names, values = to_config_names(content, names_id=names_id, **who)
    return names.encode(), encode_shapes_data(names, values)


def _without_ending(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: content[key] for key in HEADERS if key in content}
    types = dict(content.get(TYPES, {}))
    kept_types = {key: types.pop(key) for key in HEADERS if key in types}
    rest = {key: value for key, value in content.items() if key not in HEADERS and key != TYPES}
    return {**kept, **_renamed(rest), TYPES: {**kept_types, **_renamed(types)}}


def _renamed(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_renamed(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    out = {key.removesuffix(READ_ONLY): _renamed(value) for key, value in tree.items()}
    if len(out) < len(tree):
        raise ConfigStoreError(
            f"has a name both with and without {READ_ONLY}: {', '.join(sorted(tree))[:200]}"
        )
    return out

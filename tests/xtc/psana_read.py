"""Run by a Python that has psana, not by pytest: print as JSON what psana.dgram.Dgram says of a file's
values.

psana_read.py FILE [CONFIGURE_FILE]

Uses nothing of the package. Prints per dgram: timestamp, service, env, damage and {det/seg/alg/field: [dtype,
shape, sha256] | value}.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from psana import dgram  # type: ignore[import-not-found,unused-ignore]


def leaves(container: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of what is below a container of psana."""
    for name in sorted(vars(container) if hasattr(container, "__dict__") else dir(container)):
        if name.startswith("_"):
            continue
        value = getattr(container, name)
        inner = f"{path}.{name}" if path else name
        if type(value).__name__ != "Container":
            yield inner, value
        elif hasattr(value, "names") and hasattr(value, "value") and isinstance(value.names, dict):
            yield inner, ["enum", value.value, {str(key): label for key, label in value.names.items()}]
        else:
            yield from leaves(value, inner)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    return value.hex() if isinstance(value, float) else value


def fields(one: Any) -> dict[str, Any]:
    """Return every value of a dgram by det/seg/alg/field."""
    out = {}
    for det, segments in vars(one).items():
        if det.startswith("_") or not isinstance(segments, dict):
            continue
        for segment, algs in segments.items():
            for alg in (name for name in dir(algs) if not name.startswith("_")):
                for field, value in leaves(getattr(algs, alg), ""):
                    out[f"{det}/{segment}/{alg}/{field}"] = plain(value)
    return out


def read(path: str, configure_path: str | None) -> Iterator[dict[str, Any]]:
    """Yield what psana says of each dgram of a file."""
    config, offset, raw = None, 0, Path(path).read_bytes()
    if configure_path:
        other = os.open(configure_path, os.O_RDONLY)
        config = dgram.Dgram(file_descriptor=other)
    while offset < len(raw):
        one = (
            dgram.Dgram(view=raw, offset=offset, config=config)
            if config
            else dgram.Dgram(view=raw, offset=offset)
        )
        if one.service() == 2:
            config = one
        yield {
            "timestamp": one.timestamp(),
            "service": one.service(),
            "env": one.env(),
            "damage": one._xtc.damage,
            "fields": fields(one),
        }
        offset += one._size


if __name__ == "__main__":
    json.dump(list(read(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)), sys.stdout)

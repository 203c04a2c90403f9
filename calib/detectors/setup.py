"""From a Configure to the setups of its detectors. It reads Names and values of one dgram, and knows no constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from calib.detectors.facts import DetectorSetup, Panel
from calib.detectors.types import correction_type
from xtc import Config, Dgram, Names

DATA_ALGS = ("raw", "fex")
"""Algs whose detectors can be calibrated; a detector's setup is that of the first it has."""


def setups_of(config: Config, dgram: Dgram | None = None) -> dict[str, DetectorSetup]:
    """Return the setup of each detector that has an alg `raw` or `fex`, by detector name.

    `dgram` is the Configure, from which each panel's configuration values are read (alg `config`); without it they are empty.
    """
    values = config_values(config, dgram) if dgram is not None else {}
    return setups(config.names, values)


def config_values(config: Config, dgram: Dgram) -> dict[int, dict[str, object]]:
    """Return copies of the values of each Names of alg `config` whose detector has data, by NamesId, then field; an enum's is its number."""
    wanted = {one.detname for one in config.names.values() if one.alg.name in DATA_ALGS}
    return {
        data.names_id: {
            field.label: value.copy() if isinstance(value, np.ndarray) else value
            for field, value in zip(data.names.fields, data.values(), strict=True)
        }
        for data in dgram.shapes_data()
        if data.names.alg.name == "config" and data.names.detname in wanted
    }


def setups(
    names: Mapping[int, Names], values: Mapping[int, Mapping[str, object]]
) -> dict[str, DetectorSetup]:
    """Return the setups of the detectors that Names (by NamesId) declare, with configuration values by NamesId."""
    configs = {
        (one.detname, one.segment): values.get(names_id, {})
        for names_id, one in names.items()
        if one.alg.name == "config"
    }
    found: dict[str, DetectorSetup] = {}
    for alg in DATA_ALGS:
        for detname in dict.fromkeys(one.detname for one in names.values() if one.alg.name == alg):
            if detname not in found:
                parts = [one for one in names.values() if (one.detname, one.alg.name) == (detname, alg)]
                found[detname] = _setup(sorted(parts, key=lambda one: one.segment), configs)
    return found


def _setup(parts: list[Names], configs: Mapping[tuple[str, int], Mapping[str, object]]) -> DetectorSetup:
    first = parts[0]
    panels = tuple(
        Panel(one.segment, one.detid, dict(configs.get((one.detname, one.segment), {}))) for one in parts
    )
    setup = DetectorSetup(first.detname, first.dettype, first.alg.name, first.alg.version, panels, (0, 0))
    return replace(setup, panel_shape=correction_type(setup).panel_shape)

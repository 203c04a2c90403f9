"""Configurations that tests use."""

from __future__ import annotations

import numpy as np

from drp.configdb import TypedConfig


def camera() -> TypedConfig:
    """A configuration with one of everything."""
    one = TypedConfig()
    one.setInfo("epixhr2x2", "epixhr", 0, "serial1234", "a camera")
    one.setAlg("config", [2, 0, 1], "what it is")
    one.define_enum("gainEnum", {"high": 0, "low": 3})
    one.set("user.gain", 3, "gainEnum")
    one.set("user.delay_ns", 97, "UINT32")
    one.set("user.rate", 1, "FLOAT")
    one.set("help:RO", "how to use it", "CHARSTR")
    one.set("expert.map", np.arange(6, dtype=np.uint8).reshape(2, 3))
    one.set("expert.asic.0.vref", 1.5, "DOUBLE")
    one.set("expert.asic.1.vref", 2.5, "DOUBLE")
    one.set("firmwareBuild:RO", "-", "CHARSTR")
    return one

"""Typed JSON, and what it becomes in a Configure."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from drp.configdb import ConfigStoreError, TypedConfig, check_typed, config_xtcs, merge, to_config_names
from drp.configdb.typed import normalise
from tests.configdb.configurations import camera
from xtc import Dgram
from xtc.config import Config
from xtc.kinds import TransitionId
from xtc.records import encode_dgram


def test_calls_of_cdict_make_typed_json() -> None:
    content = camera().typed_json()
    assert content["detName:RO"] == "epixhr_0"
    assert content["alg:RO"] == {"alg:RO": "config", "doc:RO": "what it is", "version:RO": [2, 0, 1]}
    assert content["user"] == {"gain": 3, "delay_ns": 97, "rate": 1.0}
    assert content["expert"] == {"map": [0, 1, 2, 3, 4, 5], "asic": [{"vref": 1.5}, {"vref": 2.5}]}
    types = content[":types:"]
    assert types[":enum:"] == {"gainEnum": {"high": 0, "low": 3}}
    assert types["user"] == {"gain": "gainEnum", "delay_ns": "UINT32", "rate": "FLOAT"}
    assert types["expert"] == {"map": ["UINT8", 2, 3], "asic": {"vref": "DOUBLE"}}


def test_values_are_read_back_by_their_paths() -> None:
    one = camera()
    assert one.get("user.delay_ns") == 97
    assert one.get("expert.asic.1.vref") == 2.5
    assert one.get("expert.map").dtype == np.uint8
    assert one.get("expert.map").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert one.get("user.nothing") is None
    assert one.get("expert.asic.2.vref") is None
    assert TypedConfig(one.typed_json()).typed_json() == one.typed_json()


def test_what_has_a_type_keeps_it_unless_it_is_overridden() -> None:
    one = camera()
    one.set("user.delay_ns", 5, "INT32")
    assert one.typed_json()[":types:"]["user"]["delay_ns"] == "UINT32"
    with pytest.raises(ConfigStoreError, match=r"user.delay_ns: has type UINT32, not CHARSTR"):
        one.set("user.delay_ns", "five")
    with pytest.raises(ConfigStoreError, match=r"has type \['UINT8', 2, 3\]"):
        one.set("expert.map", np.zeros(4, np.uint8))
    one.set("user.delay_ns", "five", override=True)
    assert one.typed_json()[":types:"]["user"]["delay_ns"] == "CHARSTR"


@pytest.mark.parametrize(
    ("name", "value", "kind", "said"),
    [
        ("a", 256, "UINT8", "256 does not fit UINT8, 0..255"),
        ("a", 1.5, "INT32", "1.5 does not fit INT32"),
        ("a", 1, "UINT23", "a number cannot be of type UINT23"),
        ("user.gain", 1, "gainEnum", "1 is no value of the enum gainEnum"),
        ("a", [1, 2], "gainEnum", "a list cannot be of type gainEnum"),
        ("a", [1, 300], "UINT8", "does not fit UINT8"),
        ("a", np.zeros(2, bool), "UINT8", "an array of bool has no type"),
        ("a..b", 1, "UINT8", "is no path of names"),
        ("0.b", 1, "UINT8", "is no path of names"),
        ("user.gain.more", 1, "UINT8", "goes through what is a value"),
        ("expert.asic.7.vref", 1.0, "DOUBLE", "has no element 7 yet: the next is 2"),
        ("expert.asic.1", 1, "UINT8", "an index is not the name of a value"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any, kind: str, said: str) -> None:
    with pytest.raises(ConfigStoreError, match=said):
        camera().set(name, value, kind)


@pytest.mark.parametrize(
    "content", [None, [], {}, {"a": 1}, {**camera().typed_json(), "b": 3}, {"a": object()}]
)
def test_what_is_no_typed_json_is_refused(content: Any) -> None:
    with pytest.raises(ConfigStoreError):
        check_typed(content)


def test_whole_numbers_that_others_write_for_floats_become_floats() -> None:
    content = camera().typed_json()
    content["user"]["rate"] = 2
    content["expert"]["asic"][0]["vref"] = 3
    with pytest.raises(ConfigStoreError, match="a DOUBLE with a fraction"):
        check_typed(content)
    mended = normalise(content)
    check_typed(mended)
    assert type(mended["user"]["rate"]) is float
    assert mended["expert"]["asic"] == [{"vref": 3.0}, {"vref": 2.5}]
    assert mended["user"]["delay_ns"] == 97
    assert type(mended["user"]["delay_ns"]) is int


def test_one_that_refers_to_another_has_the_rest_from_there() -> None:
    calib = TypedConfig()
    calib.setAlg("config", [2, 0, 1])
    calib.set("_cfgTypeRef", "BEAM", "CHARSTR")
    calib.define_enum("rateEnum", {"slow": 1})
    calib.set("user.delay_ns", 1, "UINT32")
    calib.set("user.speed", 1, "rateEnum")
    whole = merge(calib.typed_json(), camera().typed_json())
    check_typed(whole)
    assert whole["user"] == {"gain": 3, "delay_ns": 1, "rate": 1.0, "speed": 1}
    assert set(whole[":types:"][":enum:"]) == {"gainEnum", "rateEnum"}
    assert "_cfgTypeRef" not in whole
    assert "_cfgTypeRef" not in whole[":types:"]


def test_one_of_another_version_cannot_be_inherited_from() -> None:
    other = camera()
    other.setAlg("config", [3, 0, 0])
    with pytest.raises(ConfigStoreError, match=r"version \[2, 0, 1\], that .* \[3, 0, 0\]"):
        merge(camera().typed_json(), other.typed_json())


def test_a_configure_has_it_as_the_config_alg() -> None:
    content = camera().typed_json()
    content["alg:RO"]["alg:RO"] = "epixhrConfig"
    names, values = to_config_names(
        content, names_id=0x105, detname="epixhr", segment=3, dettype="epixhr", detid="x"
    )
    assert (names.detname, names.segment, names.dettype, names.detid) == ("epixhr", 3, "epixhr", "x")
    assert (names.alg.name, names.alg.version) == ("config", (2, 0, 1))
    fields = {field.label: value for field, value in zip(names.fields, values, strict=True)}
    assert fields["help"] == "how to use it"
    assert fields["expert.asic_1.vref"] == 2.5
    parts = config_xtcs(content, names_id=0x105, detname="epixhr", segment=3)
    dgram = Dgram(encode_dgram(TransitionId.Configure, 0, parts))
    assert Config(dgram).find("epixhr", "config").segment == 3


def test_a_name_with_and_without_its_ending_cannot_be_told_apart() -> None:
    one = camera()
    one.set("help", "another", "CHARSTR")
    with pytest.raises(ConfigStoreError, match="both with and without :RO"):
        to_config_names(one.typed_json(), names_id=1)


def test_typed_json_is_plain_json() -> None:
    content = camera().typed_json()
    assert json.loads(json.dumps(content)) == content


def test_one_without_a_name_needs_one_in_a_configure() -> None:
    one = TypedConfig()
    content = one.typed_json()
    assert to_config_names(content, names_id=1, detname="epixhr")[0].detname == "epixhr"
    with pytest.raises(ConfigStoreError, match="a detName is not a name"):
        to_config_names(content, names_id=1, detname="epix hr")

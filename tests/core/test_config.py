"""The configuration refuses what cannot work, and says which option to change."""

import dataclasses
from dataclasses import fields

import pytest

from drp.core.config import (
    ABSENT_KEYS,
    DEFAULT_TRANSITION_BYTES,
    KEYS,
    MAX_SLOT_BYTES,
    WITHOUT_EFFECT,
    DrpConfig,
    Room,
    parse_alias,
    parse_keys,
    parse_room,
    parse_size,
    transition_room,
)
from drp.core.errors import ConfigError


def test_a_transition_has_room_for_the_sums_of_a_dark_run_unless_the_user_says() -> None:
    pixels = 20 * 144 * 768
    slot, room = transition_room(None, 1000, 2 * pixels, Room())
    assert slot == DEFAULT_TRANSITION_BYTES
    assert room > pixels * (3 * 28 + 4)
    assert transition_room(None, 1000, 1 << 30, Room()) == (DEFAULT_TRANSITION_BYTES, MAX_SLOT_BYTES)
    assert transition_room(1 << 20, 1000, 2 * pixels, Room()) == (1 << 20, 1 << 20)
    assert transition_room(1 << 20, 4 << 20, 2 * pixels, Room()) == ((4 << 20) + (64 << 10),) * 2


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4096", 4096),
        ("64k", 65536),
        ("1.5M", 3 << 19),
        ("2GiB", 2 << 30),
        ("3 MB", 3 << 20),
        ("1t", 1 << 40),
    ],
)
def test_sizes_take_units_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text, "--x") == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-3", "4x", "1e9", "0x10"])
def test_what_is_not_a_size_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--worker-memory.*is not a size"):
        parse_size(text, "--worker-memory")


def test_keys_set_their_fields_over_several_arguments() -> None:
    assert parse_keys(
        ["drp=python,pythonScript=a.py", "pebbleBufSize=4M,batching=no", "trBufSize=8388608"]
    ) == {
        "script": "a.py",
        "pebble_slot_bytes": 4 << 20,
        "notes": (f"-k batching is understood and has no effect: {WITHOUT_EFFECT['batching']}",),
        "transition_bytes": 8 << 20,
    }
    assert {name for name, _ in KEYS.values() if name} <= {one.name for one in fields(DrpConfig)}


def test_unknown_key_names_its_near_misses() -> None:
    with pytest.raises(ConfigError, match=r"-k pebbleBufsize: .*Did you mean pebbleBufSize"):
        parse_keys(["pebbleBufsize=3"])
    with pytest.raises(
        ConfigError, match=r"-k zzz: is no key that drp knows. The keys are drp, pythonScript"
    ):
        parse_keys(["zzz=3"])


@pytest.mark.parametrize("key", ABSENT_KEYS)
def test_keys_of_absent_hardware_say_what_they_belong_to(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"-k {key}: is not available in this drp: .* Leave it out"):
        parse_keys([f"{key}=1"])


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("batching", "is not key=value"),
        ("", "is not key=value"),
        ("batching=perhaps", "-k batching perhaps: must be yes or no"),
        ("drp=gpu", "-k drp gpu: is not available"),
        ("pebbleBufCount=many", "not a whole number"),
        ("pythonScript=", "has no value"),
        ("trBufSize=1M,trBufSize=2M", "is given twice, as 1M and as 2M"),
    ],
)
def test_malformed_keys_are_told_apart(argument: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_keys([argument])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"workers": 0}, "-W 0: is out of range"),
        ({"platform": 8}, "-p 8: is out of range"),
        ({"events": 0}, "-n 0"),
        ({"rate_hz": -1.0}, "--rate -1"),
        ({"event_timeout_s": 0.0}, "--event-timeout 0"),
        (
            {"event_timeout_s": 90.0, "stop_timeout_s": 100.0},
            "--event-timeout 90: is longer than --first-event-timeout 60",
        ),
        ({"event_timeout_s": 20.0}, "--event-timeout 20: is longer than --stop-timeout 10"),
        ({"pebble_slots": 1}, "-k pebbleBufCount 1"),
        ({"transition_bytes": 100}, "-k trBufSize 100"),
        ({"fex_room": Room(share=-1)}, "--fex-room: is out of range"),
        ({"script": ""}, "-p: there is no script"),
        ({"sources": ()}, "--source: there is no source"),
        ({"instrument": "../x"}, "-P ../x: may hold letters"),
        ({"expt": ""}, "--expt"),
        ({"workers": 250, "spares": 10}, "--spares 10: and -W 250 are more than 256"),
    ],
)
def test_values_out_of_range_or_at_odds_are_refused_by_option(change: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(DrpConfig("a.py"), **change)
    assert text in str(caught.value)


def test_alias_splits_at_its_last_underscore() -> None:
    assert parse_alias("epix_hr_12") == ("epix_hr", 12)
    assert DrpConfig("a.py", det_name="epix_hr", det_segment=12).alias == "epix_hr_12"
    for wrong in ("epixhr", "epixhr_", "_3", "epix-hr_1"):
        with pytest.raises(ConfigError, match="is no alias"):
            parse_alias(wrong)


def test_room_is_a_share_with_a_floor_or_a_size() -> None:
    assert parse_room("25%").of(4 << 20) == 1 << 20
    assert parse_room("25%").of(1000) == 64 << 10
    assert parse_room("4k").of(1 << 30) == 4096
    with pytest.raises(ConfigError, match="--fex-room"):
        parse_room("x%")

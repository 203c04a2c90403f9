"""What the commands of a partition take in common, and which sockets follow from it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from drp.cli.partition import Partition, kwargs_of, parser, partition_of
from drp.core.errors import ConfigError
from drp.link.keys import Keys, LinkError


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def partition(*words: str) -> Partition:
    return partition_of(parser("teb", "x").parse_args(words), default_alias="teb0")


def test_a_partition_on_one_machine_is_in_the_run_directory(tmp_path: Path) -> None:
    made = partition("-P", "tst:1", "-p", "3", "-u", "teb1", "-C", "localhost")
    assert (made.name, made.alias, made.bind) == ("tst-s1-p3", "teb1", None)
    assert made.control.address == f"ipc://{tmp_path}/drp/control-tst-s1-p3.ipc"
    assert len({made.control, made.clients, made.status}) == 3


def test_this_machine_by_its_own_name_needs_no_keys() -> None:
    assert partition("-C", socket.gethostname()).control.address.startswith("ipc://")


def test_with_keys_the_partition_is_on_tcp(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path / "keys")
    made = partition("-C", "daq1", "-p", "2", "--keys", str(tmp_path / "keys"))
    assert made.control.address == "tcp://daq1:29982"
    assert made.control.key == keys.server_public
    assert made.bind == f"tcp://{socket.gethostname()}:*"
    assert (
        partition("--keys", str(tmp_path / "keys")).clients.address == f"tcp://{socket.gethostname()}:30000"
    )


def test_another_machine_without_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match="control keys DIR"):
        partition("-C", "daq1")


@pytest.mark.parametrize(
    "words", [["-P", "../x"], ["-P", "tst:a"], ["-p", "8"], ["-u", "a/b"], ["-x"], ["-P", ""]]
)
def test_what_names_no_partition_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        partition(*words)


def test_keys_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no keys"):
        partition("--keys", str(tmp_path / "none"))


def test_settings_are_read_by_key() -> None:
    options = parser("teb", "x").parse_args(["-k", "a=1,b=x=y", "-k", "c=2"])
    assert kwargs_of(options) == {"a": "1", "b": "x=y", "c": "2"}


@pytest.mark.parametrize("text", ["a", "=1", "a=1,a=2"])
def test_settings_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="-k"):
        kwargs_of(parser("teb", "x").parse_args(["-k", text]))

"""The store of configurations: nothing is lost, and nothing is half done."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.configdb import ConfigStoreError, TypedConfig
from drp.configdb.store import ConfigPath, ConfigStore, default_path

CAMERA = ConfigPath("tst", "BEAM", "epixhr_0")


def content(number: int, refer: str = "") -> dict[str, Any]:
    one = TypedConfig()
    one.setAlg("config", [1, 0, 0])
    if refer:
        one.set("_cfgTypeRef", refer, "CHARSTR")
    else:
        one.set("other", 7, "UINT32")
    one.set("number", number, "UINT32")
    return one.typed_json()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConfigStore]:
    with ConfigStore(tmp_path / "c.sqlite", create=True, now=lambda: 1000.0) as one:
        yield one


def test_what_is_put_is_there(store: ConfigStore, tmp_path: Path) -> None:
    key = store.put(CAMERA, content(1), comment="first")
    assert store.get(CAMERA) == content(1)
    (found,) = store.below(ConfigPath())
    assert (found.key, str(found.path), found.created, found.comment) == (
        key,
        "tst/BEAM/epixhr_0",
        1000.0,
        "first",
    )
    with ConfigStore(tmp_path / "c.sqlite") as again:
        assert again.get(CAMERA) == content(1)


def test_history_keeps_all_and_rollback_brings_one_back(store: ConfigStore) -> None:
    keys = [store.put(CAMERA, content(number)) for number in (1, 2)]
    store.remove(CAMERA)
    assert [one.content and one.content["number"] for one in store.history(CAMERA)] == [None, 2, 1]
    assert store.get(CAMERA, keys[0])["number"] == 1
    with pytest.raises(ConfigStoreError, match="there is no such configuration"):
        store.get(CAMERA)
    new = store.rollback(CAMERA, keys[0])
    assert store.get(CAMERA)["number"] == 1
    assert store.history(CAMERA)[0].key == new
    with pytest.raises(ConfigStoreError, match="it had no configuration with key 999"):
        store.rollback(CAMERA, 999)


def test_copying_and_moving_an_alias_takes_all_of_its_devices(store: ConfigStore) -> None:
    other = ConfigPath("tst", "BEAM", "timing_0")
    store.put(CAMERA, content(1))
    store.put(other, content(2))
    assert {str(one) for one in store.copy(ConfigPath("tst", "BEAM"), ConfigPath("tst", "NOBEAM"))} == {
        "tst/NOBEAM/epixhr_0",
        "tst/NOBEAM/timing_0",
    }
    store.copy(ConfigPath("tst", "NOBEAM"), ConfigPath("tst", "CALIB"), move=True)
    assert [str(one.path) for one in store.below(ConfigPath("tst"))] == [
        f"tst/{alias}/{device}" for alias in ("BEAM", "CALIB") for device in ("epixhr_0", "timing_0")
    ]
    assert store.history(ConfigPath("tst", "NOBEAM", "epixhr_0"))[0].comment == "is tst/CALIB/epixhr_0 now"


def test_a_copy_onto_what_is_there_changes_nothing_at_all(store: ConfigStore) -> None:
    store.put(CAMERA, content(1))
    store.put(ConfigPath("tst", "BEAM", "a_0"), content(1))
    store.put(ConfigPath("tst", "CALIB", "epixhr_0"), content(2))
    with pytest.raises(ConfigStoreError, match="tst/CALIB/epixhr_0: is there already"):
        store.copy(ConfigPath("tst", "BEAM"), ConfigPath("tst", "CALIB"))
    assert len(store.below(ConfigPath("tst", "CALIB"))) == 1
    with pytest.raises(ConfigStoreError, match="of the same length, and differ"):
        store.copy(CAMERA, ConfigPath("tst", "CALIB"))


def test_one_that_refers_to_another_alias_is_resolved(store: ConfigStore) -> None:
    calib = ConfigPath("tst", "CALIB", "epixhr_0")
    store.put(calib, content(9, refer="BEAM"))
    with pytest.raises(ConfigStoreError, match="refers to tst/BEAM/epixhr_0, which is not there"):
        store.resolved(calib)
    store.put(CAMERA, content(1))
    found = store.of_alias("tst", "CALIB")
    assert (found["epixhr_0"]["number"], found["epixhr_0"]["other"]) == (9, 7)
    assert store.of_device(calib) == found["epixhr_0"]
    assert store.of_device(ConfigPath("tst", "CALIB", "timing_0")) is None
    store.put(CAMERA, content(1, refer="CALIB"))
    with pytest.raises(ConfigStoreError, match="which refers to another"):
        store.resolved(calib)
    store.put(calib, content(1, refer="CALIB"))
    with pytest.raises(ConfigStoreError, match="refers to itself"):
        store.resolved(calib)


def test_a_store_is_this_users_only_and_is_not_made_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.sqlite"
    with pytest.raises(ConfigStoreError, match="there is no store of configurations"):
        ConfigStore(path)
    ConfigStore(path, create=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_file_is_no_store(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database" * 100)
    with pytest.raises(ConfigStoreError, match="not a database"):
        ConfigStore(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(ConfigStoreError, match=r"no such table.*Is this a store of configdb"):
        ConfigStore(other)
    with pytest.raises(ConfigStoreError, match="this is no file"):
        ConfigStore(tmp_path)


@pytest.mark.parametrize("text", ["tst/BEAM/a_0/b", "tst/../x", "tst/BEAM/a b", "tst/-x"])
def test_a_path_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigStoreError, match="is no path of a configuration"):
        ConfigPath.parse(text)
    with pytest.raises(ConfigStoreError, match="HUTCH/ALIAS/DEVICE"):
        ConfigPath.parse("tst/BEAM", whole=True)


def test_what_is_no_typed_json_is_not_put(store: ConfigStore) -> None:
    with pytest.raises(ConfigStoreError, match="tst/BEAM/epixhr_0: is no typed JSON"):
        store.put(CAMERA, {"a": 1})
    assert store.below(ConfigPath()) == []


def test_where_it_is_kept_may_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("DRP_CONFIGDB", raising=False)
    assert default_path() == tmp_path / "drp" / "configdb.sqlite"
    monkeypatch.setenv("DRP_CONFIGDB", "/x/c")
    assert default_path() == Path("/x/c")

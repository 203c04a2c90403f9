"""Constants in one file: what goes out comes in again, and what others made is not believed."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_checks import FOUR, PIXELS, pedestals

from calib import Constant, DetectorId, StoreError
from calib.store import open_store, read_archive, write_archive

STATUS = Constant.make("pixel_status", np.zeros((3, 4, 2, 5), np.uint64), FOUR.serials, run=1, run_end=9)
GEOMETRY = Constant.make("geometry", "IP 0 \u00e9\n", experiment="exp", version="V", comment="c", created=5.5)
ONE_PANEL = DetectorId("quad", "epix10ka", ("q",))


def archive(*items: tuple[DetectorId, Constant]) -> io.BytesIO:
    file = io.BytesIO()
    write_archive(file, items or [(FOUR, pedestals()), (FOUR, STATUS), (ONE_PANEL, GEOMETRY)])
    file.seek(0)
    return file


def test_what_goes_out_comes_in() -> None:
    back = list(read_archive(archive(), "here"))
    assert [detector for detector, _ in back] == [FOUR, FOUR, ONE_PANEL]
    for (_, got), put in zip(back, [pedestals(), STATUS, GEOMETRY], strict=True):
        assert np.array_equal(got.value, put.value)
        for field in (
            "ctype",
            "serials",
            "experiment",
            "run",
            "run_end",
            "version",
            "comment",
            "created",
            "digest",
        ):
            assert getattr(got, field) == getattr(put, field)


def test_equal_payloads_are_written_once_and_can_be_read_by_numpy_alone() -> None:
    file = archive((FOUR, pedestals(run=1)), (FOUR, pedestals(run=2)))
    with zipfile.ZipFile(file) as held:
        (name,) = [one for one in held.namelist() if one.endswith(".npy")]
        assert np.array_equal(np.load(io.BytesIO(held.read(name)), allow_pickle=False), PIXELS)


def test_an_import_adds_all_or_nothing_and_nothing_twice(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "a.sqlite"), create=True) as one:
        one.put(FOUR, [pedestals(), STATUS])
        one.put(ONE_PANEL, [GEOMETRY])
        file = io.BytesIO()
        write_archive(
            file,
            [(DetectorId(r.detname, r.detector.dettype, r.panels), one.get(r.id)) for r in one.history()],
        )
    with open_store(str(tmp_path / "b.sqlite"), create=True) as other:
        assert len(other.put_all(read_archive(file, "x"), again=False)) == 3
        assert other.put_all(read_archive(file, "x"), again=False) == []
        assert len(other.history()) == 3
        broken = broken_archive(lambda head: head["constants"][2].update(digest="0" * 64))
        with pytest.raises(StoreError, match="constant 2"):
            other.put_all(read_archive(broken, "x"))
        assert len(other.history()) == 3


def broken_archive(
    change: Callable[[dict[str, Any]], object] = lambda _: None,
    members: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> io.BytesIO:
    """Return an archive whose manifest was changed, and in which members were replaced (by the end of their names)."""
    changed = io.BytesIO()
    with zipfile.ZipFile(archive()) as whole, zipfile.ZipFile(changed, "w", compression) as out:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "manifest.json":
                head = json.loads(data)
                change(head)
                data = json.dumps(head).encode()
            for end, other in (members or {}).items():
                if name.endswith(end):
                    data = other
            out.writestr(name, data)
    changed.seek(0)
    return changed


def npy(array: np.ndarray, **change: Any) -> bytes:
    """Return an array as .npy, with other words in its header."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | change
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


SMALL = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    "members",
    [
        {".npy": b""},
        {".npy": b"not numpy"},
        {".npy": npy(SMALL, shape=(1 << 40,))},
        {".npy": npy(SMALL, shape=(-1, 3))},
        {".npy": npy(SMALL, shape=(3, 1 << 62, 1 << 62))},
        {".npy": npy(SMALL, shape=(2,))},
        {".npy": npy(SMALL, shape=(4,))},
        {".npy": npy(SMALL, descr="|O")},
        {".npy": npy(SMALL, descr=[("a", "<f4")])},
        {".npy": npy(SMALL, fortran_order=True)},
        {".npy": npy(SMALL, shape="__import__('os')")},
        {".npy": npy(SMALL)},
        {".txt": b"\xff\xfe"},
        {".txt": b"another geometry"},
        {"manifest.json": b""},
        {"manifest.json": b"[" * 100_000},
        {"manifest.json": b"[]"},
        {"manifest.json": b"\xff"},
        {"manifest.json": b'{"format": "calib-export", "version": 1, "constants": [7]}'},
        {"manifest.json": b'{"format": "calib-export", "version": 1, "constants": [{}]}'},
    ],
)
def test_payloads_that_are_not_what_they_say_are_refused(members: dict[str, bytes]) -> None:
    with pytest.raises(StoreError, match="here"):
        list(read_archive(broken_archive(members=members), "here"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", "../../../etc/passwd"),
        ("digest", 7),
        ("dtype", 7),
        ("ctype", "unheard"),
        ("ctype", None),
        ("serials", ["w", "x", "y"]),
        ("serials", ["w", "w", "x", "y"]),
        ("serials", {"w": 1}),
        ("serials", [1, 2, 3, 4]),
        ("serials", None),
        ("run", -1),
        ("run", 1.5),
        ("run", True),
        ("run_end", 0),
        ("created", "now"),
        ("detector", 5),
        ("experiment", None),
    ],
)
def test_entries_that_make_no_sense_are_refused(field: str, value: object, tmp_path: Path) -> None:
    file = broken_archive(lambda head: head["constants"][0].update({field: value}))
    with (
        open_store(str(tmp_path / "a.sqlite"), create=True) as store,
        pytest.raises(StoreError, match=r"constant 0|serial"),
    ):
        store.put_all(read_archive(file, "here"))


@pytest.mark.parametrize("data", [b"", b"PK", b"\0" * 100, b"PK\x05\x06" + b"\0" * 18])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="here"):
        list(read_archive(io.BytesIO(data), "here"))


def test_a_bomb_is_not_let_off() -> None:
    bomb = broken_archive(members={"manifest.json": b" " * (80 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb.getvalue()) < 1 << 20
    with pytest.raises(StoreError, match="larger"):
        list(read_archive(bomb, "here"))


def test_a_truncated_or_flipped_archive_is_refused() -> None:
    whole = archive().getvalue()
    for end in range(0, len(whole), 97):
        with pytest.raises(StoreError):
            list(read_archive(io.BytesIO(whole[:end]), "here"))
    good = [constant.digest for _, constant in read_archive(io.BytesIO(whole), "here")]
    for at in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[at] ^= 0x55
        try:
            back = list(read_archive(io.BytesIO(flipped), "here"))
        except StoreError:
            continue
        assert [constant.digest for _, constant in back] == good

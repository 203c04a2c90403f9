"""Constants in one file to carry elsewhere: a zip archive of `manifest.json` and a `.npy` or `.txt` for each payload.

An archive comes from outside and is not believed: names are made from digests and never looked up on the disk, nothing is unpacked or
unpickled, every size is checked before memory is taken, and every payload against its digest.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from calib.errors import CalibError, StoreError
from calib.model import CTYPES, MAX_TEXT_BYTES, MAX_VALUE_BYTES, Constant, DetectorId, Value

KIND = "calib-export"
FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
MAX_CONSTANTS = 100_000
_CHUNK = 1 << 20
_HINT = "Take an archive that calib export made."

Item = tuple[DetectorId, Constant]


def write_archive(file: IO[bytes], items: Iterable[Item]) -> int:
    """Write constants to an open file; equal payloads are written once. Returns how many constants it holds."""
    entries: list[dict[str, Any]] = []
    written: set[str] = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for detector, constant in items:
            entry = _entry(detector, constant)
            entries.append(entry)
            name = _member(entry)
            if name in written:
                continue
            written.add(name)
            with archive.open(name, "w", force_zip64=True) as member:
                if isinstance(constant.value, str):
                    member.write(constant.value.encode())
                else:
                    npy.write_array(member, constant.value, allow_pickle=False)
        head = {"format": KIND, "version": FORMAT, "constants": entries}
        archive.writestr(MANIFEST, json.dumps(head, indent=1))
    return len(entries)


def read_archive(file: IO[bytes], where: str) -> Iterator[Item]:
    """Yield the constants of an archive, one in memory at a time. Raises StoreError naming what is wrong with it."""
    try:
        with zipfile.ZipFile(file) as archive:
            for number, entry in enumerate(_manifest(archive)):
                try:
                    yield _item(archive, entry)
                except (KeyError, TypeError, ValueError, CalibError) as error:
                    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                    raise StoreError(f"constant {number}: {why}", where=where, hint=_HINT) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StoreError(f"this is no archive of constants: {error}", where=where, hint=_HINT) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"its {MANIFEST} cannot be used: {error}", where=where, hint=_HINT) from error


def _entry(detector: DetectorId, constant: Constant) -> dict[str, Any]:
    value = constant.value
    return {
        "detector": detector.name,
        "dettype": detector.dettype,
        "serials": list(detector.serials),
        "ctype": constant.ctype,
        "experiment": constant.experiment,
        "run": constant.run,
        "run_end": constant.run_end,
        "version": constant.version,
        "comment": constant.comment,
        "created": constant.created,
        "dtype": "" if isinstance(value, str) else value.dtype.str,
        "shape": [] if isinstance(value, str) else list(value.shape),
        "digest": constant.digest,
    }


def _member(entry: dict[str, Any]) -> str:
    return f"payloads/{entry['digest']}.{'npy' if entry['dtype'] else 'txt'}"


def _manifest(archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    head = json.loads(_read(archive, MANIFEST, MAX_MANIFEST_BYTES))
    if not isinstance(head, dict) or head.get("format") != KIND:
        raise ValueError("it does not say that this is an export")
    if head.get("version") != FORMAT:
        raise ValueError(f"it has version {head.get('version')!r}, this calib reads {FORMAT}")
    entries = head.get("constants")
    if not isinstance(entries, list) or len(entries) > MAX_CONSTANTS:
        raise ValueError(f"it lists no constants, or more than {MAX_CONSTANTS}")
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("an entry is no object")
    return entries


def _item(archive: zipfile.ZipFile, entry: dict[str, Any]) -> Item:
    if not isinstance(entry["serials"], list):
        raise TypeError("serials are a list")
    serials = tuple(_text(one, "serials") for one in entry["serials"])
    detector = DetectorId(_text(entry["detector"], "detector"), _text(entry["dettype"], "dettype"), serials)
    ctype = _text(entry["ctype"], "ctype")
    digest = _text(entry["digest"], "digest")
    _text(entry["dtype"], "dtype")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"{digest[:80]!r} is no digest")
    run, run_end, created = entry["run"], entry["run_end"], entry["created"]
    if type(run) is not int or type(run_end) not in (int, type(None)) or type(created) not in (int, float):
        raise TypeError("run, run_end and created are numbers")
    kind = CTYPES.get(ctype)
    constant = Constant.make(
        ctype,
        _value(archive, entry, is_text=kind is not None and kind.dtype is None),
        serials if kind is not None and kind.per_pixel else (),
        experiment=_text(entry["experiment"], "experiment"),
        run=run,
        run_end=run_end,
        version=_text(entry["version"], "version"),
        comment=_text(entry["comment"], "comment"),
        created=float(created),
    )
    if constant.digest != digest:
        raise ValueError(f"the payload of {ctype} is not what was exported: its digest differs")
    return detector, constant


def _value(archive: zipfile.ZipFile, entry: dict[str, Any], *, is_text: bool) -> Value:
    name = _member(entry)
    if is_text:
        return _read(archive, name, MAX_TEXT_BYTES).decode()
    with archive.open(name) as member:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has a version that is not read here")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(member)
        if dtype.kind not in "fiub" or fortran:
            raise ValueError(f"{name} is no plain array of numbers in C order")
        size = dtype.itemsize * int(np.prod([1, *shape], dtype=object))
        held = archive.getinfo(name).file_size
        if not 0 <= size <= MAX_VALUE_BYTES or not size <= held <= size + (64 << 10):
            raise ValueError(f"{name} of {held} bytes says that it holds {shape} of {dtype}")
        buffer = np.empty(size, np.uint8)
        at = 0
        while at < size:
            data = member.read(min(_CHUNK, size - at))
            if not data:
                raise ValueError(f"{name} ends too early")
            buffer[at : at + len(data)] = np.frombuffer(data, np.uint8)
            at += len(data)
        if member.read(1):
            raise ValueError(f"{name} is longer than it says")
    return buffer.view(dtype).reshape(shape)


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(name) as member:
        data = member.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} is larger than {limit} bytes")
    return data


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not {type(value).__name__}")
    return value

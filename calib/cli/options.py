"""What several subcommands share: their options, and how a store, a detector, a run range and a file are read from them."""

from __future__ import annotations

import argparse
import re
import time
import warnings
from pathlib import Path

import numpy as np

from calib.errors import CalibError, ConstantsMisshapen, StoreError
from calib.model import CTYPES, MAX_TEXT_BYTES, DetectorId, Value, known_ctype
from calib.panels import detector_in
from calib.service.documents import document_number
from calib.store import Record, Store, default_url, open_store
from xtc import Config, Reader, TransitionId, XtcError

DIGEST_CHARS = 12
SERVICE_ID_CHARS = 24
_DIGEST = re.compile(r"[0-9a-f]{1,64}\Z")
_RANGE = re.compile(r"(\d{1,9})(?:(-)(\d{1,9})?)?\Z")


def add_store(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --store."""
    parser.add_argument(
        "--store", metavar="URL", help="where constants are kept (default: $DRP_CALIB, else a file of yours)"
    )


def add_token(parser: argparse.ArgumentParser) -> None:
    """Add --token-file, for writing through a service."""
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the service's token, where --store is a service"
    )


def add_detector(
    parser: argparse.ArgumentParser, metavar: str = "DET", what: str = "detector name, such as jungfrau"
) -> None:
    """Add the ways to say which panels a detector has."""
    parser.add_argument("detector", metavar=metavar, help=what)
    parser.add_argument("--type", metavar="TYPE", help="detector type (default: the name)")
    panels = parser.add_mutually_exclusive_group()
    panels.add_argument(
        "--serials",
        type=_serials,
        metavar="A,B,...",
        help="serial numbers of the panels, in the order of the array",
    )
    panels.add_argument(
        "--from-config", type=Path, metavar="FILE", help="take type and serial numbers from an xtc2 file"
    )


def store_url(arguments: argparse.Namespace) -> str:
    """Return where constants are kept."""
    return arguments.store or default_url()


def is_service(url: str) -> bool:
    """Say whether an address is that of a service."""
    return url.startswith(("http://", "https://"))


def open_own(arguments: argparse.Namespace, *, create: bool = False) -> Store:
    """Open the store of a subcommand that needs the store itself. Raises StoreError for a service."""
    url = store_url(arguments)
    if is_service(url):
        raise StoreError(
            f"calib {arguments.command} needs the store itself, not a service",
            where=url,
            hint="Run it where the store is.",
        )
    return open_store(url, create=create)


def the_detector(arguments: argparse.Namespace) -> DetectorId:
    """Return the detector that the options name, without serials where they name none."""
    if arguments.from_config:
        path = arguments.from_config
        try:
            dgram = next(iter(Reader(path)), None)
            if dgram is None or dgram.service != TransitionId.Configure:
                raise CalibError(
                    "it does not begin with a whole Configure, as a recorded run does",
                    where=str(path),
                    hint="Name an xtc2 file, the first chunk of a run.",
                )
            return detector_in(Config(dgram), arguments.detector)
        except XtcError as error:
            raise CalibError(str(error)) from error
    if arguments.serials is None:
        return DetectorId(arguments.detector, arguments.type or "")
    return DetectorId(arguments.detector, arguments.type or arguments.detector, arguments.serials)


def frame_in(path: Path, detname: str) -> tuple[int, int] | None:
    """Return rows and columns of the frames that a file's first event has of a detector (alg raw); None where it has none of two axes."""
    try:
        for dgram in Reader(path):
            if dgram.service == TransitionId.L1Accept:
                shapes = {
                    field.value.shape
                    for field in dgram.fields()
                    if (field.names.detname, field.names.alg.name) == (detname, "raw")
                    and isinstance(field.value, np.ndarray)
                    and field.value.ndim == 2
                }
                return shapes.pop() if len(shapes) == 1 else None
    except XtcError:
        return None
    return None


def _serials(text: str) -> tuple[str, ...]:
    serials = tuple(one.strip() for one in text.split(","))
    if not all(serials):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty serial number: give A or A,B,...")
    return serials


def run_range(text: str) -> tuple[int, int | None]:
    """Read `10`, `10-` (both for ever) or `10-20`."""
    found = _RANGE.match(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of runs: give 10, or 10-20")
    return int(found[1]), int(found[3]) if found[3] else None


def run_number(text: str) -> int:
    """Read the number of a run, 0 for the latest."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a run")
    return int(text)


def record_id(text: str) -> int:
    """Read the id of a constant: our number, or what a `calib serve` makes of it for its documents."""
    number = (
        document_number(text) if len(text) == SERVICE_ID_CHARS else int(text) if text.isdecimal() else None
    )
    if number is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no id of a constant: give a number, or the 24 digits of a calib serve"
        )
    return number


def digest_start(text: str) -> str:
    """Read a SHA-256 in hexadecimal digits, or the beginning of one."""
    start = text.lower()
    if not _DIGEST.match(start):
        raise argparse.ArgumentTypeError(f"{text!r} is no digest: give its first hexadecimal digits")
    return start


def load_value(path: Path, ctype: str) -> Value:
    """Return what a file holds for a type of constant: `.npy`, or text. Raises ConstantsMisshapen."""
    kind = known_ctype(ctype)
    try:
        if path.suffix == ".npy":
            value: Value = np.load(path, allow_pickle=False)
        elif kind.dtype is None:
            with path.open("rb") as file:
                value = file.read(MAX_TEXT_BYTES + 1).decode()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # of a file without numbers
                value = np.loadtxt(path)
    except (ValueError, EOFError, MemoryError, UserWarning) as error:
        raise ConstantsMisshapen(
            f"it cannot be read: {error}",
            where=str(path),
            hint="Arrays are read from .npy files as numpy.save writes them, or from text with a number for each pixel.",
        ) from error
    return value


def ctype_help() -> str:
    """Return the names of all types, for help texts."""
    return ", ".join(CTYPES)


def describe(record: Record) -> str:
    """Return a record as a line of a table."""
    runs = f"{record.run}-" if record.run_end is None else f"{record.run}-{record.run_end}"
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
    line = (
        f"{record.id:6d}  {record.detname:<12} {record.detector.short_name:<18} {record.ctype:<13} "
        f"{record.experiment or '-':<14} {runs:<10} {when}  {record.username:<8} {short_digest(record)}  {describe_value(record)}"
    )
    said = " ".join(one for one in (record.version, record.comment) if one)
    return f"{line}  {said}" if said else line


def short_digest(record: Record) -> str:
    """Return the beginning of a digest that tables show."""
    return record.digest[:DIGEST_CHARS]


def describe_value(record: Record) -> str:
    """Return dtype and shape, or the size of a text."""
    return (
        f"{np.dtype(record.dtype).name} {record.shape}"
        if record.dtype
        else f"text of {record.size_bytes} bytes"
    )

"""Fuzz the reader, the check and `from-json` with atheris, which the tests do not need and so do not install:

    pip install atheris
    python -m tests.xtc.atheris_decoder CORPUS -runs=300000 -max_len=4096

CORPUS is a folder, made if it is not there: inputs to begin with are put into it, and those that led somewhere new are added.
Atheris follows the paths an input takes through the Python of `xtc`. It does not see into the compiled modules, where the walk over extents
and shapes is: there this is random mutation of inputs that got far in the rest, which `test_fuzz` does too, a million times. Every
input lies before a page without access. What is neither read nor refused with an XtcError ends the run; the input is then in `crash-*`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["xtc"]):
    from tests.xtc import builders as b
    from tests.xtc.guard import GuardedBuffer
    from tests.xtc.hostile import corpus
    from tests.xtc.test_cli import DOCUMENT
    from xtc import Scan, XtcError
    from xtc.check import check_dgram
    from xtc.dump import dgram_record
    from xtc.from_json import json_to_dgram

MAX_BYTES = 1 << 16
GUARD = GuardedBuffer(MAX_BYTES)


def read(raw: bytes) -> None:
    """Read a file to its end, describe every dgram, and list what is wrong with it."""
    try:
        for dgram in Scan(GUARD.place(raw)):
            list(check_dgram(dgram, dgram.config))
            dgram_record(dgram)
    except XtcError:
        pass


def convert(raw: bytes) -> None:
    """Make a dgram of JSON, and read it if that went well."""
    try:
        made = json_to_dgram(raw.decode(errors="replace"))
    except XtcError:
        return
    if len(made) <= MAX_BYTES:
        read(made)


def test_one_input(raw: bytes) -> None:
    """The first byte says what the rest is."""
    (convert if raw[:1] == b"{" else read)(raw[:MAX_BYTES])


def main() -> None:
    """Run with the options of libFuzzer; the corpus of hostile files is where it begins."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    seeds = [b.small_file(2), json.dumps(DOCUMENT).encode(), *(case.raw for case in corpus())]
    for number, raw in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(raw[:MAX_BYTES])
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Cut a file down to the dgrams that are whole: what a killed writer or a broken copy left behind becomes a
file that every reader takes.

Nothing is changed or added: a Configure that declares nonsense, values that do not fit and a missing EndRun
stay as they are. What is at fault in the values is the business of `xtc.check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xtc.errors import XtcError
from xtc.reader import Reader


@dataclass(frozen=True, slots=True)
class WholePart:
    """What a file begins with: whole dgrams, their bytes, and the fault that ends them (None: nothing does)."""

    dgrams: int
    size_bytes: int
    fault: XtcError | None


def whole_part(reader: Reader) -> WholePart:
    """Return how far the dgrams of a file are whole, every extent in them checked."""
    count, end = 0, 0
    scan = reader.scan()
    try:
        for dgram in scan:
            dgram.shapes_data()
            count, end = count + 1, dgram.offset + dgram.size
    except XtcError as fault:
        return WholePart(count, end, fault)
    if scan.tail is None:
        return WholePart(count, end, None)
    offset, have, need = scan.tail
    tail = XtcError("the last dgram is cut off", path=reader.path, offset=offset, expected=need, found=have)
    return WholePart(count, end, tail)


def cut_file(source: str | Path, target: str | Path) -> WholePart:
    """Copy the whole dgrams at the beginning of `source` to the new file `target`, and return what they are.

    Raises XtcError where there is none, OSError where `target` exists or cannot be written; nothing is left
    of it then.
    """
    target = Path(target)
    with Reader(source) as reader:
        part = whole_part(reader)
        if not part.dgrams:
            raise part.fault or XtcError("the file is empty", path=reader.path)
        with target.open("xb") as file:
            try:
                file.write(reader.view[: part.size_bytes])
                file.flush()
            except BaseException:
                target.unlink(missing_ok=True)
                raise
    return part

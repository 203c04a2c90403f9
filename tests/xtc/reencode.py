"""Write a dgram again from what was read of it: every Names and every value through the package's own writer.

Run as a script with a source and a target it does so for a whole file; `--config` names the file of the
Configure.
"""

from __future__ import annotations

from pathlib import Path

from xtc import Damage, Dgram, Names, Reader, TypeId, encode_dgram, encode_shapes_data, encode_xtc


def reencode(dgram: Dgram) -> bytes:
    """Return the dgram made anew; Parents stay nested, what no reader enters is copied."""
    payload = [bytes(dgram.view[24:])] if dgram.damage & Damage.Corrupted else _below(dgram, -1)
    return encode_dgram(
        dgram.service,
        dgram.timestamp,
        payload,
        env=dgram.env,
        src=dgram.src,
        damage=dgram.damage,
        contains=dgram.contains,
    )


def _below(dgram: Dgram, parent: int) -> list[bytes]:
    shapes = {one.offset: one for one in dgram.shapes_data()}
    out = []
    for index, xtc in enumerate(dgram.xtcs()):
        if xtc.parent != parent:
            continue
        raw = bytes(dgram.view[xtc.offset : xtc.offset + xtc.extent])
        if xtc.type == TypeId.Parent and not xtc.damage & Damage.Corrupted:
            out.append(encode_xtc(TypeId.Parent, _below(dgram, index), src=xtc.src, damage=xtc.damage))
        elif xtc.type == TypeId.Names:
            out.append(Names.decode(raw).encode())
        elif xtc.type == TypeId.ShapesData:
            one = shapes[xtc.offset]
            out.append(encode_shapes_data(one.names, one.values(), damage=one.damage))
        else:
            out.append(raw)
    return out


def reencode_file(source: Path, target: Path, configure: Path | None = None) -> None:
    """Write `source` anew as `target`; `configure` is the file whose Configure a later chunk follows."""
    config = Reader(configure).config if configure else None
    with target.open("wb") as file:
        for dgram in Reader(source, config=config):
            file.write(reencode(dgram))

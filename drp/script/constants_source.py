"""Where constants come from, by an address: a store or a service, as `calib` opens them, or the simulator, which knows its own.

What is opened is imported only then. It knows no detector and no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drp.core.errors import SourceError
from drp.source.simoptions import CAMERA_KINDS, parse

if TYPE_CHECKING:
    from calib import Source

SIMULATED = "sim"


def open_constants(address: str) -> Source:
    """Open constants to read: `sim:...`, with the truth of the simulated detector, or an address of `calib.open_source`.

    Raises SourceError, StoreError or ServiceError where there is none.
    """
    if _is_simulated(address):
        from drp.source.simconstants import SimulatedConstants  # noqa: PLC0415 - only who calibrates pays for numba

        return SimulatedConstants(address)
    from calib import open_source  # noqa: PLC0415 - as above, for stores and services

    return open_source(address)


def check_constants(address: str) -> None:
    """Raise what `open_constants` would where an address is none; nothing is opened or asked."""
    if _is_simulated(address):
        parse(address.partition(":")[2])
        return
    from calib.opening import check_address  # noqa: PLC0415 - as above

    check_address(address)


def constants_of_simulator(sources: Sequence[str]) -> str | None:
    """Return the address of the constants of a simulated camera, where that is the one source of events; else None."""
    if len(sources) != 1 or not _is_simulated(sources[0]):
        return None
    try:
        options = parse(sources[0].partition(":")[2])
    except SourceError:
        return None  # told where the source is opened
    return sources[0] if options.kind in CAMERA_KINDS else None


def _is_simulated(address: str) -> bool:
    return address == SIMULATED or address.startswith(f"{SIMULATED}:")

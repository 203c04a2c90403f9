"""Numbers with units, as people read them in the summary and on the status line. Decimal units, three
digits.
"""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P")
_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))


def si(value: float, unit: str) -> str:
    """Return `value` with its unit and a decimal prefix: 1234567, "B/s" gives "1.23 MB/s"."""
    step = 0
    while abs(value) >= 999.5 and step < len(_PREFIXES) - 1:
        value, step = value / 1000, step + 1
    return f"{_digits(value)} {_PREFIXES[step]}{unit}".rstrip()


def duration(ns: float) -> str:
    """Return a time in nanoseconds as "1.23 ms"."""
    for size, name in _TIMES:
        if ns >= size:
            return f"{_digits(ns / size)} {name}"
    return f"{ns:.0f} ns"


def _digits(value: float) -> str:
    if value == int(value) or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"

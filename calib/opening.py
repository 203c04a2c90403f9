"""One way to open a source of constants, by its address. What it opens is imported only then."""

from __future__ import annotations

from importlib import import_module

from calib.model import Source


def open_source(url: str) -> Source:
    """Open constants to read: a file's path or `sqlite:///...`, `postgresql+psycopg://...`, or `http(s)://...` of a service.

    Raises StoreError or ServiceError where there is none.
    """
    over_http = url.startswith(("http://", "https://"))
    module, opener = ("calib.service", "open_service") if over_http else ("calib.store", "open_store")
    source: Source = getattr(import_module(module), opener)(url)
    return source

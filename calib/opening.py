"""One way to open a source of constants, by its address. What it opens is imported only then."""

from __future__ import annotations

from calib.model import Source

SERVICES = ("http://", "https://")


def check_address(url: str) -> None:
    """Raise StoreError or ServiceError, as `open_source` would, where an address is none; nothing is opened or asked."""
    if url.startswith(SERVICES):
        from calib.service.client import base_of  # noqa: PLC0415 - as below

        base_of(url)
    else:
        from calib.store.engine import parse_url  # noqa: PLC0415 - as below

        parse_url(url)


def open_source(url: str) -> Source:
    """Open constants to read: a file's path or `sqlite:///...`, `postgresql+psycopg://...`, or `http(s)://...` of a service.

    Raises StoreError or ServiceError where there is none.
    """
    if url.startswith(SERVICES):
        from calib.service import open_service  # noqa: PLC0415 - httpx is not for who has a file

        return open_service(url)
    from calib.store import open_store  # noqa: PLC0415 - nor SQLAlchemy for who has no store

    return open_store(url)

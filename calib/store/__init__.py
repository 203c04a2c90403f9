"""Constants kept in a database: one SQLite file, or a PostgreSQL server. It knows nothing of HTTP."""

from calib.store.engine import default_url
from calib.store.portable import read_archive, write_archive
from calib.store.records import Record, StoredDetector
from calib.store.store import Store, check_put, has_store, open_store

__all__ = [
    "Record",
    "Store",
    "StoredDetector",
    "check_put",
    "default_url",
    "has_store",
    "open_store",
    "read_archive",
    "write_archive",
]

"""Configurations of detectors: typed JSON, kept by hutch, alias and device, and what becomes of it in a Configure.

The store is `drp.configdb.store`, which imports SQLAlchemy.
"""

from drp.configdb.errors import ConfigStoreError
from drp.configdb.names import config_xtcs, to_config_names
from drp.configdb.typed import TypedConfig, check_typed, merge

__all__ = ["ConfigStoreError", "TypedConfig", "check_typed", "config_xtcs", "merge", "to_config_names"]

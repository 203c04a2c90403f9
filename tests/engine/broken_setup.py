"""Preloaded into a nursery, makes the setting up of every worker fail as the system would make it fail."""

from drp.script import _fork

_fork.COREDUMP_FILTER = -1

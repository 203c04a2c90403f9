"""Where datagrams come from: the simulator, recorded files, and whatever an installed package adds."""

from drp.core.errors import SourceError
from drp.source.base import END, Slots, Source, SourceOptions, open_source, source_names
from drp.source.pace import Pace

__all__ = ["END", "Pace", "Slots", "Source", "SourceError", "SourceOptions", "open_source", "source_names"]

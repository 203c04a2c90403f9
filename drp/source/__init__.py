"""Where datagrams come from: the simulator, recorded files, and whatever an installed package adds."""

from drp.core.errors import SourceError
from drp.source.base import END, Slots, Source, SourceOptions, open_source, source_names

__all__ = ["END", "Slots", "Source", "SourceError", "SourceOptions", "open_source", "source_names"]

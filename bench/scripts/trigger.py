"""A trigger for the benchmarks: it reads a word of each contributor and decides on both."""

import sys

from drp import TriggerDataSource

ds = TriggerDataSource()
names = sys.argv[1:]
for evt in ds.events():
    ds.result(sum(evt[name].npeaks for name in names) > 15, 1)

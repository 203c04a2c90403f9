"""Say, in the file given, when this process began its first event; work a while on each event.

Arguments: FILE, microseconds of work for each event.
"""

import os
import sys
import time

from drp import DataSource

told = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
work_ns = 1000 * int(sys.argv[2])
ds = DataSource()
for run in ds.runs():
    first = True
    for _ in run.events():
        began = time.monotonic_ns()
        if first:
            first = False
            os.write(told, f"{os.getpid()} {began}\n".encode())
        while time.monotonic_ns() - began < work_ns:
            pass

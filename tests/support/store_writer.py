"""A process that puts constants into a store, again and again, until it is killed; says `begun` before and `done` after each put."""

from __future__ import annotations

import sys

import numpy as np

from calib import Constant, DetectorId
from calib.store import open_store

SERIALS = ("a", "b")


def main() -> None:
    url, experiment = sys.argv[1:3]
    detector = DetectorId("cam", "jungfrau", SERIALS)
    with open_store(url, create=True) as store:
        for run in range(1, 1_000_000):
            value = np.full((3, 2, 512, 512), run, np.float32)
            both = [
                Constant.make(ctype, value, SERIALS, experiment=experiment, run=run)
                for ctype in ("pedestals", "pixel_rms")
            ]
            print("begun", run, flush=True)
            store.put(detector, both)
            print("done", run, flush=True)


if __name__ == "__main__":
    main()

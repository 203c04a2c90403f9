"""What real psana reads of a timing stream: `psana_timing.py FILE` prints JSON. Runs under PSANA_PYTHON."""

import json
import sys

from psana import DataSource

run = next(DataSource(files=sys.argv[1], skip_calib_load="all").runs())
timing = run.Detector("timing")
events = []
for evt in run.events():
    codes = timing.raw.eventcodes(evt)
    events.append(
        {
            "timestamp": int(evt.timestamp),
            "pulse_id": int(timing.raw.pulseId(evt)),
            "codes": [n for n, there in enumerate(codes) if there],
            "destination": int(timing.raw.destination(evt)),
            "inhibited": [int(one) for one in timing.raw.inhibitCounts(evt)],
        }
    )
print(json.dumps({"experiment": run.expt, "run": int(run.runnum), "events": events}))

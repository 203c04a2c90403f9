"""Run by psana's interpreter: print what `det.config` of a file says, as JSON. Arguments: file, detector."""

import json
import os
import sys

reply = os.dup(1)
os.dup2(2, 1)  # psana prints

from psana import DataSource  # noqa: E402

run = next(DataSource(files=[sys.argv[1]], skip_calib_load="all").runs())
segments = run.Detector(sys.argv[2]).raw._seg_configs()
out = {}
for segment, one in segments.items():
    config = one.config
    out[segment] = {
        "gain": [config.user.gain.value, config.user.gain.names],
        "delay_ns": config.user.delay_ns,
        "rate": config.user.rate,
        "help": config.help,
        "map": config.expert.map.tolist(),
        "vref": [config.expert.asic_0.vref, config.expert.asic_1.vref],
    }
os.write(reply, json.dumps(out).encode())
os._exit(0)

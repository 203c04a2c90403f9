"""The script of the timing stream: the beam's destination and the event codes as trigger words, in the layout of LCLS's TimingTebData.

A trigger script reads them as `ds.detector("timing_0", TimingTebData)`, or by name: `evt["timing_0"].eventcodes1 >> 8 & 1` is event code 40.
"""

import numpy as np

from drp.script.datasource import DataSource

CODE_WORDS = 9
BEAM_PRESENT = 0x80

ds = DataSource()
codes = [f"eventcodes{n}" for n in range(CODE_WORDS)]
padding = [f"reserved{n}" for n in range(3)]  # as a C compiler lays the struct out
ds.add_trigger(
    {"ebeamDestn": np.uint8, **dict.fromkeys(padding, np.uint8), **dict.fromkeys(codes, np.uint32)}
)
for run in ds.runs():
    timing = run.Detector(ds.drp_info.det_name)
    for evt in run.events():
        words = np.ascontiguousarray(timing.raw.sequenceValues(evt)).view(np.uint32).tolist()
        destination = int(timing.raw.ebeamDestn(evt)) | BEAM_PRESENT * int(timing.raw.ebeamPresent(evt))
        ds.set_trigger(
            ebeamDestn=destination,
            reserved0=0,
            reserved1=0,
            reserved2=0,
            **dict(zip(codes, words, strict=True)),
        )

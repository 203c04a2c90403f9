"""Constants from dark runs: sums of frames, and pedestals, rms and status of them."""

from calib.dark.build import DarkBuilder, DarkConstants
from calib.dark.finish import STATUS_BITS, PanelRange, RangeSums, Thresholds, evaluate
from calib.dark.ranges import coding_of, range_names
from calib.dark.steps import PREFIX, Step, read_steps
from calib.dark.sums import DarkSums, Limits

__all__ = [
    "PREFIX",
    "STATUS_BITS",
    "DarkBuilder",
    "DarkConstants",
    "DarkSums",
    "Limits",
    "PanelRange",
    "RangeSums",
    "Step",
    "Thresholds",
    "coding_of",
    "evaluate",
    "range_names",
    "read_steps",
]

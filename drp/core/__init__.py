"""The decisions of drp without its machinery: order, fates, supervision, configuration, report.

Nothing here opens, waits, or looks at a clock: events and times come in as arguments, and what is to be
done comes out.
"""

from drp.core.config import DrpConfig
from drp.core.errors import (
    ConfigError,
    DrpError,
    OrderError,
    RecorderError,
    RunStopped,
    ScriptError,
    SegmentError,
    SourceError,
    WorkerError,
)
from drp.core.failures import Failure, ScriptReport
from drp.core.ledger import LEDGER_FIELDS, Cause, Fate, Ledger
from drp.core.policy import Policy
from drp.core.report import Report, Snapshot, WorkerReport, summary
from drp.core.supervision import Supervisor
from drp.core.transitions import RunState, Sequencer, Synthesised, add_ns
from drp.core.worker_states import Entry, Watch

__all__ = [
    "LEDGER_FIELDS",
    "Cause",
    "ConfigError",
    "DrpConfig",
    "DrpError",
    "Entry",
    "Failure",
    "Fate",
    "Ledger",
    "OrderError",
    "Policy",
    "RecorderError",
    "Report",
    "RunState",
    "RunStopped",
    "ScriptError",
    "ScriptReport",
    "SegmentError",
    "Sequencer",
    "Snapshot",
    "SourceError",
    "Supervisor",
    "Synthesised",
    "Watch",
    "WorkerError",
    "WorkerReport",
    "add_ns",
    "summary",
]

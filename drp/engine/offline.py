"""`drp --offline`: the run in this one process, with the account a live run gives.

The script, the recorder and the records are those of a live run; there are no workers, no shared memory and no time-outs, so that a
debugger can stop in the script.
"""

from __future__ import annotations

import time

from drp.core.config import DrpConfig
from drp.core.report import Report
from drp.engine.account import info_of
from drp.engine.reducer import compiled_ahead, output_of
from drp.script.constants import offline_constants
from drp.script.info import DrpInfo
from drp.script.nursery import preload
from drp.script.offline import run_offline


def reduce_offline(config: DrpConfig) -> Report:
    """Run the script on the files of `config` and return the account; raises what `run_offline` raises before the first event."""
    began_s = time.monotonic()
    argv = (config.script, *config.script_args)
    if config.check_jit:
        for one in compiled_ahead(config):  # as the nursery does, whose workers find them compiled
            preload(one)
    constants = offline_constants(
        config.calib,
        eager=config.out_dir is not None,
        required=config.require_constants,
        experiment=config.expt,
        run=config.run,
    )
    done = run_offline(
        argv,
        config.sources,
        output_of(config),
        info=DrpInfo.from_dict(info_of(config)),
        room=config.fex_room,
        event_bytes=config.pebble_slot_bytes,
        transition_bytes=config.transition_bytes,
        events=config.events,
        check_views=config.check_views,
        check_jit=config.check_jit,
        constants=constants,
    )
    return Report(
        source=f"offline reading of {', '.join(config.sources)}",
        script=config.script,
        script_args=config.script_args,
        source_events=done.events,
        ledger=done.ledger,
        elapsed_s=time.monotonic() - began_s,
        files=[str(one.path) for one in done.files],
        bytes_in=done.bytes_in,
        service_counts=done.service,
        bytes_recorded=sum(one.size_bytes for one in done.files),
        failure_kinds=done.failure_kinds,
        failed_transitions=done.failed_transitions,
        source_truncated=done.source_truncated,
        source_faults=done.source_faults,
        source_not_rising=done.source_not_rising,
        warnings=[*config.notes, *done.source_warnings],
    )

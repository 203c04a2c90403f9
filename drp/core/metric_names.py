"""What the metrics of a partition's processes are called, and what each means: LCLS's names where it has the same thing.

Those of drp are in `drp.engine.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping

from drp.core.wire import MAX_MEBS

TEB: Mapping[str, str] = {
    "TEB_EvtCt": "Events built and decided on",
    "TEB_TrCt": "Transitions built",
    "TEB_SpltCt": "Contributions that came after their event was built",
    "TEB_BatCt": "Batches decided on",
    "TEB_WrtCt": "Events to be recorded",
    "TEB_PsclCt": "Events prescaled",
    "TEB_MonCt": "Events to be monitored",
    "TEB_BtEnt": "Events of a batch, on average",
    "TEB_trg_dt": "Time to decide on a batch, in us, on average",
    "TEB_unanswered": "Events that the trigger script gave no answer for, which persist",
    "EB_RxPdg": "Events waited for",
    "EB_BfInCt": "Messages that came in",
    "EB_ToEvCt": "Events that were waited for until the time-out",
    "EB_FxUpCt": "Events built with a contribution missing",
    **{f"TEB_MebCt{meb}": f"Events for the monitoring of meb {meb}" for meb in range(MAX_MEBS)},
    "EB_events": "Events built",
    "EB_incomplete": "Events built with a contribution missing",
    "EB_expired": "Events for which the time-out was waited out",
    "EB_not_rising": "Events built after one with a later pulse id",
    "EB_transitions": "Transitions built",
    "EB_incomplete_transitions": "Transitions built with a contribution missing",
    "EB_contributions": "Contributions that came",
    "EB_joined": "Contributions that are part of an event",
    "EB_late": "Contributions that came after their event was built",
    "EB_repeated": "Contributions that came again",
    "EB_unasked": "Contributions of who was taken out",
    "EB_out_of_order": "Contributions not later than the one before of the same contributor",
    "EB_out_of_synch": "Contributions that differ from the others of their event in what must be equal",
    "EB_forgotten": "Events of which a late contributor would be given the verdict no more",
    "EB_blocked": "Times that there was no room for what came",
    "EB_undelivered": "Verdicts for contributors that had begun anew since",
}
MEB: Mapping[str, str] = {
    "MEB_EvtCt": "Events built and served",
    "MEB_TrCt": "Transitions built and served",
    "MEB_SpltCt": "Events that one drp had no credit for: nobody gets them",
    "MEB_ToEvCt": "Events that were waited for until the time-out",
    "MEB_BytCt": "Bytes of the events served",
    "MEB_ViewCt": "Viewers",
    "MEB_ServCt": "Events given to viewers",
    "MEB_LostCt": "Events that viewers were too slow for",
    "MEB_ErrCt": "Messages that made no sense",
}
TIMING: Mapping[str, str] = {
    "NumL0Acc": "Triggers sent, by readout group",
    "NumL0Inp": "Triggers that were due, by readout group: those sent and those inhibited",
    "drp_deadtime": "Share of the enabled time in which a drp was busy, by its alias",
    "timing_inhibited": "Triggers inhibited because a drp was busy, by its alias",
    "timing_skipped": "Pulses that this process was too late for",
}
CONTROL: Mapping[str, str] = {
    "control_state": "1 for the state the partition is in",
    "control_run": "Number of the run that goes on, 0 where none does",
    "control_member_up": "1 for a member that is heard, 0 for one that is not",
}
METRICS: Mapping[str, str] = {**TEB, **MEB, **TIMING, **CONTROL}

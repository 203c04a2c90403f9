"""The limits that supervision keeps. They are the user's options, and constants where no option is worth
its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from drp.core.config import COMPILE_LIMIT_S, WORKER_CONFIGURE_S, WORKER_TRANSITION_S, DrpConfig
from xtc import TransitionId

FORK_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits that the supervisor keeps, in seconds and bytes."""

    workers: int
    spares: int = 1
    script: str = ""
    event_timeout_s: float = 2.0
    first_event_timeout_s: float = 60.0
    configure_timeout_s: float = WORKER_CONFIGURE_S
    transition_timeout_s: float = WORKER_TRANSITION_S
    fork_timeout_s: float = FORK_LIMIT_S
    traceback_s: float = 0.05
    exit_s: float = 1.0
    kill_s: float = 10.0
    burial_s: float = 5.0
    tick_s: float = 0.02
    late_s: float = 1.0
    streak: int = 5
    retry_s: float = 1.0
    longest_retry_s: float = 60.0
    all_out_log_s: float = 10.0
    worker_memory_bytes: int | None = None
    stop_on_overflow: bool = False
    stop_on_failure: bool = False

    @classmethod
    def from_config(cls, config: DrpConfig, *, compiles: bool) -> Policy:
        """Return the policy that the user's options ask for; `compiles`: the nursery compiles kernels before its first fork."""
        return cls(
            workers=config.workers,
            spares=config.spares,
            script=config.script,
            event_timeout_s=config.event_timeout_s,
            first_event_timeout_s=config.first_event_timeout_s,
            # The nursery limits its own answers; the first fork waits while it compiles.
            fork_timeout_s=FORK_LIMIT_S + (COMPILE_LIMIT_S if compiles else 0.0),
            worker_memory_bytes=config.worker_memory_bytes,
            stop_on_overflow=config.on_overflow == "stop",
            stop_on_failure=config.on_script_failure == "stop",
        )

    def limit_s(self, service: TransitionId, *, first: bool) -> float:
        """Return how long an entry of `service` may take; `first`: no event was answered by this process
        before.
        """
        if service is TransitionId.L1Accept:
            return self.first_event_timeout_s if first else self.event_timeout_s
        return self.configure_timeout_s if service is TransitionId.Configure else self.transition_timeout_s

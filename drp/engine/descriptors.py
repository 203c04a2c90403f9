"""Open files: how many drp needs for its workers, and that it may have them before it starts any."""

from __future__ import annotations

import resource

from drp.core.config import DrpConfig
from drp.core.errors import ConfigError

OWN = 48
"""Standard streams, log, signals, polling, nursery, pebble's record, source, output, and what libraries open for a moment."""
PER_WORKER = 7
"""Of a worker pidfd, stdout and stderr; beside those of one that is forked while its predecessor is being buried."""


def needed(config: DrpConfig) -> int:
    """Return how many files drp itself may come to have open at once."""
    return OWN + len(config.sources) + PER_WORKER * (config.workers + config.spares)


def secure_descriptors(config: DrpConfig) -> None:
    """See to it that as many files may be open as `config` needs; ConfigError where the system does not allow it."""
    wanted = needed(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"needs up to {wanted} open files, and this process may have {hard}",
            option="-W",
            value=config.workers,
            hint="Raise the limit (ulimit -n), or start fewer workers.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

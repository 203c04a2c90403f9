"""What a member's log tells of its runs: nobody watches it, so there is a line for each step instead of a live one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from drp.core.config import DrpConfig
from drp.core.ledger import Fate

log = logging.getLogger("drp.run")


class Story:
    """One Configure, told at INFO."""

    def __init__(self, config: DrpConfig) -> None:
        """Take the configuration that the script was given."""
        self._config = config
        self.run: int | None = None
        """The number of the run, once there is one."""

    def finished(self, said: Mapping[str, Any]) -> None:
        """Tell of a transition as control is told of it, {"service", "error", "files", "ledger"}; of one that failed, others tell."""
        if said["error"] is not None:
            return
        match said["service"]:
            case "Configure":
                log.info(
                    "configured: %s, workers %d", self._config.script or "no script", self._config.workers
                )
            case "BeginRun":
                log.info("run %s begins: %s", self.run, ", ".join(said["files"]) or "not recorded")
            case "EndRun":
                ledger = said["ledger"]
                fates = [f"{name} {ledger[name]:,}" for name in Fate.__members__ if ledger.get(name)]
                log.info("run %s ends: %s", self.run, ", ".join([f"{ledger['total']:,} events", *fates]))

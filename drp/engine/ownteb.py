"""A teb of drp's own, for `drp --trigger`: a child process that ends with it, is started again when it dies, and logs here.

It has a session of its own, so that a Ctrl-C reaches drp alone, which ends it last; if drp is killed the kernel tells it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from drp.core.config import WORKER_CONFIGURE_S
from drp.engine._flow import Flow
from drp.engine.teblink import Me, TebError, TebLinks
from drp.link.rundir import name_for_child, remove_served
from drp.link.sockets import well_known
from drp.script.nursery_wire import NURSERY_VARIABLE

END_S = 3.0
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
LINE_BYTES = 4096
LOOK_EVERY_S = 0.1
# sys.path is drp's own, as for a nursery.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from drp.cli.teb import main; raise SystemExit(main(sys.argv[2:]))"
)
_LEVEL = re.compile(r"[0-9:]+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: ")

log = logging.getLogger("drp.trigger")


class OwnTeb(TebLinks):
    """Have a trigger script decide, in a teb that this starts. `script`: with its arguments; `prescale`: every so many events are kept whole."""

    def __init__(
        self,
        script: tuple[str, ...],
        *,
        groups: int,
        prescale: int = 0,
        instrument: str = "drp",
        platform: int = 0,
        ready_limit_s: float = WORKER_CONFIGURE_S,
    ) -> None:
        name = name_for_child()
        endpoint = well_known(name)
        self._socket = Path(endpoint.address.removeprefix("ipc://"))
        super().__init__(
            [endpoint],
            Me("", ""),
            groups=groups,
            alone=True,
            required=True,
            ready_limit_s=ready_limit_s,
        )
        self._command = [
            sys.executable,
            "-P",
            "-c",
            _BOOT,
            json.dumps(sys.path),
            "--lone",
            "drp",
            "--serve",
            name,
        ]
        self._command += ["-P", instrument, "-p", str(platform), "-p", shlex.join(script)]
        self._command += ["--prescale", str(prescale)] if prescale else []
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._look_s = self._start_s = 0.0
        self._said = ""

    @property
    def pid(self) -> int | None:
        """The process that runs, None where none does."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def start(self, flow: Flow) -> None:
        self._spawn()
        super().start(flow)

    def close(self) -> None:
        super().close()
        if self._process is not None:
            _end(self._process)
            remove_served(self._socket)

    def work(self) -> bool:
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_EVERY_S
            self._look(now_s)
        return super().work()

    def _look(self, now_s: float) -> None:
        """Begin another one in the place of one that has ended; before the first run that ends it all."""
        assert self._process is not None
        if self._process.poll() is None:
            return
        if not self._begun:
            if self.error is None:
                text = f"the trigger has ended ({_status(self._process.returncode)}) before the run began"
                self.error = TebError(
                    f"{text}: {self._said}" if self._said else text, hint="Its log says more."
                )
            return
        if self._start_s <= now_s:
            if self._start_s:
                self._start_s = 0.0
                self._spawn()
                return
            wait_s = min(FIRST_WAIT_S * 2 ** min(self._restarts, 10), MAX_WAIT_S)
            self._start_s = now_s + wait_s
            self._restarts += 1
            text = f"the trigger has ended ({_status(self._process.returncode)})"
            log.error("%s; it is started again in %g s, until then all events are kept", text, wait_s)
            self.warnings.append(f"{text} and was started again")

    def _spawn(self) -> None:
        environment = os.environ | {NURSERY_VARIABLE: "teb"}  # else drp takes it for what a nursery has left
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        threading.Thread(
            target=self._relay, args=(self._process.stdout,), name="drp/teb", daemon=True
        ).start()

    def _relay(self, output: IO[bytes]) -> None:
        """Log what it says, line by line, until it ends."""
        with output, contextlib.suppress(OSError, ValueError):
            while line := output.readline(LINE_BYTES):
                text = line.decode(errors="replace").rstrip()
                level = _LEVEL.match(text)
                text = text[level.end() :] if level else text
                number = logging.getLevelNamesMapping()[level[1]] if level else logging.WARNING
                if number >= logging.WARNING:
                    self._said = text[:300]
                log.log(number, "teb: %s", text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a teb and all it has started; it may take END_S."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        log.warning("the trigger did not end within %g s: killed", END_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

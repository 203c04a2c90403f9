"""The nursery: a small process from which workers are forked.

It is started by exec before drp has a thread or a segment, imports what workers need, and then only forks
and reaps. Forking is safe and cheap because it holds nothing a child must not inherit: it has one thread,
attaches no shared memory, and imports no user module and no MPI (checked after the imports, an error if
not).

It is a subreaper: what a worker leaves behind comes to it as a child of its own. When a worker is reaped its
process group is killed first, then every child that is not a living worker and does not belong to one; the
answer goes out when they are gone, or after a second without them. A process that left its worker's session
shows by its initial environment whose it is; one that hid that as well is taken for a stray.

End of file on the socket, or the parent's pidfd, is drp's death: every worker and stray is killed, and the
nursery ends. SIGINT, SIGTERM and SIGHUP are ignored: drp decides. It knows nothing of rings, dgrams or
policy.
"""

import argparse
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from drp.script._fork import STANDS, Entry, load_entry, run_worker
from drp.script.nursery_wire import (
    REASON_LIMIT,
    WORKER_PID_VARIABLE,
    Fork,
    Forked,
    ForkFailed,
    Message,
    Ping,
    Pong,
    Ready,
    Reap,
    Reaped,
    StartFailed,
    WireError,
    encode,
    receive,
    send,
)
from drp.script.process import become_subreaper, children, initial_environment, process_state, set_name

SETUP_LIMIT_S = 5.0
STRAYS_LIMIT_S = 1.0
FINISH_LIMIT_S = 4.0
_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Burial:
    """A worker that is being reaped: its wait status once it is known, and the strays killed so far."""

    deadline: float
    status: int | None
    killed: set[int]


class NurseryLoop:
    """The nursery's one loop: requests from drp's socket, deaths from SIGCHLD."""

    def __init__(self, link: socket.socket, entry: Entry, parent: int) -> None:
        """Take drp's socket, the entry point of the workers, and drp's pid."""
        self._link = link
        self._entry = entry
        self._parent_fd = os.pidfd_open(parent)
        self._deaths, self._deaths_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._workers: set[int] = set()
        self._burials: dict[int, Burial] = {}
        self._unkillable: set[int] = set()

    def run(self) -> None:
        """Serve until drp is gone; then nothing that came from here is left."""
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._deaths_in, warn_on_full_buffer=False)
        poll = select.poll()
        for fd in (self._link.fileno(), self._parent_fd, self._deaths):
            poll.register(fd, select.POLLIN)
        try:
            self._send(Ready(os.getpid()))
            serving = True
            while serving:
                ready = {fd for fd, _events in poll.poll(self._patience_ms())}
                if self._deaths in ready:
                    self._forget_deaths()
                self._bury()
                if self._link.fileno() in ready:
                    serving = self._serve()
                serving = serving and self._parent_fd not in ready
        except (BrokenPipeError, ConnectionResetError):
            # drp went while it was being answered.
            return
        finally:
            self._finish()

    def _patience_ms(self) -> float | None:
        """Wait for events only, but for the time limit of a reaped worker whose strays are not gone yet."""
        deadlines = [burial.deadline for burial in self._burials.values() if burial.status is not None]
        return max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1 if deadlines else None

    def _forget_deaths(self) -> None:
        try:
            while os.read(self._deaths, 4096):
                pass
        except BlockingIOError:
            return

    def _send(self, message: Message, *descriptors: int) -> None:
        send(self._link, encode(message), descriptors)

    def _serve(self) -> bool:
        """Answer one request; False at end of file."""
        received = receive(self._link)
        if received is None:
            return False
        match received:
            case Fork() as request, [stdout_fd, stderr_fd]:
                try:
                    self._fork(request, stdout_fd, stderr_fd)
                finally:
                    os.close(stdout_fd)
                    os.close(stderr_fd)
            case Reap(pid), _:
                self._begin_burial(pid)
            case Ping(id), _:
                self._send(Pong(id))
            case message, _:
                raise WireError(f"{type(message).__name__} is not a request")
        return True

    def _fork(self, request: Fork, stdout_fd: int, stderr_fd: int) -> None:
        ready_fd, ready_in = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(ready_in)
            os.close(ready_fd)
            self._send(ForkFailed(request.id, f"fork: {error}"))
            return
        if pid == 0:
            run_worker(
                self._entry,
                request,
                parent=parent,
                stdout_fd=stdout_fd,
                stderr_fd=stderr_fd,
                ready_fd=ready_in,
            )
        os.close(ready_in)
        try:
            self._introduce(request.id, pid, ready_fd)
        finally:
            os.close(ready_fd)

    def _introduce(self, request_id: int, pid: int, ready_fd: int) -> None:
        """Tell drp of a child once it says that it stands; kill and reap one that cannot."""
        failure = _setup_failure(ready_fd)
        if failure is None:
            self._workers.add(pid)
            pidfd = os.pidfd_open(pid)
            try:
                self._send(Forked(request_id, pid), pidfd)
            finally:
                os.close(pidfd)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._send(ForkFailed(request_id, failure[:REASON_LIMIT]))

    def _begin_burial(self, pid: int) -> None:
        if pid not in self._workers or pid in self._burials:
            raise WireError(f"{pid} is not a worker that can be reaped")
        os.killpg(pid, signal.SIGKILL)
        self._burials[pid] = Burial(time.monotonic() + STRAYS_LIMIT_S, None, set())
        self._bury()

    def _bury(self) -> None:
        """Reap what has died, and answer for the workers of which nothing is left."""
        for pid, burial in self._burials.items():
            if burial.status is None:
                dead, status = os.waitpid(pid, os.WNOHANG)
                if dead:
                    burial.status = status
                    self._workers.remove(pid)
        reaped = [pid for pid, burial in self._burials.items() if burial.status is not None]
        left = self._reap_strays(self._burials[reaped[0]].killed if reaped else None)
        for pid in reaped:
            burial = self._burials[pid]
            if burial.status is not None and (not left or time.monotonic() >= burial.deadline):
                del self._burials[pid]
                self._send(Reaped(pid, burial.status, len(burial.killed)))

    def _reap_strays(self, killed: set[int] | None) -> bool:
        """Reap dead strays and, given a set to note them in, kill living ones; say if one is still there."""
        left = True
        reaped = True
        # What a reaped stray had for children are children of ours now: look until there are no new ones.
        while reaped:
            left = reaped = False
            for pid in children(os.getpid()):
                if pid in self._workers:
                    continue
                if os.waitpid(pid, os.WNOHANG)[0]:
                    reaped = True
                    self._unkillable.discard(pid)
                elif killed is not None and pid not in self._unkillable and self._is_stray(pid):
                    left = self._kill_stray(pid, killed) or left
        return left

    def _is_stray(self, pid: int) -> bool:
        """Say whether a child belongs to no living worker."""
        state = process_state(pid)
        if state is not None and state.session in self._workers:
            return False
        owner = initial_environment(pid, WORKER_PID_VARIABLE)
        return owner is None or not owner.isdigit() or int(owner) not in self._workers

    def _kill_stray(self, pid: int, killed: set[int]) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except PermissionError:
            # It became another user; who let it do so has to end it.
            self._unkillable.add(pid)
            return False
        state = process_state(pid)
        if state is not None and state.group not in self._burials:
            killed.add(pid)
        return True

    def _finish(self) -> None:
        """Kill every worker's process group and every stray, and reap them."""
        poll = select.poll()
        poll.register(self._deaths, select.POLLIN)
        for pid in self._workers:
            os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + FINISH_LIMIT_S
        while time.monotonic() < deadline:
            self._workers.clear()
            if not self._reap_strays(set()):
                return
            poll.poll(max(1.0, (deadline - time.monotonic()) * 1000))
            self._forget_deaths()


def _setup_failure(ready_fd: int) -> str | None:
    """Wait for a child to say that it stands; else return why it does not."""
    poll = select.poll()
    poll.register(ready_fd, select.POLLIN)
    if not poll.poll(SETUP_LIMIT_S * 1000):
        return f"the child did not stand within {SETUP_LIMIT_S:g} s"
    text = os.read(ready_fd, 4096)
    if text == STANDS:
        return None
    return text.decode(errors="replace") or "the child died while it was being set up"


def preload(name: str) -> None:
    """Import a module; of `module:function` also call the function."""
    module, _, function = name.partition(":")
    loaded = importlib.import_module(module)
    if function:
        getattr(loaded, function)()


def check_alone() -> None:
    """Raise RuntimeError if a fork from this process would give a child what it must not have."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(
            f"the nursery has {threads} threads after its imports and must have 1: a fork copies their locks"
        )
    if "/SYSV" in Path("/proc/self/maps").read_text():
        raise RuntimeError("the nursery has attached shared memory: workers would inherit the mapping")
    if "mpi4py" in sys.modules:
        raise RuntimeError("the nursery has imported mpi4py, which a worker must not inherit")


def _occupy_standard_descriptors() -> None:
    """Open 0 to 2 if drp was started without them, lest a worker's pipe take their place."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(fd)


def main(argv: list[str] | None = None) -> int:
    """Serve drp on the socket given by `--fd` until drp is gone; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="drp.script.nursery", description="Forks drp's workers; started by drp."
    )
    parser.add_argument("--fd", type=int, required=True, help="socket to drp")
    parser.add_argument("--parent", type=int, required=True, help="pid of drp")
    parser.add_argument("--entry", required=True, help="what a worker runs, module:function")
    parser.add_argument(
        "--preload",
        default="",
        help="modules to import before the first fork, and functions to call (module:function), comma-separated",
    )
    options = parser.parse_args(argv)
    for number in _IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _occupy_standard_descriptors()
    set_name("drp-nursery")
    become_subreaper()
    if os.getppid() != options.parent:
        return 0
    with socket.socket(fileno=options.fd) as link:
        link.set_inheritable(False)
        try:
            for name in filter(None, options.preload.split(",")):
                preload(name)
            entry = load_entry(options.entry)
            check_alone()
            loop = NurseryLoop(link, entry, options.parent)
        except Exception:  # noqa: BLE001  the process boundary: drp prints it
            send(link, encode(StartFailed(traceback.format_exc()[-REASON_LIMIT:])))
            return 1
        gc.collect()
        gc.freeze()
        loop.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

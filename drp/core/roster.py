"""The posts of the workers, the processes that fill them, and the spares.

A post outlives its processes: it remembers their failures. The roster finds what is missing (`fill`): a
spare takes an empty post, or a new process is forked. A post that fails `Policy.streak` times with no event
done well in between is left out for a time that doubles, up to a bound; an event done well, or a new
Configure, wipes that out. With every post left out events pass raw.

It does not know why a process ended, only what kind of failure it was; see drp.core.supervision for that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from drp.core import instructions as do
from drp.core.failures import Failure
from drp.core.instructions import Instruction
from drp.core.policy import Policy
from drp.core.worker_states import News, Process, State


@dataclass(slots=True)
class Post:
    """A worker's place, or with `worker` None that of the spares: its record outlives the processes that
    fill it.
    """

    worker: int | None
    streak: int = 0
    delay_s: float = 0.0
    retry_at_s: float | None = None
    out: bool = False
    restarts: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def due(self, now: float) -> bool:
        """Say whether the post may be filled: it is not left out, or has been for long enough."""
        return self.retry_at_s is None or now >= self.retry_at_s

    def pardon(self) -> None:
        """Forget what went wrong: an event was done well, or a new Configure came."""
        self.streak, self.delay_s, self.retry_at_s = 0, 0.0, None


class Roster:
    """Who stands where. `closed` and `nursery` say whether, and by whom, new processes may be made."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.posts = [Post(worker) for worker in range(policy.workers)]
        self.spare_post = Post(None)
        self.processes: dict[int, Process] = {}
        self.closed = False
        self.nursery = False
        self.passing = False
        self._complained_s = 0.0
        self._incarnations = 0

    @property
    def restarts(self) -> int:
        """Processes that ended against drp's wish and were, or will be, replaced."""
        return sum(post.restarts for post in (*self.posts, self.spare_post))

    def post_of(self, process: Process) -> Post:
        """Return the post that answers for `process`; all spares share one."""
        return self.spare_post if process.worker is None else self.posts[process.worker]

    def credit(self, process: Process, events: int) -> None:
        """Note that `process` has answered `events` events without failing."""
        if events > process.events:
            process.events = events
            self.post_of(process).pardon()

    def pardon_all(self) -> None:
        """Give every post that is left out another chance at once."""
        for post in (*self.posts, self.spare_post):
            post.pardon()

    def ready(self, process: Process, now: float) -> list[Instruction]:
        """`process` has the environment: it goes to work, or stands by."""
        if process.worker is None:
            process.step(News.READY_AS_SPARE, now)
            self.spare_post.pardon()
            return []
        return self._staffed(process.worker) if process.step(News.READY, now) else []

    def count(
        self, process: Process, failure: Failure, now: float, *, at_start: bool = False
    ) -> list[Instruction]:
        """Note the end of `process`, and leave its post out where that was one failure too many; `at_start`:
        it had not come to work, and a kill counts as well.
        """
        post = self.post_of(process)
        post.failures[failure.value] += 1
        if self.closed:
            return []
        post.restarts += 1
        if not failure.by_script and not (at_start and failure is Failure.KILLED):
            return []
        post.streak += 1
        return self._leave_out(post, now) if post.streak >= self.policy.streak else []

    def fill(self, now: float) -> list[Instruction]:
        """Find what is missing: posts first, from the spares if one is ready, then the spares themselves."""
        out: list[Instruction] = []
        if self.closed:
            return out
        held = Counter(process.worker for process in self.processes.values())
        for worker, post in enumerate(self.posts):
            if held[worker] or not post.due(now):
                continue
            # A spare with a reason to end is dead with its nursery, only not buried yet.
            ready = (
                one for one in self.processes.values() if one.state is State.SPARE and one.reason is None
            )
            spare = next(ready, None)
            if spare is not None:
                held[None] -= 1
                spare.worker = worker
                spare.step(News.ADOPTED, now)
                out += [do.UseSpare(worker, spare.incarnation), *self._staffed(worker)]
            elif self.nursery:
                out.append(self._fork(worker, now))
        if self.nursery and self.spare_post.due(now):
            out += [self._fork(None, now) for _ in range(self.policy.spares - held[None])]
        return out

    def complain(self, now: float) -> list[Instruction]:
        """Say every `all_out_log_s` that no worker is left."""
        if not self.passing or now - self._complained_s < self.policy.all_out_log_s:
            return []
        self._complained_s = now
        return [
            do.Log(
                "error", "every worker is left out: events pass raw and damaged until the script works again"
            )
        ]

    def lose_nursery(self) -> None:
        """The nursery is gone with all it made: what it had not yet reported will never come."""
        self.nursery = False
        for process in list(self.processes.values()):
            process.reason = process.reason or Failure.NURSERY
            if process.state is State.FORKING:
                del self.processes[process.incarnation]

    def _leave_out(self, post: Post, now: float) -> list[Instruction]:
        post.delay_s = min(post.delay_s * 2 or self.policy.retry_s, self.policy.longest_retry_s)
        post.retry_at_s = now + post.delay_s
        who = "the spares" if post.worker is None else f"worker {post.worker}"
        text = f"{who}: left out after {post.streak} failures in a row, tried again in {post.delay_s:g} s"
        out: list[Instruction] = [do.Log("error", text)]
        if post.worker is None:
            return out
        post.out = True
        out.append(do.LeaveOut(post.worker, post.delay_s))
        if not self.passing and all(one.out for one in self.posts):
            self.passing, self._complained_s = True, now - self.policy.all_out_log_s
            out.append(do.PassRaw(on=True))
        return out

    def _fork(self, worker: int | None, now: float) -> Instruction:
        self._incarnations += 1
        self.processes[self._incarnations] = Process(self._incarnations, worker, since_s=now, looked_s=now)
        return do.Fork(self._incarnations, worker)

    def _staffed(self, worker: int) -> list[Instruction]:
        self.posts[worker].out = False
        if not self.passing:
            return []
        self.passing = False
        return [do.PassRaw(on=False), do.Log("info", f"worker {worker}: at work again")]

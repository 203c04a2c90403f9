"""A script's session: what Configure and run it is in, and what each transition means for it.

    configured --runs()--> between runs --BeginRun--> in a run --EndRun--> between runs --Unconfigure or Configure--> over

The dgram taken last is in hand until the script asks for more; the session knows what of it the script has not yet been given. It is the same
for rings and for files: the link below the stream is the only difference.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from drp.script._added import AddedData
from drp.script._event import Stream
from drp.script._link import Link
from drp.script.constants import RunConstants
from drp.script.constants_set import ALL
from drp.script.declare import AddedDetector, Declaration, Declarations, parse_fields, parse_words
from drp.script.errors import DeclarationError, LeftEventLoopError, ScriptError, StoodDown, near_misses
from drp.script.info import DrpInfo
from drp.script.reduce import Array, Op, Reductions
from drp.script.run import Run, Step
from drp.script.setup import Setup
from xtc import AlgDef, DetectorDef, Dgram, TransitionId, XtcError
from xtc._walk import WalkFault

L1_ACCEPT = TransitionId.L1Accept_EndOfBatch
TRIGGER_ALG = "trigger"
TRIGGER_VERSION = (0, 0, 1)

log = logging.getLogger("drp.script")


class Session:
    """One process's side of the stream, over all the scripts it runs in turn."""

    def __init__(
        self,
        link: Link,
        info: DrpInfo,
        args: list[str],
        *,
        check_views: bool = False,
        constants: RunConstants | None = None,
    ) -> None:
        self.stream = Stream(link, self, check_views)
        self.constants = constants
        self.link = link
        self.info = self._told = info
        self.unreadable = 0
        self.args = args
        self._setup: Setup | None = None
        self.configure_answer: bytes | None = None
        self.start_script()

    def start_script(self) -> None:
        """Forget what an earlier script of this process did; the Configure in force stays."""
        self.declarations = Declarations()
        self.reductions = Reductions()
        self.run: Run | None = None
        self.opened = False
        self.asked = False
        self.over = False
        self.declaring = True
        self.at_configure = True
        self._held_begin_run = False
        self._held_begin_step = False
        self._before_run = self._before_step = self.stream.n_events
        self.stream.copy_views = False
        self._skipped: frozenset[str] = frozenset()
        if self._setup is not None:
            self.stream.configure(self._setup.droppable)

    @property
    def setup(self) -> Setup:
        """The Configure in force."""
        if self._setup is None:
            raise ScriptError("there is no Configure yet")
        return self._setup

    def skip_constants(self, names: str | Iterable[str] | None) -> None:
        """Do without the constants of these detectors, as psana's `skip_calib_load`: "all", a name, or several.

        A name that this run has not is told by one worker: the script may be written for several drps.
        """
        self._skipped = frozenset((names,) if isinstance(names, str) else names or ())
        if self.constants is not None:
            self.constants.skip(self._skipped)
        known = self.setup.detectors()
        for name in sorted(self._skipped - known.keys() - {ALL}):
            if not self.info.worker_num:
                log.warning(
                    "skip_calib_load: there is no detector %r in this run. %s", name, near_misses(name, known)
                )

    def skips_constants(self, name: str) -> bool:
        """Say whether a detector does without constants."""
        return not self._skipped.isdisjoint((name, ALL))

    # What main, or an offline DataSource, calls.

    def configure(self) -> None:
        """Take the Configure in hand; raise XtcError or WalkFault, and have none, where it cannot be read."""
        self._setup = None
        self._setup = Setup(self.stream.dgram)
        self.info = self._told.completed(self._setup.config)
        self.configure_answer = None

    def hold_begin_run(self) -> None:
        """Keep the BeginRun in hand for a script that is about to start with the Configure in force."""
        self._held_begin_run = True

    @property
    def configured(self) -> bool:
        """Whether there is a Configure in force."""
        return self._setup is not None

    @property
    def has_fresh_configure(self) -> bool:
        """Whether a Configure is in hand that no script has been run for."""
        return self.over and self.link.in_hand and self.stream.service == TransitionId.Configure

    @property
    def left(self) -> bool:
        """Whether a script that ends now leaves a run before its end."""
        return self.run is not None and not self.run.ended and not self.link.at_end

    @property
    def standing_down(self) -> bool:
        """Whether the EndRun in hand is of a run that this process stood by in and took no event of."""
        return self.link.in_hand and self.link.replaying and self.stream.service == TransitionId.EndRun

    @property
    def idle(self) -> bool:
        """Whether an EndStep or EndRun is in hand and the script was given no event of that step or run."""
        if not self.link.in_hand or self.stream.service not in (TransitionId.EndStep, TransitionId.EndRun):
            return False
        end_step = self.stream.service == TransitionId.EndStep
        return bool(self.stream.n_events == (self._before_step if end_step else self._before_run))

    # What the DataSource calls.

    def open(self) -> None:
        """Give the stream to the script's DataSource; raise ScriptError for a second one."""
        if self.opened:
            raise ScriptError(
                "this script already has a DataSource", hint="There is one stream; make one DataSource."
            )
        self.opened = True

    def next_run(self) -> Run | None:
        """Go to the next run; None when there are no more under this Configure."""
        self.asked = True
        if self.over:
            return None
        if self.run is not None and not self.run.ended:
            raise LeftEventLoopError(
                "the run in hand has not ended", hint="Take all events of run.events() before the next run."
            )
        if self._held_begin_run:
            self._held_begin_run = False
            if self.at_configure:
                self._repeat_configure()
            return self._begin_run()
        while True:
            service = self.advance()
            if service < 0 or service in (TransitionId.Configure, TransitionId.Unconfigure):
                self.over = True
                return None
            if service == TransitionId.BeginRun:
                return self._begin_run()

    def next_step(self) -> Step | None:
        """Go to the next step of the run, past any events; None at the run's end."""
        run = self.run
        if run is None or run.ended:
            return None
        while not self._held_begin_step:
            service = self.advance()
            if service >= L1_ACCEPT:
                continue
            if self._moved(service, run):
                return None
            self._held_begin_step = service == TransitionId.BeginStep
        self._held_begin_step = False
        return run._step

    def advance(self) -> int:
        """Answer what is in hand, take the next dgram, and take note of it; -1 when there are no more."""
        service = self.stream.advance()
        self._note(service)
        return service

    def add_detector(
        self,
        detdef: DetectorDef,
        algdef: AlgDef,
        datadef: Mapping[str, tuple[Any, int]],
        node_id: int | None,
        names_id: int | None,
        segment: int | None,
    ) -> AddedDetector:
        """Declare new data; raise DeclarationError."""
        declaration = Declaration(
            detdef.name,
            detdef.dettype,
            detdef.detid,
            self.info.det_segment if segment is None else segment,
            algdef.name,
            (algdef.major, algdef.minor, algdef.micro),
            parse_fields(datadef),
            node_id,
            names_id,
        )
        return AddedDetector(declaration, self._declare(declaration))

    def add_trigger(self, words: Mapping[str, Any]) -> None:
        """Declare trigger words; raise DeclarationError."""
        if not self.at_configure:
            raise DeclarationError("trigger words are declared before ds.runs()")
        fields = parse_words(words)
        info = self.info
        declaration = Declaration(
            info.det_name,
            info.det_type,
            info.det_id,
            info.det_segment,
            TRIGGER_ALG,
            TRIGGER_VERSION,
            fields,
            role="trigger",
        )
        self.stream.set_words(self._declare(declaration))

    def reduce(self, name: str, array: Array, op: Op, *, per_step: bool = False) -> Array:
        """Declare a reduced array; raise DeclarationError."""
        self._must_be_declaring(
            f"reduce {name!r}",
            hint="Declare the array once, before the loop, and add to it in place in the loop.",
        )
        return self.reductions.register(name, array, op, at_configure=self.at_configure, per_step=per_step)

    # What the stream calls.

    def transition(self, service: int, scope: Run | Step) -> bool:
        """Take note of a transition met in an event loop; True where that loop ends."""
        self._note(service)
        return self._moved(service, scope)

    def before_answer(self, service: int) -> None:
        """Put the script's answer to the transition in hand: what it declared, what it reduced."""
        answer: dict[str, Any] = {}
        reducing = service in (TransitionId.EndStep, TransitionId.EndRun)
        if service in (TransitionId.Configure, TransitionId.BeginRun):
            answer = self._configured() if service == TransitionId.Configure else self._declared()
            self.declaring = self.at_configure = False
        data = self.reductions.filled() if reducing else None
        if data is not None:
            answer = {"names": [], "reduce": self.reductions.describe()}
        text = json.dumps(answer, separators=(",", ":")).encode() if answer else b""
        if service == TransitionId.Configure:
            self.configure_answer = text
        if text:
            self.stream.put_text(text)
        if data is not None:
            # After the text, so that room for it is kept and arrays of a hundred megabytes are written once.
            self.stream.put_added(data)
            self.reductions.reset()

    def _configured(self) -> dict[str, Any]:
        skipped = {"skip": sorted(self._skipped)} if self._skipped else {}
        return self._declared() | skipped

    def _declared(self) -> dict[str, Any]:
        if self.reductions and not self.reductions.declared:
            self.reductions.bind(self._declare(self.reductions.declaration(self.info)))
        names = self.declarations.take_fresh()
        return {"names": names, "reduce": self.reductions.describe()} if names else {}

    def _repeat_configure(self) -> None:
        """Compare what a script that starts again declared with its first answer, and drop what it added to the Configure."""
        answer = self._configured()
        text = json.dumps(answer, separators=(",", ":")).encode() if answer else b""
        self.stream.discard()
        if text != (self.configure_answer or b""):
            raise DeclarationError("the script declared other data than when it was configured")
        self.at_configure = False

    def _begin_run(self) -> Run:
        setup = self.setup
        expt, runnum = None, None
        try:
            values = Dgram(self.stream.dgram, config=setup.config).fields()
        except (XtcError, WalkFault):
            values = []  # told when its values for the environment were asked for
        for value in values:
            if value.names.detname == "runinfo" and value.field.name == "expt":
                expt = value.value
            elif value.names.detname == "runinfo" and value.field.name == "runnum":
                runnum = value.value
        if self.constants is not None:
            self.constants.begin_run(setup, self.stream.dgram, expt, runnum, self.stream.timestamp)
        self.declaring = True
        self._before_run = self._before_step = self.stream.n_events
        self.reductions.begin_run()
        self.run = Run(self, expt, runnum, self.stream.timestamp)
        return self.run

    def _declare(self, declaration: Declaration) -> AddedData:
        self._must_be_declaring(str(declaration))
        taken = {(one.detname, one.segment, one.alg.name) for one in self.setup.config.names.values()}
        if declaration.key in taken:
            raise DeclarationError(
                f"the detector already has {declaration} of segment {declaration.segment}",
                hint="Give the alg another name. Where a script added it before, trigger words too, reduce the data that one began with.",
            )
        return AddedData(declaration, self.declarations.declare(declaration))

    def _must_be_declaring(self, what: str, hint: str = "") -> None:
        if not self.declaring:
            raise DeclarationError(f"{what}: new data are declared before the first event", hint=hint)

    def _note(self, service: int) -> None:
        """Take in what a dgram changes for everybody: environment, configuration values, the step.

        Raises StoodDown at the end of a run in which this process has stood by.
        """
        if self.run is not None and not self.run.ended and self.standing_down:
            self.run.ended = True
            raise StoodDown
        if service < 0 or service >= L1_ACCEPT or self._setup is None or service == TransitionId.Configure:
            return
        if service in (TransitionId.SlowUpdate, TransitionId.BeginRun, TransitionId.BeginStep):
            self._update(self._setup)
        if service == TransitionId.BeginStep and self.run is not None:
            self._before_step = self.stream.n_events
            if self.run._step is not None:
                self.run._step.ended = True
            self.run._step = Step(self, self.stream.timestamp)

    def _update(self, setup: Setup) -> None:
        """Take the values that the dgram in hand brings. One that cannot be read brings none: it came in damaged, which is no script's fault."""
        try:
            setup.update(Dgram(self.stream.dgram, config=setup.config))
        except (XtcError, WalkFault) as error:
            self._tell_unreadable(error)

    def _tell_unreadable(self, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable == 1:
            name = self.stream.service.name
            log.warning("a %s came in damaged, its values are not taken (said once): %s", name, error)

    def _moved(self, service: int, scope: Run | Step) -> bool:
        """Say whether a transition ends the loop of `scope`, and keep what belongs to the loops outside of it."""
        run = self.run
        if service in (TransitionId.SlowUpdate, TransitionId.Enable, TransitionId.Disable) or run is None:
            return False
        if service == TransitionId.EndStep:
            scope_ends = isinstance(scope, Step)
            if run._step is not None:
                run._step.ended = True
            return scope_ends
        if service == TransitionId.BeginStep:
            self._held_begin_step = isinstance(scope, Step)
            return isinstance(scope, Step)
        run.ended = True
        if run._step is not None:
            run._step.ended = True
        self._held_begin_run = service == TransitionId.BeginRun
        self.over = service < 0 or service in (TransitionId.Configure, TransitionId.Unconfigure)
        return True

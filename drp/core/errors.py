"""The errors of drp: one root, fields that a program can read, and a text that says what, where, and what
to do next.

Every one survives pickling, because some cross from a worker to drp. None of them knows who catches it.
"""

from __future__ import annotations

from typing import Any


class DrpError(Exception):
    """Root of all errors of drp.

    Fields: `what` (what is wrong, one clause, no full stop) and `hint` (what to do about it, or empty).
    Subclasses add fields and say in `where` what they are about.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    @property
    def where(self) -> str:
        """What the error is about: a file, an option, a worker. Empty where there is nothing to name."""
        return ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.hint:
            return text
        text = text.rstrip(".")
        return f"{text}{'' if text.endswith('?') else '.'} {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[DrpError], args: tuple[Any, ...], fields: dict[str, Any]) -> DrpError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConfigError(DrpError):
    """An option or `-k` key that is unknown, malformed, out of range, or at odds with another.

    Fields: `option` as the user writes it (`--event-timeout`, `-k pebbleBufSize`), `value` as given or None.
    """

    def __init__(self, what: str, *, option: str = "", value: object = None, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.option = option
        self.value = value

    @property
    def where(self) -> str:
        return self.option if self.value is None else f"{self.option} {self.value}".strip()


class MessageError(DrpError):
    """What another process sent cannot be what it should be. Nothing of it is used."""


class SourceError(DrpError):
    """A source that cannot be opened, or that gives what cannot be used.

    Fields: `source` (its description or file name), `position` (which dgram, or None where it is not about
    one).
    """

    def __init__(self, what: str, *, source: str = "", position: int | None = None, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.source = source
        self.position = position

    @property
    def where(self) -> str:
        if self.position is None:
            return self.source
        return f"{self.source}, dgram {self.position}" if self.source else f"dgram {self.position}"


class OrderError(SourceError):
    """A transition or event that no synthesised transition can make legal.

    Fields: `service` and `state` by name, and `recent`, the services that came before it, oldest first.
    """

    def __init__(
        self,
        what: str,
        *,
        service: str,
        state: str,
        recent: tuple[str, ...] = (),
        source: str = "",
        position: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(what, source=source, position=position, hint=hint)
        self.service = service
        self.state = state
        self.recent = recent

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} (before it: {', '.join(self.recent)})" if self.recent else text


class ScriptError(DrpError):
    """The user's script failed where the run cannot go on without it.

    Fields: `worker` (its number, or None for a process that has none yet), `transition` (name of what it
    was answering), `kind` (name of the exception, or "timed out", "died"), `traceback` (text of the
    script's own traceback, or empty).
    """

    def __init__(
        self,
        what: str,
        *,
        worker: int | None = None,
        transition: str = "",
        kind: str = "",
        traceback: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(what, hint=hint)
        self.worker = worker
        self.transition = transition
        self.kind = kind
        self.traceback = traceback

    @property
    def where(self) -> str:
        who = "the script" if self.worker is None else f"the script in worker {self.worker}"
        return f"{who}, at {self.transition}" if self.transition else who

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n{self.traceback.rstrip()}" if self.traceback else text


class RecorderError(DrpError):
    """A file that cannot be made, written, or closed as it should.

    Fields: `path`, and `errno` of the failing call where there is one.
    """

    def __init__(self, what: str, *, path: str = "", errno: int | None = None, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.path = path
        self.errno = errno

    @property
    def where(self) -> str:
        return self.path


class SegmentError(DrpError):
    """A shared memory segment that cannot be made or attached, or whose content breaks the layout.

    Fields: `segment_id` (of the kernel, or None), `offset` (bytes from its start, or None).
    """

    def __init__(
        self, what: str, *, segment_id: int | None = None, offset: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(what, hint=hint)
        self.segment_id = segment_id
        self.offset = offset

    @property
    def where(self) -> str:
        if self.segment_id is None:
            return "shared memory"
        place = f"shared memory segment {self.segment_id}"
        return place if self.offset is None else f"{place}, byte {self.offset:#x}"


class WorkerError(DrpError):
    """A worker process or the nursery does not keep to its side of what was agreed.

    Fields: `worker` (its number, or None for the nursery and for spares), `incarnation` (or None),
    `expected`, `found`.
    """

    def __init__(
        self,
        what: str,
        *,
        worker: int | None = None,
        incarnation: int | None = None,
        expected: object = None,
        found: object = None,
        hint: str = "",
    ) -> None:
        super().__init__(what, hint=hint)
        self.worker = worker
        self.incarnation = incarnation
        self.expected = expected
        self.found = found

    @property
    def where(self) -> str:
        parts = [] if self.worker is None else [f"worker {self.worker}"]
        if self.incarnation is not None:
            parts.append(f"incarnation {self.incarnation}")
        return ", ".join(parts)

    def __str__(self) -> str:
        text = super().__str__()
        if self.expected is None and self.found is None:
            return text
        return f"{text} (expected {self.expected}, found {self.found})"


class ConstantsError(DrpError):
    """Calibration constants that BeginRun needs are not there, or did not reach a worker.

    Fields: `worker` (who did not take them, or None), `source` (where they were looked for, or empty).
    """

    def __init__(self, what: str, *, worker: int | None = None, source: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.worker = worker
        self.source = source

    @property
    def where(self) -> str:
        who = "" if self.worker is None else f"worker {self.worker}"
        return ", ".join(part for part in ("constants", who, self.source) if part)


class RunStopped(DrpError):
    """The run was ended on purpose before its source was: by a policy such as `--on-overflow stop`.

    Fields: `policy`, the option that asked for it.
    """

    def __init__(self, what: str, *, policy: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.policy = policy

    @property
    def where(self) -> str:
        return self.policy

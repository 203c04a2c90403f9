"""Driving a partition from Python, with the method names of LCLS's DaqControl.

    from drp import DaqControl
    daq = DaqControl(host="localhost", platform=0, timeout=10000)
    wrong = daq.setState("running", {"beginstep": {"step_values": {"motor": 1.5}}})

As there, what sets something returns None or the text of what went wrong. `timeout` (milliseconds) is how long control may be silent: while it works
on a request it says so, and is waited for. No method may be called from two threads at once.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zmq

from drp.control.members import Failure
from drp.core.errors import DrpError, MessageError
from drp.core.partition import RESET, STEPS, State
from drp.link.control import HEARTBEAT, Message, decode, encode
from drp.link.keys import Keys, LinkError
from drp.link.rundir import run_directory
from drp.link.sockets import Endpoint, join, well_known

CLIENT_PORT, STATUS_PORT = 30000, 30010
DEFAULT_TIMEOUT_MS = 10000
ERROR = "error"

Info = Mapping[str, Any]

log = logging.getLogger("drp.control")


class PartitionError(DrpError):
    """Control could not do what it was asked for. `failures` says what went wrong with whom, `warnings` what else there is to know."""

    def __init__(
        self,
        what: str,
        failures: tuple[Failure, ...] = (),
        *,
        hint: str = "",
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, hint=hint)
        self.failures = failures
        self.warnings = warnings


class DaqControl:
    """A client of one partition's control."""

    states = tuple(State)
    transitions = (*STEPS, RESET)

    def __init__(
        self,
        *,
        host: str = "localhost",
        platform: int = 0,
        timeout: float = DEFAULT_TIMEOUT_MS,
        instrument: str = "",
        keys: str | Path | None = None,
    ) -> None:
        """Look for control in this user's run directory, or with a folder of keys at `host`. LinkError where there is none, or several.

        `instrument` (with a station other than 0: `tst-s1`) is needed where several partitions of this machine have the platform.
        """
        loaded = None if keys is None else Keys.load(keys)
        if loaded is not None:
            places = [
                well_known("", host=host, port=port + platform, keys=loaded)
                for port in (CLIENT_PORT, STATUS_PORT)
            ]
        else:
            name = _partition_here(instrument, platform, host)
            places = [well_known(f"{what}-{name}") for what in ("clients", "status")]
        self.host, self.platform, self.timeout = host, platform, timeout
        self._open(places, loaded)

    @classmethod
    def at(
        cls, clients: Endpoint, status: Endpoint, keys: Keys | None, timeout: float = DEFAULT_TIMEOUT_MS
    ) -> DaqControl:
        """Return a client of the control at these endpoints; `timeout` in milliseconds."""
        made = cls.__new__(cls)
        made.host, made.platform, made.timeout = clients.address, 0, timeout
        made._open([clients, status], keys)
        return made

    def _open(self, places: list[Endpoint], keys: Keys | None) -> None:
        self._address = places[0].address
        self._requests = join(zmq.DEALER, places[0], keys=keys)
        self._status = join(zmq.SUB, places[1], keys=keys)
        self._status.setsockopt(zmq.SUBSCRIBE, b"")

    def close(self) -> None:
        """Close the sockets."""
        self._requests.close()
        self._status.close()

    def ask(self, key: str, body: Info | None = None) -> dict[str, Any]:
        """Ask control for something and return the body of its answer. PartitionError: it could not do it, or is not there."""
        msg_id = secrets.token_hex(8)
        try:
            self._requests.setsockopt(zmq.SNDTIMEO, int(self.timeout))
            self._requests.send(encode(key, dict(body or {}), msg_id=msg_id, sender_id="client"))
        except zmq.Again:
            raise self._not_there() from None
        answer = self._answer(msg_id)
        if "err_info" in answer:
            failures = tuple(Failure(**one) for one in answer.get("failures", ()))
            warnings = tuple(map(str, answer.get("warnings", ())))
            raise PartitionError(str(answer["err_info"]), failures, warnings=warnings)
        return answer

    def _answer(self, msg_id: str) -> dict[str, Any]:
        """Wait for the answer to one request for as long as control is heard."""
        until_s = time.monotonic() + self.timeout / 1000
        while (left_s := until_s - time.monotonic()) > 0:
            if not self._requests.poll(int(left_s * 1000) + 1):
                continue
            message = decode(self._requests.recv())
            if message.msg_id != msg_id:
                continue  # of an earlier request, which was given up
            if message.key != HEARTBEAT:
                return message.body
            until_s = time.monotonic() + self.timeout / 1000
        raise self._not_there()

    def _not_there(self) -> PartitionError:
        return PartitionError(
            f"control has not been heard for {self.timeout / 1000:g} s at {self._address}",
            hint="Does it run, on that platform?",
        )

    # What LCLS's has.

    def getState(self) -> str:
        """Return the state, or "error"."""
        return str(self._get("getState").get("state", ERROR))

    def getStatus(self) -> tuple[Any, ...]:
        """Return last transition, state, configuration alias, recording, platform, bypass, experiment, run and last run number; or "error"s."""
        told = self._get("getStatus")
        names = (
            "transition",
            "state",
            "config_alias",
            "recording",
            "platform",
            "bypass_activedet",
            "experiment_name",
            "run_number",
            "last_run_number",
        )
        return tuple(told.get(name, {} if name == "platform" else ERROR) for name in names)

    def getInstrument(self) -> str | None:
        """Return the instrument's name, or None."""
        return self._get("getInstrument").get("instrument")

    def getPlatform(self) -> dict[str, Any]:
        """Return everybody who is there: {level: {id: {"active", "proc_info", "det_info", ...}}}; empty where control is not."""
        return self._get("getPlatform")

    def selectPlatform(self, body: Info) -> dict[str, Any]:
        """Choose who takes part from the next rollcall on: what getPlatform gave, with other values of "active" and of "det_info"."""
        wrong = self._set("selectPlatform", body)
        return {} if wrong is None else {"err_info": wrong}

    def getJsonConfig(self) -> str:
        """Return who takes part, as the text that storeJsonConfig takes."""
        chosen = {
            level: {
                one["proc_info"]["alias"]: {"active": one["active"], "det_info": one["det_info"]}
                for one in members.values()
            }
            for level, members in self.getPlatform().items()
        }
        return json.dumps({"activedet": chosen}, indent=1, sort_keys=True)

    def storeJsonConfig(self, json_data: str) -> dict[str, Any]:
        """Choose who takes part, and have control remember it: the text of an active-detectors file."""
        wrong = self._set("storeJsonConfig", {"json_data": json_data})
        return {} if wrong is None else {"err_info": wrong}

    def getBlock(self, data: Info) -> dict[str, Any] | None:
        """Return None: control makes no blocks, and a step's values are given as they are (`step_values`)."""
        return self._get("getBlock", data) or None

    def setState(self, state: str, phase1Info: Info | None = None) -> str | None:
        """Go to a state; `phase1Info` has what is added to the first phase of each transition, by its name."""
        return self._set("setState", {"state": state, "phase1": dict(phase1Info or {})})

    def setTransition(self, transition: str, phase1Info: Info | None = None) -> str | None:
        """Make one transition; `phase1Info` is added to its first phase."""
        return self._set("setTransition", {"transition": transition, "phase1": dict(phase1Info or {})})

    def setConfig(self, config: str) -> str | None:
        """Choose the configuration alias of the next Configure, such as BEAM."""
        return self._set("setConfig", {"config": config})

    def setRecord(self, record: bool) -> str | None:
        """Have the next run be recorded, or not."""
        return self._set("setRecord", {"record": record})

    def setBypass(self, bypass: bool) -> str | None:
        """Have the next rollcall take everybody, whatever was selected."""
        return self._set("setBypass", {"bypass": bypass})

    def monitorStatus(self) -> tuple[Any, ...]:
        """Wait for the next news, and return eight values: of a status transition, state, configuration alias, recording, bypass, experiment, run
        number and last run number; else "error", "warning", "fileReport", "progress" or "step", what is said of it, and "error"s.
        """
        while True:
            message = self.news()
            if (told := _eight(message)) is not None:
                return told

    def news(self, timeout_ms: int | None = None) -> Message:
        """Return the next message that control publishes. PartitionError: none came within `timeout_ms`."""
        while True:
            if not self._status.poll(timeout_ms):
                raise self._not_there()
            try:
                return decode(self._status.recv())
            except MessageError as error:
                log.warning("control says what cannot be read: %s", error)

    def scan(
        self, steps: Iterable[Info], seconds: float = 0.0, *, phase1Info: Info | None = None
    ) -> Iterator[Info]:
        """Make a step of the run for each of `steps`, which are values by name of what is scanned, and run `seconds` in each.

        Yields each step's values while it runs: what stands in the body of the loop is part of the step. A run is begun where there is none; it is
        `starting` between steps and at the end. PartitionError ends the scan.
        """
        extra = dict(phase1Info or {})
        for values in steps:
            extra.setdefault("configure", {"step_keys": list(values)})  # their Names are declared there
            self.ask("setState", {"state": State.STARTING, "phase1": extra})
            told = {"step_keys": list(values), "step_values": dict(values)}
            self.ask("setState", {"state": State.RUNNING, "phase1": {**extra, "beginstep": told}})
            end_s = time.monotonic() + seconds
            yield values
            time.sleep(max(0.0, end_s - time.monotonic()))
        self.ask("setState", {"state": State.STARTING})

    def _get(self, key: str, body: Info | None = None) -> dict[str, Any]:
        try:
            return self.ask(key, body)
        except DrpError as error:
            log.error("%s: %s", key, error)
            return {}

    def _set(self, key: str, body: Info) -> str | None:
        try:
            self.ask(key, body)
        except DrpError as error:
            return str(error)
        return None


def _eight(message: Message) -> tuple[Any, ...] | None:
    body = message.body
    match message.key:
        case "status":
            names = (
                "transition",
                "state",
                "config_alias",
                "recording",
                "bypass_activedet",
                "experiment_name",
            )
            return tuple(body.get(name) for name in (*names, "run_number", "last_run_number"))
        case "error" | "warning":
            told: tuple[Any, ...] = (body.get("err_info"),)
        case "fileReport":
            told = (body.get("path"),)
        case "progress":
            told = (body.get("transition"), body.get("elapsed"), body.get("total"))
        case "step":
            told = (body.get("step_done"),)
        case _:
            return None
    return (message.key, *told, *[ERROR] * (7 - len(told)))


def _partition_here(instrument: str, platform: int, host: str) -> str:
    """Return the name of the partition of this machine that is meant; LinkError."""
    if host not in ("localhost", "127.0.0.1", socket.gethostname(), socket.getfqdn()):
        raise LinkError(
            "another machine is reached with keys", address=host, hint="Give the folder: keys=DIR"
        )
    if instrument:
        return f"{instrument}-p{platform}"
    found = sorted(path.stem for path in run_directory().glob(f"clients-*-p{platform}.ipc"))
    if len(found) != 1:
        what = (
            f"{len(found)} partitions have platform {platform}: {', '.join(found)}"
            if found
            else "no control is here"
        )
        raise LinkError(what, address=f"platform {platform}", hint="Say which instrument")
    return found[0].removeprefix("clients-")

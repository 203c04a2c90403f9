"""What is sized by the source and the options: the pebble, and the arenas of the workers."""

from __future__ import annotations

import logging

from drp.core.config import DrpConfig, transition_room
from drp.core.errors import ConfigError, SegmentError
from drp.shm._pebble import Pebble
from drp.shm._segment import can_have
from drp.sink.answer import MAX_DESC_BYTES
from drp.source import Source

N_TRANSITIONS = 128
PEBBLE_BYTES = 1 << 30
MIN_SLOTS, MAX_SLOTS = 16, 4096
MIN_ARENA_BLOCKS = 4
ARENA_UNIT_BYTES = 4096

log = logging.getLogger("drp.run")


def arena_bytes(event_bytes: int, result_bytes: int) -> int:
    """Return the bytes of a worker's arena. A block is at most half of it; transitions wait for each other, so one of theirs is enough."""
    size = max(MIN_ARENA_BLOCKS * event_bytes, 2 * (result_bytes + MAX_DESC_BYTES))
    return -(-size // ARENA_UNIT_BYTES) * ARENA_UNIT_BYTES


def make_pebble(config: DrpConfig, source: Source, *, level: int = logging.INFO) -> Pebble:
    """Return the pebble for what a source gives, and log its sizes at this level. ConfigError: there is no room for it."""
    event_bytes = config.pebble_slot_bytes or source.max_event_bytes + config.fex_room.of(
        source.max_event_bytes
    )
    transition_bytes, result_bytes = transition_room(
        config.transition_bytes, source.max_transition_bytes, source.max_event_bytes, config.fex_room
    )
    slots = config.pebble_slots or max(MIN_SLOTS, min(MAX_SLOTS, PEBBLE_BYTES // event_bytes))
    pebble_bytes = slots * event_bytes + N_TRANSITIONS * transition_bytes
    arenas = [arena_bytes(event_bytes, result_bytes)] * (config.workers + config.spares)
    if result_bytes > transition_bytes and not can_have([pebble_bytes, *arenas]):
        # The user did not ask for that much, and may not need it.
        log.info("there is no room for transitions of %d bytes with all that workers add", result_bytes)
        result_bytes = transition_bytes
    log.log(
        level,
        "pebble: %d slots of %d bytes for events, %d of %d bytes for transitions; with its result an event may come to as much, "
        "a transition to %d bytes",
        slots,
        event_bytes,
        N_TRANSITIONS,
        transition_bytes,
        result_bytes,
    )
    try:
        return Pebble(slots, event_bytes, N_TRANSITIONS, transition_bytes, result_bytes)
    except (MemoryError, SegmentError) as error:
        raise ConfigError(
            f"there is no room for the pebble: {error}",
            option="-k",
            hint="Make it smaller with -k pebbleBufCount=, pebbleBufSize= or trBufSize=, or run --offline.",
        ) from error


def stalls_when_hung(config: DrpConfig, pebble: Pebble) -> str:
    """Return what to warn of where one hung event would fill the pebble; empty where it would not, or no rate is known."""
    slots, rate_hz = pebble.n_events, config.rate_hz
    if rate_hz is None or slots >= rate_hz * config.event_timeout_s:
        return ""
    return (
        f"the pebble holds {slots / rate_hz:.2f} s of events at {rate_hz:g} Hz, less than --event-timeout "
        f"{config.event_timeout_s:g} s: a hung event stalls the source (-k pebbleBufCount)"
    )

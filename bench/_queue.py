"""The rival of small events: the same job over SysV message queues, two Python processes, nothing recorded.

The parent has the events in shared memory and sends one 64-byte message for each (where it lies); the child makes an array of it, takes one
sample and answers with it in 64 bytes; the parent checks what came back. `depth` messages are on their way at most.
"""

from __future__ import annotations

import os
import struct
import time

import numpy as np
import sysv_ipc

MESSAGE = struct.Struct("<QQQ40x")
ANSWER = struct.Struct("<QH54x")
SAMPLES = 64
N_FRAMES = 64
MAX_DEPTH = 250
"""Messages of 64 bytes that a queue holds where the kernel's limits are as they come: 16384 bytes."""

_STOP = (1 << 64) - 1


def events_per_s(events: int, depth: int) -> float:
    """Send `events` through the queues and return the rate. RuntimeError: an answer was wrong."""
    frames = np.random.default_rng(1).integers(0, 4096, (N_FRAMES, SAMPLES), np.uint16)
    there = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, mode=0o600, max_message_size=64)
    back = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, mode=0o600, max_message_size=64)
    shared = sysv_ipc.SharedMemory(
        sysv_ipc.IPC_PRIVATE, flags=sysv_ipc.IPC_CREAT, mode=0o600, size=frames.nbytes
    )
    try:
        shared.write(frames.tobytes())
        child = os.fork()
        if child == 0:
            _child(there, back, shared)
        rate = _drive(there, back, frames, events, depth)
        there.send(MESSAGE.pack(_STOP, 0, 0))
        os.waitpid(child, 0)
        return rate
    finally:
        for one in (there, back, shared):
            one.remove()


def _child(there: sysv_ipc.MessageQueue, back: sysv_ipc.MessageQueue, shared: sysv_ipc.SharedMemory) -> None:
    view = memoryview(shared).toreadonly()
    dtype = np.dtype(np.uint16)
    while True:
        message, _ = there.receive()
        seq, offset, samples = MESSAGE.unpack(message)
        if seq == _STOP:
            os._exit(0)
        raw = np.ndarray((samples,), dtype, view, offset)
        back.send(ANSWER.pack(seq, raw[3]))


def _drive(
    there: sysv_ipc.MessageQueue, back: sysv_ipc.MessageQueue, frames: np.ndarray, events: int, depth: int
) -> float:
    expected = frames[:, 3].tolist()
    sent = 0
    began = time.perf_counter()
    for seq in range(events):
        while sent < events and sent - seq < depth:
            there.send(MESSAGE.pack(sent, sent % N_FRAMES * 2 * SAMPLES, SAMPLES))
            sent += 1
        answer, value = ANSWER.unpack(back.receive()[0])
        if answer != seq or value != expected[seq % N_FRAMES]:
            raise RuntimeError(f"answer {answer} with {value} to event {seq}")
    return events / (time.perf_counter() - began)

"""Events per second from raw to results on an NVIDIA GPU, copies to it and back included, beside one core of the CPU; in batches of 1, 16 and 64.

Input: frames of the simulated epixHR of 20 segments of 144 x 768 pixels and of 5. Where there is no GPU it says so and measures nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numba import cuda

from bench._common import Setting, Table, say_where, setting, turns
from bench.fex._frames import Camera, typical
from drp.fex import PhotonFinder
from drp.fex.cuda import GpuPhotonFinder

BATCHES = (1, 16, 64)
MOST = 200_000


def main(argv: Sequence[str] | None = None) -> None:
    settings = setting(argv, doc=__doc__)
    say_where()
    if not cuda.is_available():
        print("no CUDA device is found here, or not its driver: nothing is measured")
        return
    print(
        f"GPU: {cuda.get_current_device().name.decode()}, compute capability {cuda.get_current_device().compute_capability}"
    )
    for segments in (20, 5):
        measure(settings, Camera(segments))


def measure(settings: Setting, camera: Camera) -> None:
    """Print the table of one camera."""
    table = Table(f"{camera.segments} x 144 x 768 pixels, raw to the list of single-pixel photons, events/s")
    finder = PhotonFinder(camera.shape, camera.energy_kev, mask=camera.correction.mask(), most=MOST)
    events = settings.events(512, least=BATCHES[-1])

    def core() -> None:
        seconds = typical(
            camera.frames, lambda event: finder.find(camera.correction.segments(camera.event(event)))
        )
        table.add("one core", "events/s", 1 / seconds)

    turns(settings, core, *(on_gpu(table, camera, finder, batch, events) for batch in BATCHES))
    table.print([(f"GPU, batches of {batch}", "one core") for batch in BATCHES])
    bytes_each = int(np.prod(camera.shape)) * (2 + 2)
    print(f"  bytes of an event to the GPU and back: {bytes_each / 1e6:.1f} MB and the list")


def on_gpu(table: Table, camera: Camera, finder: PhotonFinder, batch: int, events: int) -> Callable[[], None]:
    """Return what goes through so many events in batches, by the clock on the wall: the GPU's time is no thread's."""
    gpu = GpuPhotonFinder(finder, camera.correction, batch=batch)
    raw = [camera.event(number) for number in range(batch)]

    def contestant() -> None:
        began = time.perf_counter()
        for _ in range(max(1, events // batch)):
            gpu.find(raw)
        seconds = (time.perf_counter() - began) / (max(1, events // batch) * batch)
        table.add(f"GPU, batches of {batch}", "events/s", 1 / seconds)

    return contestant


if __name__ == "__main__":
    main()

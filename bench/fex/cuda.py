"""Events per second from raw to photons and peaks on an NVIDIA GPU, copies to it and back included, beside one core; in batches of 1, 16 and 64.

Input: frames of the simulated epixHR of 20 segments of 144 x 768 pixels and of 5. Where there is no GPU it says so and measures nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numba import cuda

from bench._common import Setting, Table, say_where, setting, turns
from bench.fex._frames import Camera, typical
from drp.fex import PeakFinder8, PhotonFinder
from drp.fex.cuda import GpuPeakFinder8, GpuPhotonFinder

BATCHES = (1, 16, 64)
MOST = 200_000
SAMPLE = 64


def main(argv: Sequence[str] | None = None) -> None:
    settings = setting(argv, doc=__doc__)
    say_where()
    if not cuda.is_available():
        print("no CUDA device is found here, or not its driver: nothing is measured")
        return
    device = cuda.get_current_device()
    print(f"GPU: {device.name!r}, compute capability {device.compute_capability}")
    for segments in (20, 5):
        camera = Camera(segments)
        for name, made in FINDERS.items():
            measure(settings, camera, name, *made(camera))


def photons(camera: Camera, method: str) -> tuple[Any, type]:
    """Return the finders of photons, of the CPU and of the GPU."""
    mask = camera.correction.mask()
    finder = PhotonFinder(camera.shape, camera.energy_kev, method=method, mask=mask, most=MOST)
    return finder, GpuPhotonFinder


def peaks(camera: Camera, per_bin: int | None = None) -> tuple[Any, type]:
    """Return the finders of peaks."""
    radius, mask = camera.radius_px, camera.correction.mask()
    asic = camera.shape[1], camera.shape[2] // 4
    return PeakFinder8(radius, mask, asic_shape=asic, min_snr=8.0, per_bin=per_bin), GpuPeakFinder8


FINDERS: dict[str, Callable[[Camera], tuple[Any, type]]] = {
    "photons of single pixels": partial(photons, method="single"),
    "photons of droplets": partial(photons, method="droplet"),
    "peakfinder8, exact": peaks,
    "peakfinder8, fast": partial(peaks, per_bin=SAMPLE),
}


def measure(settings: Setting, camera: Camera, name: str, finder: Any, on_device: type) -> None:
    """Print the table of one camera and algorithm."""
    table = Table(f"{name}, {camera.segments} x 144 x 768 pixels, raw to results, events/s")
    events = settings.events(512, least=BATCHES[-1])

    def core() -> None:
        calibrated = camera.correction.segments
        seconds = typical(camera.frames, lambda event: finder.find(calibrated(camera.event(event))))
        table.add("one core", "events/s", 1 / seconds)

    def gpu(batch: int) -> Callable[[], None]:
        there = on_device(finder, camera.correction, batch=batch)
        raw = [camera.event(number) for number in range(batch)]
        rounds = max(1, events // batch)

        def contestant() -> None:
            began = time.perf_counter()  # by the clock on the wall: the GPU's time is no thread's
            for _ in range(rounds):
                there.find(raw)
            table.add(f"GPU, batches of {batch}", "events/s", rounds * batch / (time.perf_counter() - began))

        return contestant

    turns(settings, core, *map(gpu, BATCHES))
    table.print([(f"GPU, batches of {batch}", "one core") for batch in BATCHES])


if __name__ == "__main__":
    main()

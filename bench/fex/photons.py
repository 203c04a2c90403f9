"""ms per frame from raw to the list of photons, one core and both, single pixels and droplets; and how often photons are missed or made.

Input: frames of the simulated epixHR of 20 segments of 144 x 768 pixels and of 5, with Bragg peaks and 0.02 photons per pixel: with a water ring of 0.5
and without, each with whole and with shared charge (a cloud of 0.2 pixels). They are calibrated segment by segment as the finder asks. Beside it: one read of raw,
pedestal and gain (the floor); calibration alone; the dense map of `count_photons`, without mask and list; and scipy's label, sum and maximum position of
droplets. Times are the calling thread's own, of the median frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from bench._common import Setting, Table, number, say_where, setting, turns
from bench.fex._frames import Camera, Work, both_cores, typical
from calib.detectors import count_photons
from drp.fex import PhotonFinder
from drp.source.simoptions import parse
from drp.source.truth import SimTruth

METHODS = ("single", "droplet")
TARGETS_MS = {20: "4.76 (210 Hz)", 5: "2.38 (420 Hz)"}
DENSITIES = (0.01, 0.1, 1.0)
NOISE = 8
ROWS = (7, 1, 100, 10)
CLOUD = 0.2


class SharingCamera(Camera):
    """A camera whose photons share their charge."""

    @cached_property
    def truth(self) -> SimTruth:
        """What is really in the frames."""
        return SimTruth(replace(super().truth.options, sharing=CLOUD))


def lights(segments: int) -> dict[str, Camera]:
    """Return the cameras that are gone through, by what falls on them."""
    return {
        "ring": Camera(segments),
        "no ring": Camera(segments, ring=0.0),
        "ring, shared": SharingCamera(segments),
        "no ring, shared": SharingCamera(segments, ring=0.0),
    }


def finding(
    camera: Camera, method: str, cmpars: tuple[float, ...] | None = None, with_map: bool = False
) -> Work:
    """Return what finds the photons of an event of raw segments."""
    finder = PhotonFinder(
        camera.shape, camera.energy_kev, method=method, mask=camera.correction.mask(), with_map=with_map
    )
    return lambda event: finder.find(camera.correction.segments(camera.event(event), cmpars=cmpars))


def calibrating(camera: Camera) -> Work:
    """Return what calibrates an event's segments, one after the other."""

    def work(event: int) -> None:
        for _ in camera.correction.segments(camera.event(event)):
            pass

    return work


def counting(camera: Camera) -> Work:
    """Return what makes the dense map of a calibrated frame."""
    frames = [camera.correction.calib(one) for one in camera.raw]
    out = np.empty(camera.shape, np.uint16)
    return lambda event: count_photons(frames[event % len(frames)], camera.energy_kev, out=out)


def labelling(camera: Camera) -> Work:
    """Return what finds the droplets of a calibrated frame with scipy, without placing photons."""
    from scipy import ndimage  # noqa: PLC0415 - a rival, which need not be there

    frames = [camera.correction.calib(one) for one in camera.raw]

    def work(event: int) -> Any:
        for segment in frames[event % len(frames)]:
            labels, count = ndimage.label(segment >= 0.1 * camera.energy_kev)
            index = np.arange(1, count + 1)
            ndimage.sum_labels(segment, labels, index)
            ndimage.maximum_position(segment, labels, index)

    return work


def contestants(camera: Camera) -> Iterator[tuple[str, Callable[[], Work]]]:
    """Yield what is measured on the frames of a camera."""
    yield "one read of raw and constants", camera.floor
    yield "calibration alone", partial(calibrating, camera)
    for method in METHODS:
        yield f"raw to photons, {method}", partial(finding, camera, method)


def measure(settings: Setting, segments: int) -> None:
    """Print the times of frames of so many segments."""
    frames = settings.events(60, least=12)
    for light, camera in lights(segments).items():
        table = Table(f"{segments} segments, {light}: {camera.truth.photons(0).mean():.3f} photons per pixel")
        rows = dict(contestants(camera))
        if segments == 20 and light == "ring":
            rows |= {"calibrated to dense map": partial(counting, camera)}
            try:
                import scipy  # noqa: F401, PLC0415 - a rival, which need not be there

                rows |= {"calibrated to droplets, scipy": partial(labelling, camera)}
            except ImportError:
                print("scipy is not there and is left out")
            for method in METHODS:
                rows |= {f"with common mode of rows, {method}": partial(finding, camera, method, ROWS)}
                rows |= {f"with a map, {method}": partial(finding, camera, method, with_map=True)}
        work = {name: make() for name, make in rows.items()}
        each = [
            lambda name=name, one=one, table=table: table.add(name, "ms", 1e3 * typical(frames, one))
            for name, one in work.items()
        ]
        turns(settings, *each)
        for method in METHODS:
            make = dict(contestants(camera))[f"raw to photons, {method}"]
            table.add(f"the same on both cores, {method}", "ms", 1e3 * both_cores(make, frames))
        table.print(targets={f"raw to photons, {method}": TARGETS_MS[segments] for method in METHODS})
        found = finding(camera, "droplet")(0)
        print(
            f"  bytes read and written per frame: {number(camera.floor_bytes)} of raw and constants, "
            f"{number(found.sparse.nbytes)} of the list"
        )


def rates() -> None:
    """Print how often single pixels are wrong, beside the theory of normal noise; and what shared charge does to the number."""
    print(
        f"\nsingle pixels, threshold 0.5, {NOISE} times the camera's noise; parts of the pixels without photon and with one"
    )
    for density in DENSITIES:
        truth, found = searched(f"photons={density},noise={NOISE}", "single")
        photons = truth.photons(0)
        sigma = truth.rms[0] / (truth.gains[0] * truth.options.energy_kev)
        wrong = np.vectorize(math.erfc)(0.5 / sigma / math.sqrt(2)) / 2
        empty, one = photons == 0, photons == 1
        print(
            f"  {density:<5g} false {(found.map[empty] > 0).mean():.5f}, by theory {wrong[empty].mean():.5f}; "
            f"missed {(found.map[one] == 0).mean():.5f}, by theory {wrong[one].mean():.5f}"
        )
    print(
        "\nnumber of photons beside the truth, at the camera's noise: no sharing, and a cloud of 0.2 pixels"
    )
    for density in DENSITIES:
        for method in METHODS:
            words = []
            for sharing in (0.0, CLOUD):
                truth, found = searched(f"photons={density},sharing={sharing}", method)
                words.append(f"{found.total / float(truth.photons(0).sum()) - 1:+.3%}")
            print(f"  {density:<5g} {method:<8} {'  '.join(words)}")


def searched(options: str, method: str) -> tuple[SimTruth, Any]:
    """Return the truth and what is found of a frame without ring and peaks."""
    truth = SimTruth(parse(f"epixhr,ring=off,peaks=0,{options}"))
    kev = (truth.raw(0) - truth.pedestals[0]) / truth.gains[0]
    return truth, PhotonFinder(truth.shape, truth.options.energy_kev, method=method).find(kev)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    rates()
    for segments in (20, 5):
        measure(settings, segments)


if __name__ == "__main__":
    main()

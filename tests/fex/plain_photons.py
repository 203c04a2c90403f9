"""Finding photons, as a physicist would write it down: pixel by pixel, droplet by droplet, photon by photon."""

from __future__ import annotations

from typing import Any

import numpy as np

F32 = np.float32
PARTS = 65536
MOST = 65535


def single(frame: Any, mask: Any, photon_kev: float, threshold: float) -> np.ndarray:
    """Count the photons of each pixel by itself."""
    found = np.zeros(frame.shape, np.uint16)
    with np.errstate(invalid="ignore", over="ignore"):
        for place, kev in np.ndenumerate(frame):
            photons = F32(kev * F32(1 / photon_kev)) + F32(1 - threshold)
            if mask[place] and photons >= 1:
                found[place] = int(min(photons, MOST))
    return found


def droplet(frame: Any, mask: Any, photon_kev: float, threshold: float, low: float) -> np.ndarray:
    """Put connected pixels together, and place the photons of their sum one after the other where most energy is left."""
    found = np.zeros(frame.shape, np.uint16)
    for left in droplets(frame, mask, photon_kev, low):
        number = (sum(left.values()) + int((1 - threshold) * PARTS)) // PARTS
        for _ in range(number):
            best = min(left, key=lambda one: (-left[one], one))
            found[best] += 1
            left[best] -= PARTS
    return found


def droplets(frame: Any, mask: Any, photon_kev: float, low: float) -> list[dict[tuple[int, int, int], int]]:
    """Return the droplets, each the energies of its pixels in 65536ths of a photon."""
    belongs = (frame >= F32(low * photon_kev)) & (mask != 0)
    waiting = {tuple(map(int, one)) for one in np.argwhere(belongs)}
    found = []
    while waiting:
        found.append({one: parts(frame[one], photon_kev) for one in grown(waiting.pop(), waiting)})
    return found


def spectrum(frame: Any, mask: Any, photon_kev: float, low: float, bins: int, top: float) -> list[int]:
    """Count droplets by their energies."""
    counts = [0] * bins
    for one in droplets(frame, mask, photon_kev, low):
        place = int(sum(one.values()) / (top * PARTS / bins))
        if place < bins:
            counts[place] += 1
    return counts


def grown(first: tuple[int, int, int], waiting: set[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the pixels connected with `first` over edges, and take them from those that wait."""
    pixels = [first]
    for segment, row, col in pixels:
        for beside in ((row, col + 1), (row, col - 1), (row + 1, col), (row - 1, col)):
            if (segment, *beside) in waiting:
                waiting.remove((segment, *beside))
                pixels.append((segment, *beside))
    return pixels


def parts(kev: Any, photon_kev: float) -> int:
    """Return an energy in 65536ths of a photon."""
    with np.errstate(over="ignore"):
        return int(min(F32(kev * F32(1 / photon_kev)), F32(MOST)) * F32(PARTS))


def listed(counts: Any) -> list[list[int]]:
    """Return segment, row, column and photons of each pixel that holds any."""
    return [[*map(int, place), int(counts[tuple(place)])] for place in np.argwhere(counts)]

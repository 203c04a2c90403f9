"""The pixel kernels beside plain twins, and against the laws they draw from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.source._frames import count_photons, digitize
from drp.source.truth import _normal_quantiles

F32 = np.float32
NOISE = _normal_quantiles()


def mixed(key: int, count: int) -> npt.NDArray[np.uint64]:
    """Return `count` random numbers of a key."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def plain_poisson(mean: np.float32, none: np.float32, bits: int) -> int:
    u = F32(bits >> 8) * F32(2.0**-24)
    term = total = none
    k = 0
    while u >= total and (term > F32(1e-9) or k < mean):
        k += 1
        term = F32(term * F32(mean / F32(k)))
        total = F32(total + term)
    return k


def plain_digitize(
    charge: Any, kev: float, zero: Any, gain: Any, rms: Any, key: int, bits: Any, top: float, margin: float
) -> npt.NDArray[np.uint16]:
    n = len(charge)
    lanes = np.ascontiguousarray(mixed(key, -(-n // 4))).view("<u2")[:n]
    out = np.zeros(n, np.uint16)
    for i in range(n):
        energy = F32(F32(charge[i]) * F32(kev))
        for r in range(len(zero)):
            value = F32(zero[r, i] + F32(energy * gain[r, i]))
            room = F32(F32(margin) * rms[r, i])
            if r == len(zero) - 1 or room <= value <= F32(F32(top) - room):
                break
        value = F32(F32(value + F32(NOISE[lanes[i]] * rms[r, i])) + F32(0.5))
        out[i] = int(min(max(value, F32(0)), F32(top))) | int(bits[r])
    return out


@given(means=st.lists(st.floats(0, 50, width=32), min_size=1, max_size=40), key=st.integers(0, (1 << 64) - 1))
def test_counting_photons_is_its_plain_twin(means: list[float], key: int) -> None:
    mean = np.array(means, F32)
    none = np.exp(-mean)
    out = np.empty(len(mean), np.uint16)
    count_photons(mean, none, key, out)
    words = mixed(key, -(-len(mean) // 2)).view("<u4")
    assert out.tolist() == [plain_poisson(m, p, int(w)) for m, p, w in zip(mean, none, words, strict=False)]


@given(seed=st.integers(0, 1 << 32), n=st.integers(1, 40), ranges=st.integers(1, 3), falls=st.booleans())
def test_digitizing_is_its_plain_twin(seed: int, n: int, ranges: int, falls: bool) -> None:
    rng = np.random.default_rng(seed)
    zero = rng.uniform(1000, 15000, (ranges, n)).astype(F32)
    gain = (rng.uniform(0.1, 40, (ranges, n)) * (-1 if falls else 1)).astype(F32)
    rms = rng.uniform(0, 10, (ranges, n)).astype(F32)
    charge = (10 ** rng.uniform(-2, 4.5, n)).astype(F32)
    bits = np.array([0, 0x4000, 0xC000][:ranges], np.uint16)
    out = np.empty(n, np.uint16)
    digitize(charge, 9.5, zero, gain, rms, NOISE, seed, bits, 16383, 6, out)
    twin = plain_digitize(charge, 9.5, zero, gain, rms, seed, bits, 16383, 6)
    assert out.tolist() == twin.tolist()


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.7, 6.0, 50.0])
def test_photons_follow_poissons_law(mean: float) -> None:
    n = 400_000
    means = np.full(n, mean, F32)
    out = np.empty(n, np.uint16)
    count_photons(means, np.exp(-means), 99, out)
    assert out.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / n) + 1e-9)
    assert out.var() == pytest.approx(mean, rel=0.03, abs=1e-9)
    assert out.max() < mean + 8 * math.sqrt(mean) + 8


def test_noise_follows_the_normal_law() -> None:
    assert NOISE.mean() == pytest.approx(0, abs=1e-6)
    assert NOISE.std() == pytest.approx(1, abs=1e-3)
    assert np.interp(0.975, (np.arange(65536) + 0.5) / 65536, NOISE) == pytest.approx(1.959964, abs=1e-3)


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    a, b = np.zeros(4, F32), np.zeros(5, F32)
    with pytest.raises(ValueError, match="4 pixels"):
        count_photons(a, b, 1, np.zeros(4, np.uint16))
    planes = np.zeros((2, 4), F32)
    pixels = np.zeros(4, np.uint16)
    charge = np.zeros(4, F32)
    bits = np.zeros(2, np.uint16)
    with pytest.raises(ValueError, match="constants"):
        digitize(charge, 1, planes, np.zeros((2, 5), F32), planes, NOISE, 1, bits, 1, 1, pixels)
    with pytest.raises(ValueError, match="bits of 1"):
        digitize(charge, 1, planes, planes, planes, NOISE, 1, bits[:1], 1, 1, pixels)
    with pytest.raises(ValueError, match="quantiles"):
        digitize(charge, 1, planes, planes, planes, NOISE[:-1], 1, bits, 1, 1, pixels)

"""The pixels of simulated frames: photons by Poisson's law, then what a detector's electronics make of them.

Random numbers are a function of (key, index) alone, so a frame is the same whatever was made before it: number i of a key is splitmix64's
output (Steele, Lea, Flood, OOPSLA 2014) at key + i * GAMMA. No state, no allocation, no GIL. tests/source holds the plain twin of each kernel.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_RANGES = 4
    NOISE_ENTRIES = 65536
    LANES = 4                        # random numbers of 16 bits in one of 64

cdef uint64_t GAMMA = 0x9E3779B97F4A7C15
cdef float TO_UNIT = 1.0 / 16777216.0
cdef float SMALLEST = 1e-9


cdef inline uint64_t mixed(uint64_t key, uint64_t index) noexcept nogil:
    cdef uint64_t z = key + index * GAMMA
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


def count_photons(const float[::1] mean, const float[::1] none, uint64_t key, uint16_t[::1] out):
    """Fill `out` with a Poisson number of photons for each pixel's `mean`; `none` is exp(-mean), the chance of no photon.

    By inversion: the smallest k with u < P(0) + ... + P(k), u being 24 random bits. `mean` is at most 50.
    """
    cdef Py_ssize_t n = out.shape[0]
    cdef Py_ssize_t i
    cdef uint64_t bits
    if mean.shape[0] != n or none.shape[0] != n:
        raise ValueError(f"{n} pixels, {mean.shape[0]} means, {none.shape[0]} chances of no photon")
    with nogil:
        for i in range(0, n - 1, 2):
            bits = mixed(key, i // 2)
            out[i] = poisson(mean[i], none[i], <uint32_t>bits)
            out[i + 1] = poisson(mean[i + 1], none[i + 1], <uint32_t>(bits >> 32))
        if n % 2:
            out[n - 1] = poisson(mean[n - 1], none[n - 1], <uint32_t>mixed(key, (n - 1) // 2))


cdef inline uint16_t poisson(float mean, float none, uint32_t bits) noexcept nogil:
    cdef float u = <float>(bits >> 8) * TO_UNIT
    cdef float term = none
    cdef float total = none
    cdef uint32_t k = 0
    while u >= total and (term > SMALLEST or k < mean):      # beyond, single precision cannot reach u any more
        k += 1
        term *= mean / <float>k
        total += term
    return <uint16_t>k


def digitize(const float[::1] charge, float photon_kev, const float[:, ::1] zero, const float[:, ::1] gain,
             const float[:, ::1] rms, const float[::1] noise, uint64_t key, const uint16_t[::1] range_bits, float top, float margin,
             uint16_t[::1] out):
    """Fill `out` with what the electronics give for the charge of `charge` photons of `photon_kev` keV in each pixel.

    `zero` (pedestal and offset, ADU), `gain` (ADU/keV, negative where the signal falls) and `rms` (ADU) are (ranges, pixels). The first range is
    taken whose noiseless value stays `margin` rms inside 0..`top`, else the last; then noise (`noise`: NOISE_ENTRIES quantiles of the normal
    law, drawn by 16 random bits) is added, the value is rounded half up, cut to 0..top, and `range_bits` of the range are set.
    """
    cdef Py_ssize_t n = out.shape[0]
    cdef Py_ssize_t i
    cdef int lane
    cdef int last = <int>zero.shape[0] - 1
    cdef uint64_t bits = 0
    _check(charge.shape[0], n, zero.shape, gain.shape, rms.shape, noise.shape[0], range_bits.shape[0])
    with nogil:
        for i in range(n):
            lane = i % LANES
            if lane == 0:
                bits = mixed(key, i // LANES)
            out[i] = one_pixel(i, charge[i] * photon_kev, zero, gain, rms, noise[(bits >> (16 * lane)) & 0xFFFF], range_bits,
                               last, top, margin)


cdef inline uint16_t one_pixel(Py_ssize_t i, float kev, const float[:, ::1] zero, const float[:, ::1] gain, const float[:, ::1] rms,
                               float noise, const uint16_t[::1] range_bits, int last, float top, float margin) noexcept nogil:
    cdef int r = 0
    cdef float value = zero[0, i] + kev * gain[0, i]
    cdef float room
    while r < last:
        room = margin * rms[r, i]
        if room <= value <= top - room:
            break
        r += 1
        value = zero[r, i] + kev * gain[r, i]
    value = value + noise * rms[r, i] + <float>0.5
    if value < 0:
        value = 0
    elif value > top:
        value = top
    return <uint16_t>value | range_bits[r]


cdef int _check(Py_ssize_t charge, Py_ssize_t n, const Py_ssize_t *zero, const Py_ssize_t *gain, const Py_ssize_t *rms,
                Py_ssize_t noise, Py_ssize_t bits) except -1:
    cdef int k
    if charge != n or zero[1] != n or not 1 <= zero[0] <= MAX_RANGES or bits != zero[0]:
        raise ValueError(f"{n} pixels, {charge} charges, constants ({zero[0]}, {zero[1]}), bits of {bits} ranges")
    for k in range(2):
        if gain[k] != zero[k] or rms[k] != zero[k]:
            raise ValueError(f"constants of shapes ({zero[0]}, {zero[1]}), ({gain[0]}, {gain[1]}) and ({rms[0]}, {rms[1]})")
    if noise != NOISE_ENTRIES:
        raise ValueError(f"{noise} quantiles of the noise, not {NOISE_ENTRIES}")
    return 0

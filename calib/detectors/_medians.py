"""Exact medians of many short columns at once, by counting. Kernels; they know no detector.

A table `t` is (depth, lanes) float32, one list of values per lane; +inf is no value. The functions take `lanes` of its lanes, from `first` on. To
find a lane's middle value its bracket is halved again and again by counting how many values lie below a pivot, which for 16 lanes at once is one
comparison and one addition per value, and so is cheaper than any sorting of values into places: some ten passes over a table that lies in
the nearest cache. The first bracket is the mean of the values, each kept within the limit, and its standard deviation to both sides: no median is
further from its mean. When few values are left within the brackets, those are walked through in ascending order, which makes the result exact
whatever the pivots were, ties included.

`work` is (7, lanes) float32 and `counts` (5, lanes) int32, for the search alone.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

INF = np.float32(np.inf)
FEW = 3
HALVINGS = 5
MAX_PASSES = 40


@numba.njit(cache=True, nogil=True)
def count_below(t: Any, depth: Any, first: Any, lanes: Any, pivot: Any, count: Any) -> None:
    """Count the values of each lane that are less than its pivot."""
    for j in range(lanes):
        count[j] = 0
    d = 0
    while d + 8 <= depth:
        # Eight rows at a time, so that the counts are fetched and put back an eighth as often.
        t0, t1, t2, t3 = (
            t[d, first : first + lanes],
            t[d + 1, first : first + lanes],
            t[d + 2, first : first + lanes],
            t[d + 3, first : first + lanes],
        )
        t4, t5, t6, t7 = (
            t[d + 4, first : first + lanes],
            t[d + 5, first : first + lanes],
            t[d + 6, first : first + lanes],
            t[d + 7, first : first + lanes],
        )
        for j in range(lanes):
            p = pivot[j]
            below = np.int32(t0[j] < p) + np.int32(t1[j] < p) + np.int32(t2[j] < p) + np.int32(t3[j] < p)
            below += np.int32(t4[j] < p) + np.int32(t5[j] < p) + np.int32(t6[j] < p) + np.int32(t7[j] < p)
            count[j] += np.int32(below)
        d += 8
    while d < depth:
        row = t[d, first : first + lanes]
        for j in range(lanes):
            count[j] += np.int32(row[j] < pivot[j])
        d += 1


@numba.njit(cache=True, nogil=True)
def kept(x: Any, limit: Any) -> Any:
    """Return a value within the limit, 0 for none."""
    inside = x if x < limit else limit
    inside = inside if inside > -limit else -limit
    return inside if x < INF else np.float32(0)


@numba.njit(cache=True, nogil=True)
def brackets(t: Any, depth: Any, first: Any, lanes: Any, limit: Any, lo: Any, hi: Any, n: Any) -> None:
    """Count the values of each lane, and find a bracket of their median."""
    for j in range(lanes):
        lo[j] = np.float32(0)
        hi[j] = np.float32(0)
        n[j] = 0
    d = 0
    while d + 4 <= depth:
        t0, t1 = t[d, first : first + lanes], t[d + 1, first : first + lanes]
        t2, t3 = t[d + 2, first : first + lanes], t[d + 3, first : first + lanes]
        for j in range(lanes):
            x0, x1, x2, x3 = kept(t0[j], limit), kept(t1[j], limit), kept(t2[j], limit), kept(t3[j], limit)
            lo[j] += (x0 + x1) + (x2 + x3)
            hi[j] += (x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)
            n[j] += np.int32(
                np.int32(t0[j] < INF) + np.int32(t1[j] < INF) + np.int32(t2[j] < INF) + np.int32(t3[j] < INF)
            )
        d += 4
    while d < depth:
        row = t[d, first : first + lanes]
        for j in range(lanes):
            x = kept(row[j], limit)
            lo[j] += x
            hi[j] += x * x
            n[j] += np.int32(row[j] < INF)
        d += 1
    for j in range(lanes):
        mean = lo[j] / np.float32(max(n[j], 1))
        square = hi[j] / np.float32(max(n[j], 1))
        spread = np.sqrt(max(square - mean * mean, np.float32(0)))
        # Rounding of the sums must not move the bracket off the median.
        spread += np.float32(1e-3) * (spread + np.sqrt(square)) + np.float32(1e-6)
        lo[j] = mean - spread
        hi[j] = mean + spread


@numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def next_above(t: Any, depth: Any, first: Any, lanes: Any, value: Any, count: Any, above: Any) -> None:
    """Count the values of each lane that are at most `value`, and find the least one above it (+inf: none)."""
    for j in range(lanes):
        count[j] = 0
        above[j] = INF
    d = 0
    while d + 4 <= depth:
        t0, t1, t2, t3 = (
            t[d, first : first + lanes],
            t[d + 1, first : first + lanes],
            t[d + 2, first : first + lanes],
            t[d + 3, first : first + lanes],
        )
        for j in range(lanes):
            v = value[j]
            least = above[j]
            x0 = t0[j] if t0[j] > v else INF
            x1 = t1[j] if t1[j] > v else INF
            x2 = t2[j] if t2[j] > v else INF
            x3 = t3[j] if t3[j] > v else INF
            at_most = (
                np.int32(t0[j] <= v) + np.int32(t1[j] <= v) + np.int32(t2[j] <= v) + np.int32(t3[j] <= v)
            )
            least = least if least < x0 else x0
            least = least if least < x1 else x1
            least = least if least < x2 else x2
            above[j] = least if least < x3 else x3
            count[j] += np.int32(at_most)
        d += 4
    while d < depth:
        row = t[d, first : first + lanes]
        for j in range(lanes):
            x = row[j] if row[j] > value[j] else INF
            above[j] = above[j] if above[j] < x else x
            count[j] += np.int32(row[j] <= value[j])
        d += 1


@numba.njit(cache=True, nogil=True)
def halve(lanes: Any, k: Any, pivot: Any, count: Any, lo: Any, hi: Any, below_lo: Any, below_hi: Any) -> Any:
    """Move one end of each bracket to its pivot, set the next pivots, and return the most values left in a bracket."""
    worst: Any = np.int32(0)
    for j in range(lanes):
        up = count[j] <= k[j]
        new_lo = pivot[j] if up else lo[j]
        new_hi = hi[j] if up else pivot[j]
        new_below_lo = count[j] if up else below_lo[j]
        new_below_hi = below_hi[j] if up else count[j]
        lo[j] = new_lo
        hi[j] = new_hi
        below_lo[j] = new_below_lo
        below_hi[j] = new_below_hi
        pivot[j] = np.float32(0.5) * (new_lo + new_hi)
        left = np.int32(new_below_hi - new_below_lo)
        worst = left if left > worst else worst
    return worst


@numba.njit(cache=True, nogil=True)
def greatest_at_most(t: Any, depth: Any, lane: Any, value: Any) -> Any:
    """Return the greatest value of a lane that is at most `value`."""
    greatest = -INF
    for d in range(depth):
        if t[d, lane] <= value and t[d, lane] > greatest:
            greatest = t[d, lane]
    return greatest


@numba.njit(cache=True, nogil=True)
def lane_medians(
    t: Any, depth: Any, first: Any, lanes: Any, limit: Any, work: Any, counts: Any, median: Any
) -> None:
    """Find the median of each lane, if it is within -limit .. limit; +inf where it is not, or where there are no values.

    The median of an even number of values is the mean of the middle two. `counts[0]` is left with how many values each lane has.
    """
    lo, hi, pivot, value = work[0, :lanes], work[1, :lanes], work[2, :lanes], work[3, :lanes]
    above, lower, upper = work[4, :lanes], work[5, :lanes], work[6, :lanes]
    n, below_lo, below_hi, count, k = (
        counts[0, :lanes],
        counts[1, :lanes],
        counts[2, :lanes],
        counts[3, :lanes],
        counts[4, :lanes],
    )
    brackets(t, depth, first, lanes, limit, lo, hi, n)
    for j in range(lanes):
        k[j] = (n[j] - 1) >> 1
        pivot[j] = np.float32(0.5) * (lo[j] + hi[j])
        below_lo[j] = 0
        below_hi[j] = n[j]
    for _ in range(MAX_PASSES):
        count_below(t, depth, first, lanes, pivot, count)
        if halve(lanes, k, pivot, count, lo, hi, below_lo, below_hi) <= FEW:
            break
    for j in range(lanes):
        value[j] = np.nextafter(lo[j], -INF)
        lower[j] = INF
        upper[j] = INF
    open_lanes: Any = 1
    next_above(t, depth, first, lanes, value, count, above)
    for j in range(lanes):
        if count[j] > k[j]:
            # The lower middle value is outside of the limit; so is the median, but if the upper one is far on the other side.
            straddles = n[j] & 1 == 0 and count[j] == k[j] + 1
            lower[j] = greatest_at_most(t, depth, first + j, value[j]) if straddles else -INF
            upper[j] = above[j]
    while open_lanes:
        open_lanes = 0
        for j in range(lanes):
            reached = count[j] > k[j]
            is_new = reached and lower[j] == INF
            lower[j] = value[j] if is_new else lower[j]
            upper[j] = (value[j] if count[j] > n[j] >> 1 else above[j]) if is_new else upper[j]
            still = not reached and above[j] < INF and value[j] < limit
            value[j] = above[j] if still else value[j]
            open_lanes += np.int32(still)
        if open_lanes:
            next_above(t, depth, first, lanes, value, count, above)
    for j in range(lanes):
        middle = np.float32(0.5) * (lower[j] + upper[j]) if n[j] & 1 == 0 and lower[j] > -INF else lower[j]
        median[j] = middle if abs(middle) < limit else INF


@numba.njit(cache=True, nogil=True)
def total_below(t: Any, depth: Any, first: Any, lanes: Any, value: Any, pivot: Any, count: Any) -> Any:
    """Count all values of a table that are less than `value`."""
    for j in range(lanes):
        pivot[j] = value
    count_below(t, depth, first, lanes, pivot, count)
    total = 0
    for j in range(lanes):
        total += count[j]
    return total


@numba.njit(cache=True, nogil=True)
def total_next(
    t: Any, depth: Any, first: Any, lanes: Any, value: Any, pivot: Any, count: Any, above: Any
) -> Any:
    """Count all values of a table that are at most `value`, and find the least one above it (+inf: none)."""
    for j in range(lanes):
        pivot[j] = value
    next_above(t, depth, first, lanes, pivot, count, above)
    total = 0
    least = INF
    for j in range(lanes):
        total += count[j]
        least = above[j] if above[j] < least else least
    return total, least


@numba.njit(cache=True, nogil=True)
def one_median(
    t: Any, depth: Any, first: Any, lanes: Any, limit: Any, fewest: Any, work: Any, counts: Any
) -> Any:
    """Return the median of all values of a table if there are at least `fewest` and it is within -limit .. limit; else +inf."""
    pivots, above, count = work[0], work[1], counts[0]
    n: Any = total_below(t, depth, first, lanes, INF, pivots, count)
    if n == 0 or n < fewest:
        return INF
    k = (n - 1) >> 1
    lo: Any = -limit
    hi: Any = limit
    below_lo: Any = 0
    below_hi: Any = n
    for turn in range(MAX_PASSES):
        if below_hi - below_lo <= FEW:
            break
        part: Any = np.float32(0.5)
        if turn >= HALVINGS and turn % 3:
            # A little past where the median should be, then a little before: so the bracket closes from both sides.
            share = np.float32(k - below_lo) / np.float32(below_hi - below_lo)
            past = np.float32(0.5) / np.sqrt(np.float32(below_hi - below_lo))
            part = share + (past if turn % 3 == 1 else -past)
            part = min(max(part, np.float32(0.02)), np.float32(0.98))
        pivot = lo + (hi - lo) * part
        below = total_below(t, depth, first, lanes, pivot, pivots, count)
        if below <= k:
            lo, below_lo = pivot, below
        else:
            hi, below_hi = pivot, below
    value = np.nextafter(lo, -INF)
    total, least = total_next(t, depth, first, lanes, value, pivots, count, above)
    if total > k:
        if n & 1 or total > k + 1:
            return INF
        value = -INF
        for lane in range(first, first + lanes):
            value = max(value, greatest_at_most(t, depth, lane, lo))
    while total <= k and least < INF and value < limit:
        value = least
        total, least = total_next(t, depth, first, lanes, value, pivots, count, above)
    middle = value
    if n & 1 == 0:
        middle = np.float32(0.5) * (value + (value if total > n >> 1 else least))
    return middle if abs(middle) < limit else INF

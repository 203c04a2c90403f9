"""Exact medians by counting: of sixteen columns at once, and of a whole table. Kernels; they know no detector.

A table is float32 in memory from an address on, a row every `stride` bytes, as deep as it has rows; +inf is no value. To find a middle value its
bracket is narrowed again and again by counting how many values lie below a pivot, which for sixteen columns at once is one comparison and one
addition per row, and so is cheaper than any sorting of values into places: some eight passes over a table that lies in the nearest
cache. The first bracket is the mean of the values, each kept within the limit, and its standard deviation to both sides: no median is further from
its mean. A pivot is where the middle value should be by the counts so far, and a little to the side that then loses more; each third is the
middle of the bracket, whatever the values. When few are left in the brackets, one more pass finds the least and the greatest in each and
the least above it: exact where there are at most two or all are the same, ties included; else they are the next bracket.

Counts are float32 here, which is exact up to 16 million.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import (
    WIDTH,
    add,
    any_less,
    choose,
    div,
    floor,
    higher,
    load,
    lower,
    mul,
    next_up,
    pick,
    root,
    splat,
    sub,
    within,
)

INF = np.float32(np.inf)
ONE = np.float32(1)
HALF = np.float32(0.5)
FEW = np.float32(2.5)
"""More values than this are too many in a bracket."""
PASSES = 14
ROUNDS = 24
"""More than any bracket needs: each round halves it four times, to neighbouring numbers at last."""
_at = np.uintp


@within
def sums(table: Any, stride: Any, depth: Any, limit: Any) -> Any:
    """Return how many values each column has, their sum, each kept within the limit, and that of their squares."""
    zero, one, none = splat(np.float32(0)), splat(ONE), splat(INF)
    least, most = splat(-limit), splat(limit)
    n, total, squares = zero, zero, zero
    for d in range(_at(depth)):
        x = load(table + d * stride)
        inside = choose(x, none, higher(lower(x, most), least), zero)
        total = add(total, inside)
        squares = add(squares, mul(inside, inside))
        n = add(n, choose(x, none, one, zero))
    return n, total, squares


@within
def count_below(table: Any, stride: Any, depth: Any, pivot: Any) -> Any:
    """Count the values of each column that are less than its pivot."""
    zero, one = splat(np.float32(0)), splat(ONE)
    c0, c1, c2, c3 = zero, zero, zero, zero
    d = _at(0)
    while d + _at(4) <= _at(depth):
        # Four counts, for an addition takes longer than the next one can wait.
        row = table + d * stride
        c0 = add(c0, choose(load(row), pivot, one, zero))
        c1 = add(c1, choose(load(row + stride), pivot, one, zero))
        c2 = add(c2, choose(load(row + _at(2) * stride), pivot, one, zero))
        c3 = add(c3, choose(load(row + _at(3) * stride), pivot, one, zero))
        d += _at(4)
    while d < _at(depth):
        c0 = add(c0, choose(load(table + d * stride), pivot, one, zero))
        d += _at(1)
    return add(add(c0, c1), add(c2, c3))


@within
def edges(table: Any, stride: Any, depth: Any, lo: Any, hi: Any) -> Any:
    """Count the values of each column below its bracket's ends, and find the least and the greatest within it, and the least above (+-inf: none)."""
    zero, one, none, lowest = splat(np.float32(0)), splat(ONE), splat(INF), splat(-INF)
    below_lo, below_hi, least, most, above = zero, zero, none, lowest, none
    for d in range(_at(depth)):
        x = load(table + d * stride)
        below_lo = add(below_lo, choose(x, lo, one, zero))
        below_hi = add(below_hi, choose(x, hi, one, zero))
        least = lower(choose(x, lo, none, x), least)
        most = higher(choose(x, hi, x, lowest), most)
        above = lower(choose(x, hi, none, x), above)
    return below_lo, below_hi, least, most, above


@within
def greatest_below(table: Any, stride: Any, depth: Any, value: Any) -> Any:
    """Return the greatest value of each column that is less than `value`."""
    greatest = splat(-INF)
    for d in range(_at(depth)):
        x = load(table + d * stride)
        greatest = higher(choose(x, value, x, greatest), greatest)
    return greatest


@within
def next_pivot(k: Any, turn: Any, lo: Any, hi: Any, below_lo: Any, left: Any) -> Any:
    """Return where to divide a bracket with so many values left."""
    half, one = splat(HALF), splat(ONE)
    each = div(one, higher(left, one))
    part = mul(add(sub(k, below_lo), half), each)
    past = mul(half, root(each))
    part = choose(part, half, add(part, past), sub(part, past))
    return add(lo, mul(sub(hi, lo), part if turn % 3 != 2 else half))


@within
def bracket(n: Any, total: Any, squares: Any) -> Any:
    """Return the ends of a bracket of the median of `n` values."""
    count = higher(n, splat(ONE))
    mean = div(total, count)
    square = div(squares, count)
    spread = root(higher(sub(square, mul(mean, mean)), splat(np.float32(0))))
    # Rounding of the sums must not move the bracket off the median.
    spread = add(
        spread, add(mul(splat(np.float32(1e-3)), add(spread, root(square))), splat(np.float32(1e-6)))
    )
    return sub(mean, spread), add(mean, spread)


@within
def middle(n: Any, k: Any, below_lo: Any, below_hi: Any, least: Any, most: Any, above: Any) -> Any:
    """Return the median where a bracket holds the lower middle value, number `k`, and no third value between its least and its greatest."""
    half = splat(HALF)
    first = choose(below_lo, k, most, least)
    second = choose(add(k, half), sub(below_hi, splat(ONE)), most, above)
    is_odd = sub(n, mul(splat(np.float32(2)), floor(mul(n, half))))
    return choose(half, is_odd, first, mul(half, add(first, second)))


@within
def column_medians(table: Any, stride: Any, depth: Any, limit: Any) -> Any:
    """Return the median of each column, if it is within -limit .. limit; +inf where it is not, or where there are no values; and their numbers.

    The median of an even number of values is the mean of the middle two.
    """
    zero, one, half, few, none = splat(np.float32(0)), splat(ONE), splat(HALF), splat(FEW), splat(INF)
    most_allowed, least_allowed = splat(limit), splat(-limit)
    n, total, squares = sums(table, stride, depth, limit)
    lo, hi = bracket(n, total, squares)
    k = floor(mul(sub(n, one), half))
    below_lo, below_hi = zero, n
    median = none
    for _ in range(ROUNDS):
        pivot = mul(half, add(lo, hi))
        for turn in range(PASSES):
            count = count_below(table, stride, depth, pivot)
            is_up = sub(count, half)
            lo = choose(is_up, k, pivot, lo)
            below_lo = choose(is_up, k, count, below_lo)
            hi = choose(is_up, k, hi, pivot)
            below_hi = choose(is_up, k, below_hi, count)
            left = sub(below_hi, below_lo)
            if not any_less(few, left):
                break
            pivot = next_pivot(k, turn, lo, hi, below_lo, left)
        below_lo, below_hi, least, most, above = edges(table, stride, depth, lo, hi)
        found = middle(n, k, below_lo, below_hi, least, most, above)
        inside = choose(k, sub(below_hi, half), choose(sub(below_lo, half), k, one, zero), zero)
        found = choose(half, inside, found, none)
        median = choose(found, most_allowed, choose(least_allowed, found, found, none), none)
        # What is left of a bracket that holds more than two values, not all the same, and the median.
        is_open = choose(few, sub(below_hi, below_lo), choose(least, most, inside, zero), zero)
        if not any_less(half, is_open):
            break
        lo, hi = choose(half, is_open, least, lo), choose(half, is_open, next_up(most), hi)
    # The lower middle value may be below the bracket, and so outside of the limit, and the upper one far on the other side.
    beyond = choose(sub(below_lo, splat(np.float32(1.5))), k, choose(k, sub(below_lo, half), one, zero), zero)
    if any_less(half, beyond):
        first = greatest_below(table, stride, depth, lo)
        second = choose(below_lo, below_hi, least, above)
        found = mul(half, add(first, second))
        is_odd = sub(n, mul(splat(np.float32(2)), floor(mul(n, half))))
        found = choose(half, is_odd, none, found)
        found = choose(found, most_allowed, choose(least_allowed, found, found, none), none)
        median = choose(half, beyond, found, median)
    return median, n


@within
def total_of(numbers: Any) -> Any:
    """Return the sum over the lanes."""
    total = np.float32(0)
    for lane in range(WIDTH):
        total += pick(numbers, np.int32(lane))
    return total


@within
def least_of(numbers: Any) -> Any:
    """Return the least of the lanes."""
    least = INF
    for lane in range(WIDTH):
        least = min(least, pick(numbers, np.int32(lane)))
    return least


@within
def total_below(table: Any, stride: Any, depth: Any, groups: Any, value: Any) -> Any:
    """Count all values of a table that are less than `value`."""
    pivot = splat(value)
    count = splat(np.float32(0))
    for group in range(_at(groups)):
        count = add(count, count_below(table + _at(4 * WIDTH) * group, stride, depth, pivot))
    return total_of(count)


@within
def total_edges(table: Any, stride: Any, depth: Any, groups: Any, lo: Any, hi: Any) -> Any:
    """Return what `edges` does, of the whole table."""
    begin, end = splat(lo), splat(hi)
    below_lo, below_hi, least, most, above = edges(table, stride, depth, begin, end)
    zero = splat(np.float32(0))
    for group in range(_at(1), _at(groups)):
        a, b, c, d, e = edges(table + _at(4 * WIDTH) * group, stride, depth, begin, end)
        below_lo, below_hi = add(below_lo, a), add(below_hi, b)
        least, most, above = lower(least, c), higher(most, d), lower(above, e)
    return (
        total_of(below_lo),
        total_of(below_hi),
        least_of(least),
        -least_of(sub(zero, most)),
        least_of(above),
    )


@numba.njit(nogil=True)
def table_median(table: Any, stride: Any, depth: Any, groups: Any, limit: Any, fewest: Any) -> Any:
    """Return the median of a table of so many times sixteen columns, if it has at least `fewest` values and it is within the limit; else +inf."""
    zero = splat(np.float32(0))
    counts, totals, squares = zero, zero, zero
    for group in range(_at(groups)):
        a, b, c = sums(table + _at(4 * WIDTH) * group, stride, depth, limit)
        counts, totals, squares = add(counts, a), add(totals, b), add(squares, c)
    n = total_of(counts)
    if n < ONE or n < fewest:
        return INF
    begin, end = bracket(splat(n), splat(total_of(totals)), splat(total_of(squares)))
    lo, hi = pick(begin, np.int32(0)), pick(end, np.int32(0))
    k = np.float32(np.floor((n - ONE) * HALF))
    below_lo, below_hi = np.float32(0), n
    least, most, above = INF, -INF, INF
    for _ in range(ROUNDS):
        pivot = HALF * (lo + hi)
        for turn in range(PASSES):
            count = total_below(table, stride, depth, groups, pivot)
            if count <= k:
                lo, below_lo = pivot, count
            else:
                hi, below_hi = pivot, count
            left = below_hi - below_lo
            if left < FEW:
                break
            lows = next_pivot(splat(k), turn, splat(lo), splat(hi), splat(below_lo), splat(left))
            pivot = pick(lows, np.int32(0))
        below_lo, below_hi, least, most, above = total_edges(table, stride, depth, groups, lo, hi)
        if not below_lo <= k < below_hi or below_hi - below_lo < FEW or least == most:
            break
        lo, hi = least, pick(next_up(splat(most)), np.int32(0))
    if below_lo <= k < below_hi:
        found = pick(
            middle(
                splat(n), splat(k), splat(below_lo), splat(below_hi), splat(least), splat(most), splat(above)
            ),
            np.int32(0),
        )
    elif below_lo == k + ONE and n % 2 == 0:
        # As above: the lower middle value is outside of the limit, the upper one may be far on the other side.
        first = -INF
        for group in range(_at(groups)):
            part = greatest_below(table + _at(4 * WIDTH) * group, stride, depth, splat(lo))
            first = max(first, -least_of(sub(zero, part)))
        found = HALF * (first + (least if below_hi > below_lo else above))
    else:
        found = INF
    return found if abs(found) < limit else INF

"""Sixteen float32 numbers at once, for kernels that must keep them in registers, which the compiler does not find by itself.

A `Lanes` is a value of compiled code only: it is loaded from memory, computed with, and stored. Where a processor takes fewer numbers at once, an
operation becomes several. Comparisons are as those of numbers: none holds for NaN. Nothing here knows what the numbers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

WIDTH = 16
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, WIDTH)
INDEX = ir.IntType(32)


class Lanes(types.Type):
    """The type of sixteen numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """They are one register, or several, of the processor."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


def operation(generate: Callable[..., Any], result: Any, *arguments: Any) -> Any:
    """Return an operation for kernels, from what generates its code and the types of its result and arguments."""

    def lower(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return generate(builder, *values)  # None for what has no result

    match len(arguments):
        case 1:
            return intrinsic(lambda _typing, a: (result(*arguments), lower))  # noqa: ARG005
        case 2:
            return intrinsic(lambda _typing, a, b: (result(*arguments), lower))  # noqa: ARG005
        case _:
            return intrinsic(lambda _typing, a, b, c, d: (result(*arguments), lower))  # noqa: ARG005


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, VECTOR.as_pointer())


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INDEX, WIDTH), [INDEX(0)] * WIDTH))


def _function(name: str) -> Callable[..., Any]:
    def generate(builder: Any, value: Any) -> Any:
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), name)
        return builder.call(function, [value])

    return generate


def _next_up(builder: Any, value: Any) -> Any:
    word = ir.VectorType(INDEX, WIDTH)

    def each(number: int) -> Any:
        return ir.Constant(word, [INDEX(number)] * WIDTH)

    bits = builder.bitcast(value, word)
    up = builder.select(
        builder.icmp_signed(">=", bits, each(0)), builder.add(bits, each(1)), builder.sub(bits, each(1))
    )
    is_minus_zero = builder.icmp_signed("==", bits, each(-(1 << 31)))
    return builder.bitcast(builder.select(is_minus_zero, each(1), up), VECTOR)


def _any_less(builder: Any, a: Any, b: Any) -> Any:
    mask = builder.bitcast(builder.fcmp_ordered("<", a, b), ir.IntType(WIDTH))
    return builder.icmp_unsigned("!=", mask, ir.IntType(WIDTH)(0))


def _at_least(builder: Any, a: Any, b: Any) -> Any:
    mask = builder.bitcast(builder.fcmp_ordered(">=", a, b), ir.IntType(WIDTH))
    return builder.zext(mask, ir.IntType(64))


def _first_bit(builder: Any, bits: Any) -> Any:
    return builder.cttz(bits, ir.IntType(1)(1))


def _prefetch(builder: Any, address: Any) -> None:
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    name = "llvm.prefetch.p0i8"
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, INDEX, INDEX, INDEX])
        function = ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, INDEX(0), INDEX(3), INDEX(1)])  # to read, to be kept, data


def _turn(builder: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> None:
    def at(base: Any, stride: Any, number: int) -> Any:
        return _pointer(builder, builder.add(base, builder.mul(stride, stride.type(number))))

    rows = [builder.load(at(source, source_stride, number), align=4) for number in range(WIDTH)]
    step = 1
    while step < WIDTH:
        # Two rows that are `step` apart exchange every other group of `step` numbers.
        low = [one if not one & step else WIDTH + (one ^ step) for one in range(WIDTH)]
        high = [one ^ step if not one & step else WIDTH + one for one in range(WIDTH)]
        masks = [
            ir.Constant(ir.VectorType(INDEX, WIDTH), [INDEX(one) for one in mask]) for mask in (low, high)
        ]
        for number in (one for one in range(WIDTH) if not one & step):
            pair = rows[number], rows[number + step]
            rows[number], rows[number + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step *= 2
    for number, row in enumerate(rows):
        builder.store(row, at(target, target_stride, number), align=4)


load = operation(lambda build, address: build.load(_pointer(build, address), align=4), lanes, types.uintp)
"""load(address): what lies there."""
store = operation(
    lambda build, address, value: build.store(value, _pointer(build, address), align=4) and None,
    types.void,
    types.uintp,
    lanes,
)
"""store(address, a)."""
splat = operation(_splat, lanes, types.float32)
"""splat(number): the number in each lane."""
add = operation(lambda build, a, b: build.fadd(a, b), lanes, lanes, lanes)
sub = operation(lambda build, a, b: build.fsub(a, b), lanes, lanes, lanes)
mul = operation(lambda build, a, b: build.fmul(a, b), lanes, lanes, lanes)
div = operation(lambda build, a, b: build.fdiv(a, b), lanes, lanes, lanes)
root = operation(_function("llvm.sqrt.v16f32"), lanes, lanes)
floor = operation(_function("llvm.floor.v16f32"), lanes, lanes)
next_up = operation(_next_up, lanes, lanes)
"""next_up(a): the next greater number; a must be one."""
any_less = operation(_any_less, types.boolean, lanes, lanes)
"""any_less(a, b): whether a < b in any lane."""
at_least = operation(_at_least, types.uint64, lanes, lanes)
"""at_least(a, b): a bit for each lane in which a >= b, the lowest for the first."""
count_bits = operation(lambda build, bits: build.ctpop(bits), types.uint64, types.uint64)
"""count_bits(bits): how many are set."""
first_bit = operation(_first_bit, types.uint64, types.uint64)
"""first_bit(bits): the number of the lowest bit that is set; one must be."""
choose = operation(
    lambda build, a, b, x, y: build.select(build.fcmp_ordered("<", a, b), x, y),
    lanes,
    lanes,
    lanes,
    lanes,
    lanes,
)
"""choose(a, b, x, y): x where a < b, else y."""
turn = operation(_turn, types.void, types.uintp, types.uintp, types.uintp, types.uintp)
"""turn(source, its stride, target, its stride): the numbers of sixteen rows as columns; strides in bytes."""
prefetch = operation(_prefetch, types.void, types.uintp)
"""prefetch(address): have its line of the cache fetched, and do not wait for it."""
pick = operation(lambda build, a, lane: build.extract_element(a, lane), types.float32, lanes, types.int32)
"""pick(a, lane): the number of a lane."""

within = numba.njit(nogil=True, forceinline=True)
"""For what kernels call for a few pixels: it becomes part of who calls it."""


@within
def lower(a: Any, b: Any) -> Any:
    """Return the lower in each lane."""
    return choose(a, b, a, b)


@within
def higher(a: Any, b: Any) -> Any:
    """Return the higher in each lane."""
    return choose(b, a, a, b)

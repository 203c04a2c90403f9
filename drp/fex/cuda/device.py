"""The GPU: whether there is one, how kernels are spread over it, and arithmetic that rounds as the CPU does.

The device's compiler makes one instruction of a product and a sum, rounded once, unless it is told not to: `product` and `total` are each
rounded, and results are those of the CPU to the last bit. In numba's simulator they are plain ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import config

from drp.fex.errors import FexError

try:
    from numba import cuda
except ImportError as error:
    raise ImportError("this numba has no CUDA target of its own; pip install 'drp[cuda]'") from error

MOST_THREADS = 256
"""Threads of a block for whose registers there is room."""
SIMULATED: bool = config.ENABLE_CUDASIM  # type: ignore[attr-defined]

product: Callable[[Any, Any], Any] = operator.mul
"""product(a, b): of two float32 numbers."""
total: Callable[[Any, Any], Any] = operator.add
"""total(a, b): of two float32 numbers."""
wide_product: Callable[[Any, Any], Any] = operator.mul
"""wide_product(a, b): of two float64 numbers."""
wide_total: Callable[[Any, Any], Any] = operator.add
"""wide_total(a, b): of two float64 numbers."""
nearest: Callable[[Any], Any] = np.rint
"""nearest(a): the nearest whole number of a float32, of two the even one."""
if not SIMULATED:
    from numba.cuda import libdevice

    product, total, nearest = libdevice.fmul_rn, libdevice.fadd_rn, libdevice.rintf
    wide_product, wide_total = libdevice.dmul_rn, libdevice.dadd_rn


@dataclass(frozen=True, slots=True)
class Launch:
    """How many blocks of how many threads a kernel has; results do not depend on it."""

    blocks: int = 2 if SIMULATED else 2048
    threads: int = 4 if SIMULATED else 256

    def __post_init__(self) -> None:
        if self.blocks < 1 or not 1 <= self.threads <= MOST_THREADS:
            raise FexError(
                f"{self.blocks} blocks of {self.threads} threads cannot be launched",
                f"Give at least one block, and 1 to {MOST_THREADS} threads",
            )


@cuda.jit(device=True)
def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two whole numbers, for kernels; numba's own CUDA target fails to compile `min`."""
    return a if a < b else b


@cuda.jit(device=True)
def larger(a: Any, b: Any) -> Any:
    """Return the larger of two whole numbers."""
    return a if a > b else b


def host_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array that the device copies to and from by itself."""
    if 0 in shape:
        return np.empty(shape, dtype)
    array: npt.NDArray[Any] = cuda.pinned_array(shape, dtype)
    return array


def of_cpu(kernel: Any) -> Any:
    """Return a kernel of the CPU for kernels of the device, which compile it anew; for the simulator, the Python it is made of."""
    return _plain(kernel) if SIMULATED else kernel


def _plain(kernel: Any) -> Any:
    function = kernel.py_func
    names = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    inner = {name: _plain(one) for name, one in names.items() if hasattr(one, "py_func")}
    return FunctionType(function.__code__, {**function.__globals__, **inner})


def check_device() -> None:
    """Raise FexError where there is no GPU that kernels could run on."""
    if not cuda.is_available():
        raise FexError(
            "no CUDA device is found, or not its driver",
            "Run on a machine with an NVIDIA GPU whose driver knows CUDA 13, after pip install 'drp[cuda]'; or use the finder of the CPU",
        )

"""Compile every `_name.pyx` of the packages; all else is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}
HEADERS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "drp").rglob("*.h"))]
CORES = len(os.sched_getaffinity(0))


def extension(path: Path) -> Extension:
    relative = path.relative_to(ROOT)
    return Extension(
        ".".join(relative.with_suffix("").parts),
        [str(relative)],
        include_dirs=["drp/shm"],
        depends=HEADERS,
        extra_compile_args=["-O3", "-g0", "-Wno-unused-function"],
    )


sources = sorted(path for package in ("xtc", "calib", "drp") for path in (ROOT / package).rglob("_*.pyx"))
setup(
    ext_modules=cythonize([extension(path) for path in sources], compiler_directives=DIRECTIVES, nthreads=0),
    options={"build_ext": {"parallel": CORES}},
)

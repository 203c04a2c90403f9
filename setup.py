"""Compile every `_name.pyx` of the packages in place; all else is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}


def extension(path: Path) -> Extension:
    relative = path.relative_to(ROOT)
    return Extension(
        ".".join(relative.with_suffix("").parts),
        [str(relative)],
        include_dirs=["drp/shm"],
        extra_compile_args=["-O3", "-Wno-unused-function"],
    )


sources = sorted(path for package in ("xtc", "drp") for path in (ROOT / package).rglob("_*.pyx"))
setup(ext_modules=cythonize([extension(path) for path in sources], compiler_directives=DIRECTIVES, nthreads=0))

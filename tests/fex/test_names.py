"""drp.fex as a package: its names, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import drp.fex
from drp.fex._names import MODULE_OF


def test_each_public_name_is_found_and_told_to_type_checkers() -> None:
    tree = ast.parse(Path(drp.fex.__file__).read_text())
    told = {
        name.name: (node.module or "").removeprefix("drp.fex.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drp.fex.")
        for name in node.names
    }
    del told["look_up"]
    assert told == MODULE_OF
    assert sorted(MODULE_OF) == sorted(drp.fex.__all__)
    for name in MODULE_OF:
        assert getattr(drp.fex, name).__name__ == name


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(ImportError, match="Rio"):
        from drp.fex import Rio  # noqa: F401


def test_a_region_of_interest_costs_no_numba() -> None:
    code = "import sys; from drp.fex import Roi; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

"""What a script's text tells before it runs: which modules of drp.fex it names, and whether it calibrates.

The nursery compiles the kernels of those modules before the first fork. Nothing is imported or run for that. A module is named by
`from drp.fex import NAME`, `from drp.fex.MODULE import NAME` and `import drp.fex.MODULE`; what a script comes by otherwise is compiled when its
worker makes the object, still before the first event.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from drp.fex._names import MODULE_OF

PACKAGE = "drp.fex"
CALIBRATING = frozenset(("calib", "calib_segments", "image", "mask", "pixel_coords"))
"""What a script that needs constants asks a detector for; `calib` also as an argument of run.Detector."""
WARM_UP = "warm_up"


def kernels_of(script: str | Path) -> tuple[str, ...]:
    """Return what the nursery is to call, "module:warm_up" each; nothing for a script that cannot be read, which its worker will tell."""
    modules = sorted(set(_named(_tree_of(script))))
    return tuple(f"{module}:{WARM_UP}" for module in modules if _warms_up(module))


def calibrates(script: str | Path) -> bool:
    """Say whether a script asks for calibrated data, by the names it uses; False for a script that cannot be read."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in CALIBRATING)
        or (isinstance(node, ast.keyword) and node.arg == "calib")
        for node in ast.walk(_tree_of(script))
    )


def _tree_of(script: str | Path) -> ast.AST:
    try:
        return ast.parse(Path(script).read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return ast.Module([], [])


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith(f"{PACKAGE}."))
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            for one in node.names:
                yield f"{PACKAGE}.{MODULE_OF.get(one.name, one.name)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module)


def _warms_up(module: str) -> bool:
    """Say whether there is such a module, and it defines the function."""
    if module.count(".") != PACKAGE.count(".") + 1:
        return False
    found = find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return False
    tree = ast.parse(Path(found.origin).read_bytes())
    return any(isinstance(node, ast.FunctionDef) and node.name == WARM_UP for node in tree.body)

"""The script as the processes that it starts import it: its functions and classes, and none of its work.

multiprocessing starts a child by "spawn" or "forkserver" as a fresh interpreter, which runs the script's file again under the name
`__mp_main__`, to find the functions it is to call. A script of drp has no `if __name__ == "__main__"`: its event loop would begin. So the
script's module says that it is this one (`spec`), and multiprocessing runs this one in its place, which runs the script as far as its
`DataSource()`, and of what comes after that the definitions and imports only. Which script that is stands in the environment
(`announce`).

Imported under its own name it runs nothing.
"""

import ast
import dataclasses
import json
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from drp.script import psana_names
from drp.script.datasource import refuse_sessions
from drp.script.errors import NotAWorkerError
from drp.script.info import DrpInfo

VARIABLE = "DRP_SPAWNED_SCRIPT"
MULTIPROCESSING_NAME = "__mp_main__"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def spec() -> ModuleSpec:
    """Return what makes multiprocessing run this module in a script's place."""
    return ModuleSpec("drp.script.spawned", None)


def announce(script: Path, info: DrpInfo) -> None:
    """Tell the processes that this one starts which script they belong to."""
    os.environ[VARIABLE] = json.dumps({"script": str(script.resolve()), "info": dataclasses.asdict(info)})


def definitions(script: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Run a script in the namespace `names` up to its DataSource, and after that what it defines and imports; return `names`."""
    tree = ast.parse(script.read_bytes(), str(script))
    try:
        exec(compile(tree, str(script), "exec", dont_inherit=True), names)  # noqa: S102 - the user's own script
    except NotAWorkerError as error:
        trace = error.__traceback__
        reached = 0 if trace is None or trace.tb_next is None else trace.tb_next.tb_lineno
        tree.body = [one for one in tree.body if isinstance(one, _DEFINITIONS) and _still_due(one, reached)]
        exec(compile(tree, str(script), "exec", dont_inherit=True), names)  # noqa: S102 - as above
    return names


def _still_due(statement: ast.stmt, reached: int) -> bool:
    """Whether a statement comes after the line `reached`, or holds for the whole file."""
    is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    return is_future or statement.lineno > reached


def _of_this_process() -> dict[str, Any]:
    told = json.loads(os.environ[VARIABLE])
    script = Path(told["script"])
    refuse_sessions()
    psana_names.install()
    info = DrpInfo.from_dict(told["info"])
    return definitions(script, {"__name__": MULTIPROCESSING_NAME, "__file__": str(script), "drp_info": info})


if __name__ == MULTIPROCESSING_NAME:
    globals().update(_of_this_process())

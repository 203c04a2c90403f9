"""The rules of the house that a tool can check and no linter does."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from drp.core.ledger import Cause, Fate
from xtc import Damage, TransitionId

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (".py", ".pyx", ".pxd", ".pyi", ".h")
TEXTS = (*SOURCES, ".md", ".toml", ".yaml", ".in", ".cfg", ".txt", ".json")
MOST_LINES = 600
# Written in two parts, so that this file does not hold them.
FORBIDDEN = tuple(
    "".join(parts)
    for parts in (
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/op", "t/"),
        ("/ho", "me/"),
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("deb.", "debian.org"),
        ("npm", "js.org"),
        ("TO", "DO"),
        ("FIX", "ME"),
    )
)
# The words of the field that every reader of the code must find explained.
WORDS = (
    "alias",
    "arena",
    "contributor",
    "damage",
    "dgram",
    "fate",
    "fex",
    "index",
    "L1Accept",
    "ledger",
    "monitor",
    "nursery",
    "pebble",
    "persist",
    "prescale",
    "pulse",
    "replay",
    "ring",
    "segment",
    "SlowUpdate",
    "spare",
    "transition",
    "worker",
)


def files(*suffixes: str) -> Iterator[Path]:
    """Yield our own files: not what a build, a test run or a venv made."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                if not made(path):
                    folders.append(path)
            elif path.suffix in suffixes:
                yield path


def made(folder: Path) -> bool:
    """Say whether a folder is not ours."""
    hidden = folder.name.startswith(".") and folder.name != ".ci"
    return hidden or folder.name in ("build", "dist", "out", "__pycache__") or folder.suffix == ".egg-info"


def names(paths: Iterable[Path]) -> list[str]:
    """Return paths as a test's answer shows them."""
    return [str(path.relative_to(ROOT)) for path in paths]


def test_no_module_is_longer_than_a_reader_bears() -> None:
    long = (path for path in files(*SOURCES) if len(path.read_text().splitlines()) > MOST_LINES)
    assert names(long) == []


def test_every_module_says_what_it_is() -> None:
    silent = (
        path
        for path in files(".py")
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    )
    assert names(silent) == []


def test_packages_only_reexport() -> None:
    busy = (
        path
        for path in files(".py")
        if path.name == "__init__.py" and not only_reexports(ast.parse(path.read_text()))
    )
    assert names(busy) == []


def only_reexports(module: ast.Module) -> bool:
    """Say whether a module holds only a docstring, imports (some for type checkers alone) and assignments to names such as `__all__`."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (
            isinstance(node, ast.If)
            and ast.unparse(node.test) == "TYPE_CHECKING"
            and all(isinstance(one, ast.ImportFrom) for one in (*node.body, *node.orelse))
        )
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (
            isinstance(node, ast.Assign)
            and all(ast.unparse(target).startswith("__") for target in node.targets)
        )
        for node in module.body
    )


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of what a module imports or, compiled, cimports."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        return
    lines = re.findall(r"^(?:from ([\w.]+) )?c?import \(?([\w, .]*)", path.read_text(), flags=re.MULTILINE)
    for module, names in lines:
        yield from (f"{module}.{name.strip()}".strip(".") for name in names.split(","))


def test_compiled_modules_keep_to_the_layers_too() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    layers = [(at, layer.strip(" ()")) for at, row in enumerate(rows) for layer in row.split("|")]

    def layer_of(module: str) -> tuple[int, str]:
        return next((one for one in layers if f"{module}.".startswith(f"{one[1]}.")), (-1, ""))

    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for own in layers
        for path in (ROOT / own[1].replace(".", "/")).rglob("*")
        if path.suffix in (".py", ".pyx", ".pxd")
        for module in imported(path)
        if module.partition(".")[0] in ("drp", "calib", "xtc")
        if (at := layer_of(module)) != own and at[0] <= own[0]
    ]
    assert wrong == []


def test_tests_are_no_packages() -> None:
    assert names((ROOT / "tests").rglob("__init__.py")) == []


# What would run, or believe, something that came from outside. `exec` and `compile` run the user's own script, in three places.
DANGEROUS = re.compile(
    r"\b(?:c?[pP]ickle|marshal|shelve|dill|allow_pickle=True|shell=True|os\.system|os\.popen|mktemp|except:|yaml\.load)"
    r"|(?<![\w.])(?:eval|exec|__import__)\("
)
RUNS_SCRIPTS = {
    "drp/script/runner.py",
    "drp/script/spawned.py",
    "drp/script/psana_names.py",
    "drp/launch/_cnf_program.py",
}


def test_nothing_from_outside_is_run_or_unpickled() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files(".py", ".pyx")
        if path.relative_to(ROOT).parts[0] in ("xtc", "calib", "drp", "fex_scripts")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if DANGEROUS.search(line.partition("#")[0])
        and not ("exec(" in line and path.relative_to(ROOT).as_posix() in RUNS_SCRIPTS)
    ]
    assert found == []


@pytest.mark.parametrize("word", FORBIDDEN)
def test_forbidden_words_are_in_no_file(word: str) -> None:
    said = [path for path in (*files(*TEXTS), ROOT / ".ci" / "run") if word in path.read_text()]
    assert names(said) == []


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links to files, outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            yield target.split("#")[0]


def test_every_link_in_the_docs_leads_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in files(".md")
        for target in links(page)
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    queue = [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page not in reached:
            reached.add(page)
            queue += [(page.parent / target).resolve() for target in links(page) if target.endswith(".md")]
    assert names(page for page in files(".md") if page not in reached) == []


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = [
        line.strip()
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.lstrip().startswith("python3 -m venv")
    ]
    assert len(commands) == 2
    ci = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert [command for command in commands if command not in ci] == []


def glossary() -> str:
    """Return what the glossary explains: the bold words, and the names in the entries of fate and cause."""
    rows = [
        line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| **")
    ]
    listed = [row for row in rows if row.startswith(("| **fate**", "| **cause**"))]
    return "\n".join([row.split(" | ")[0] for row in rows] + listed)


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_field_are_explained(word: str) -> None:
    assert re.search(rf"\b{word}\b", glossary())


@pytest.mark.parametrize("kind", [Fate, Cause, TransitionId, Damage])
def test_names_that_users_meet_are_explained(kind: type[Fate | Cause | TransitionId | Damage]) -> None:
    entries = glossary()
    named = {str(member.name) for member in kind} - {"none", "User0", "User1", "User2", "User3"}
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", entries)] == []

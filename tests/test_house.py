"""The house: arrows point down, and the private parts of libraries are listed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

SCRIPT = sorted({*ROOT.glob("*.py")} - {ROOT / "hatch_build.py"})
MODULES = [*SCRIPT, *(ROOT / "imagenet2012").glob("[!_]*.py")]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ORDER = re.findall(r"^(?:   [├└]─ )?(\w+)\.py", CONTRIBUTING, re.MULTILINE)


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imports(path: Path) -> list[tuple[str, str]]:
    """Return module and name of each import of this project's own modules."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] == "imagenet2012"
        ):
            own = (node.module or "").removeprefix("imagenet2012").removeprefix(".")
            found += [(own or alias.name, alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module in ORDER]


def test_arrows_point_down_in_the_picture() -> None:
    """A module uses only those below it in the list of CONTRIBUTING.md, which has them all."""
    assert sorted(ORDER) == sorted(path.stem for path in MODULES)
    for path in MODULES:
        below = ORDER[ORDER.index(path.stem) + 1 :]
        used = imports(path)
        assert {module for module, _ in used} <= set(below), path.name
        assert not [name for _, name in used if name.startswith("_")], path.name
    # `datasets` 3 copies what the script imports, and not what that imports in turn.
    beside = {path.stem for path in SCRIPT} - {"imagenet2012"}
    assert {module for module, _ in imports(ROOT / "imagenet2012.py")} == beside


def test_private_parts_of_libraries_are_listed() -> None:
    """All names with an underscore that no module of this project defines."""
    used, own = set(), set()
    for node in (node for path in MODULES for node in nodes(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    table = CONTRIBUTING.partition("## Private parts")[2].partition("## How to")[0]
    listed = set(re.findall(r"\b(_[A-Za-z]\w*)`", table))
    assert {name for name in used - own if re.match(r"_[^_]", name)} <= listed <= used | own

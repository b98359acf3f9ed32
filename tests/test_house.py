"""The house: arrows point down, a constant's name means one thing, and private parts are listed."""

import ast
import re
from pathlib import Path

from conftest import ROOT

SCRIPT = sorted({*ROOT.glob("*.py")} - {ROOT / "hatch_build.py"})
PACKAGE = sorted({*(ROOT / "imagenet2012").glob("[!_]*.py")})
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ORDER = re.findall(r"^(?:   [├└]─ )?(\w+)\.py", CONTRIBUTING, re.MULTILINE)


def imports(path: Path) -> list[tuple[str, str]]:
    """Return module and name of each import of this project's own modules."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level or module.split(".")[0] == "imagenet2012":
                own = module.removeprefix("imagenet2012").removeprefix(".")
                found += [(own or alias.name, alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module in ORDER]


def test_arrows_point_down_in_the_picture() -> None:
    """A module uses only those below it in the list of CONTRIBUTING.md, which has them all."""
    modules = SCRIPT + PACKAGE
    assert sorted(ORDER) == sorted(path.stem for path in modules)
    for path in modules:
        below = ORDER[ORDER.index(path.stem) + 1 :]
        used = imports(path)
        assert {module for module, _ in used} <= set(below), path.name
        assert not [name for _, name in used if name.startswith("_")], path.name


def test_the_script_imports_every_module_beside_it() -> None:
    """`datasets` 3 copies what the script imports, and not what that imports in turn."""
    others = {path.stem for path in SCRIPT} - {"imagenet2012"}
    assert {module for module, _ in imports(ROOT / "imagenet2012.py")} == others


def constants(path: Path) -> dict[str, str]:
    """Return the constants of a module with their values, as they are written."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            names = [name for target in node.targets for name in ast.walk(target)]
            found |= {n.id: ast.unparse(node.value) for n in names if isinstance(n, ast.Name)}
    return {name: value for name, value in found.items() if name.isupper()}


def test_a_constants_name_has_one_meaning() -> None:
    found: dict[str, dict[str, str]] = {}
    for path in SCRIPT + PACKAGE:
        for name, value in constants(path).items():
            found.setdefault(name, {})[path.name] = value
    assert not {name: of for name, of in found.items() if len(set(of.values())) > 1}


def test_private_parts_of_libraries_are_listed() -> None:
    """All names with an underscore that no module of this project defines."""
    used, own = set(), set()
    for path in SCRIPT + PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute):
                (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    table = CONTRIBUTING.partition("## Private parts")[2].partition("## How to")[0]
    listed = set(re.findall(r"\b(_[A-Za-z]\w*)`", table))
    assert {name for name in used - own if re.match(r"_[^_]", name)} <= listed
    assert listed <= used | own

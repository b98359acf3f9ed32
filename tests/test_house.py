"""The house: arrows point down, no module reaches into another, and private parts are listed."""

import ast
import re
from pathlib import Path

from conftest import ROOT

SCRIPT = sorted({*ROOT.glob("*.py")} - {ROOT / "hatch_build.py"})
PACKAGE = [*(ROOT / "imagenet2012").glob("*.py")]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def imports(path: Path) -> list[tuple[str, str]]:
    """Return module and name of each import of this project's own modules."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level or module.split(".")[0] == "imagenet2012":
                own = module.removeprefix("imagenet2012").removeprefix(".")
                found += [(own or alias.name, alias.name) for alias in node.names]
    return found


def test_no_name_of_another_module_begins_with_an_underscore() -> None:
    for path in SCRIPT + PACKAGE:
        assert not [name for _, name in imports(path) if name.startswith("_")], path.name


def test_the_script_does_not_know_of_the_package() -> None:
    below = {path.stem for path in SCRIPT}
    for path in SCRIPT:
        assert {module for module, _ in imports(path)} <= below, path.name


def test_there_are_no_circles() -> None:
    arrows = {p.stem if p in SCRIPT else f"imagenet2012.{p.stem}": p for p in SCRIPT + PACKAGE}
    targets = {
        name: {
            module if module in {p.stem for p in SCRIPT} else f"imagenet2012.{module}"
            for module, _ in imports(path)
        }
        for name, path in arrows.items()
        if path.stem not in ("__init__", "__main__")
    }
    while leaves := [name for name, modules in targets.items() if not modules & targets.keys()]:
        for name in leaves:
            del targets[name]
    assert not targets, "these use each other"


def test_arrows_point_down_in_the_picture() -> None:
    """A module uses only those below it in the list of CONTRIBUTING.md, which has them all."""
    order = re.findall(r"[├└]─ (\w+)\.py", CONTRIBUTING)
    assert {path.stem for path in SCRIPT} == {"imagenet2012", *order}
    for path in SCRIPT:
        below = order[order.index(path.stem) + 1 :] if path.stem in order else order
        assert {module for module, _ in imports(path)} <= set(below), path.name


def test_the_script_imports_every_module_beside_it() -> None:
    """`datasets` 3 copies what the script imports, and not what that imports in turn."""
    (script,) = (path for path in SCRIPT if path.stem == "imagenet2012")
    others = {path.stem for path in SCRIPT} - {"imagenet2012"}
    assert {module for module, _ in imports(script)} == others


def private_names(path: Path) -> set[str]:
    """Return the names with an underscore that a module uses and does not define."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    used |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    return {name for name in used if re.match(r"_[^_]", name)}


def defined_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.ClassDef
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_private_parts_of_libraries_are_listed() -> None:
    modules = SCRIPT + PACKAGE
    own = set().union(*map(defined_names, modules))
    table = CONTRIBUTING.partition("## Private parts")[2].partition("## How to")[0]
    listed = set(re.findall(r"\b(_[A-Za-z]\w*)`", table))
    for path in modules:
        for name in private_names(path) - own:
            assert name in listed, f"{path.name} uses {name}"
    text = "".join(path.read_text(encoding="utf-8") for path in modules)
    for name in listed:
        assert re.search(rf"\b{name}\b", text), f"{name} is not used any more"

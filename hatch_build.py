"""Build hook: lay the script out as a package in wheels, but not in editable installs."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# An editable install would hold copies of these, which hide the clone's files from `import`.
SCRIPT = (
    "imagenet2012",
    "ilsvrc2012",
    "splits",
    "storage",
    "tar_reader",
    "trees",
    "tree_listing",
    "in_turns",
    "contents",
    "copies",
    "options",
    "rows",
    "archives",
    "in_place",
    "arrow_tables",
)
PACKAGE = {f"{module}.py": f"imagenet2012/{module}.py" for module in SCRIPT}
PACKAGE["imagenet2012_command.py"] = "imagenet2012_command.py"
PACKAGE |= {
    f"labels/{name}": f"imagenet2012/labels/{name}" for name in ("classes.tsv", "validation.txt")
}


class Layout(BuildHookInterface):
    """Tells hatchling what goes where."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to what is built."""
        if version != "editable":
            build_data["force_include"].update(PACKAGE)

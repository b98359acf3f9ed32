"""Build hook: lay the script out as a package in wheels, but not in editable installs."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# An editable install would hold copies of these, which hide the clone's files from `import`.
PACKAGE = {
    "imagenet2012.py": "imagenet2012/__init__.py",
    "labels/classes.tsv": "imagenet2012/labels/classes.tsv",
    "labels/validation.txt": "imagenet2012/labels/validation.txt",
    "imagenet2012_tools/__main__.py": "imagenet2012/__main__.py",
}


class Layout(BuildHookInterface):
    """Tells hatchling what goes where."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to what is built."""
        if version != "editable":
            build_data["force_include"].update(PACKAGE)

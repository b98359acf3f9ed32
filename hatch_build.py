"""Build hook: lay the script out as a package in wheels, but not in editable installs."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Layout(BuildHookInterface):
    """Tells hatchling what goes where."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the script, the modules beside it and the label tables to the package."""
        if version == "editable":  # copies would hide the clone's files from `import`
            return
        folder = Path(self.root)
        script = {path.name for path in folder.glob("*.py")} - {"hatch_build.py"}
        files = [*script, *(f"labels/{path.name}" for path in (folder / "labels").iterdir())]
        build_data["force_include"].update({name: f"imagenet2012/{name}" for name in files})

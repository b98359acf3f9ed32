"""Record what the builder declares: ``python scripts/make_infos.py``.

Writes ``dataset_infos.json``, which `datasets` reads beside the card. It holds what is known
without the archives: features, the numbers of examples, sizes and SHA-256 of the archives. The test
split is optional and of unknown size, so it is not in it.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import imagenet2012  # noqa: E402

INFOS = ROOT / "dataset_infos.json"
DECLARED = ("description", "citation", "homepage", "license", "features", "supervised_keys")


def info(config: str, folder: str) -> dict[str, Any]:
    """Return what is recorded of a configuration."""
    declared = imagenet2012.Imagenet2012(config_name=config, cache_dir=folder).info
    recorded = {s: source for s, source in imagenet2012.ilsvrc2012.SOURCES.items() if source.size}
    everything = datasets.info.asdict(declared)
    return {
        **{key: everything[key] for key in DECLARED},
        "builder_name": "imagenet2012",
        "dataset_name": "imagenet2012",
        "config_name": config,
        "version": {"version_str": imagenet2012.__version__},
        "splits": {
            split: {"name": split, "num_examples": source.num_examples}
            for split, source in recorded.items()
        },
        "download_checksums": {
            source.file_names[0]: {"num_bytes": source.size, "checksum": source.sha256}
            for source in recorded.values()
        },
        "download_size": sum(source.size or 0 for source in recorded.values()),
    }


def make() -> str:
    """Return the text of the file."""
    with tempfile.TemporaryDirectory() as folder:
        infos = {name: info(name, folder) for name in imagenet2012.Imagenet2012.builder_configs}
    return json.dumps(infos, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    INFOS.write_text(make(), encoding="utf-8", newline="\n")
    print(f"written: {INFOS.name}")

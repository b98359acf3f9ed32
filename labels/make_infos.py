"""Record what the builder declares: ``python labels/make_infos.py``.

Writes ``dataset_infos.json`` and the ``dataset_info`` of the card's front matter in ``README.md``.
They hold what is known without the archives: features, the numbers of examples, sizes and SHA-256
of the archives. The test split is optional and of unknown size, so it is not in them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import imagenet2012  # noqa: E402

INFOS = ROOT / "dataset_infos.json"
CARD = ROOT / "README.md"
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


def card_infos() -> list[dict[str, Any]]:
    """Return the same for the card, as the Hub writes it."""
    infos = json.loads(make())
    features = datasets.Features.from_dict(infos["default"]["features"])._to_yaml_list()
    return [
        {
            "config_name": name,
            "features": features,  # one object, so that YAML has the 1000 names once
            "splits": list(infos[name]["splits"].values()),
            "download_size": infos[name]["download_size"],
        }
        for name in infos
    ]


def make_card(text: str) -> str:
    """Return the card's text with its ``dataset_info``, the last of the front matter, made anew."""
    _, front, body = text.split("---\n", 2)
    kept = front.split("dataset_info:")[0]
    infos = yaml.safe_dump({"dataset_info": card_infos()}, sort_keys=False, allow_unicode=True)
    return f"---\n{kept}{infos}---\n{body}"


if __name__ == "__main__":
    INFOS.write_text(make(), encoding="utf-8", newline="\n")
    CARD.write_text(make_card(CARD.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    print(f"written: {INFOS.name}, {CARD.name}")

"""Make the label tables from packages on PyPI: ``python scripts/make_labels.py [--check]``.

`classes.tsv`, 1000 lines of wnid and name in label order, and `validation.txt`, the wnid of each
of the 50,000 validation images in the order of their numbers, come from

- tensorflow-datasets 4.9.10 (Apache-2.0): sorted wnids, wnids of the validation images;
- timm 1.0.31 (Apache-2.0): the same wnids, and the names.

Of timm's names 999 are unique: "crane" stands for the bird and for the machine. As in the Hub's
``imagenet-1k``, the machine (n03126707) is "crane2" here.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

TFDS = "tensorflow_datasets/datasets/imagenet2012/"
TIMM = "timm/data/_info/"
SOURCES = {
    "tensorflow-datasets==4.9.10": [TFDS + "labels.txt", TFDS + "validation_labels.txt"],
    "timm==1.0.31": [TIMM + "imagenet_synsets.txt", TIMM + "imagenet_synset_to_lemma.txt"],
}
RENAMED = {"n03126707": "crane2"}


def fetch(requirement: str, members: list[str]) -> list[list[str]]:
    """Download a wheel without what it depends on, and return the lines of files in it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, requirement], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return [archive.read(member).decode().splitlines() for member in members]


def make() -> dict[str, str]:
    """Return the text of both tables, after comparing what the packages say."""
    (wnids, validation), (synsets, lemmas) = (fetch(*source) for source in SOURCES.items())
    names = dict(line.split("\t") for line in lemmas) | RENAMED
    per_class = Counter(validation)
    problems = {
        "the packages differ in the wnids": wnids != synsets,
        "the wnids are not 1000 sorted ones": wnids != sorted(set(wnids)) or len(wnids) != 1000,
        "names are missing or not unique": len({names.get(wnid) for wnid in wnids} - {None})
        != 1000,
        "it is not 50 validation images each": per_class != Counter(dict.fromkeys(wnids, 50)),
    }
    if any(problems.values()):
        raise SystemExit("; ".join(text for text, wrong in problems.items() if wrong))
    return {
        "classes.tsv": "".join(f"{wnid}\t{names[wnid]}\n" for wnid in wnids),
        "validation.txt": "".join(f"{wnid}\n" for wnid in validation),
    }


def main() -> None:
    """Write the tables or, with ``--check``, compare them with what is there."""
    folder = Path(__file__).parent.parent / "labels"
    for name, text in make().items():
        if "--check" not in sys.argv:
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        elif (folder / name).read_text(encoding="utf-8") != text:
            raise SystemExit(f"labels/{name} is not what the packages give: run make tables")
        print(f"labels/{name}: {text.count(chr(10)):,} lines")


if __name__ == "__main__":
    main()

"""The README: a valid dataset card, and every block of it runs."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from conftest import ROOT, ended, official, start_python
from huggingface_hub import DatasetCard
from PIL import Image

import imagenet2012

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with archives in ~/imagenet."""
    home = tmp_path_factory.mktemp("home")
    fakes.make_archives(home / "imagenet", classes=30, per_class=10, validation=1, test=1)
    numbers = range(1, 41)
    members = [(f"ILSVRC2012_val_{n:08d}.JPEG", fakes.jpeg(n)) for n in numbers]
    (home / "imagenet" / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(members))
    members = [(f"ILSVRC2012_test_{n:08d}.JPEG", fakes.jpeg(n)) for n in numbers]
    (home / "imagenet" / "ILSVRC2012_img_test_v10102019.tar").write_bytes(fakes.tar(members))
    write_subset(home / "imagenet-100")
    return home


def write_subset(folder: Path) -> None:
    """Write extracted images of three classes, none of them the first."""
    for number in (1, 2, 3):
        wnid = imagenet2012.WNIDS[fakes.validation_label(number)]
        for path in (f"train/{wnid}/{wnid}_1.JPEG", f"val/{wnid}/ILSVRC2012_val_{number:08d}.JPEG"):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_bytes(fakes.jpeg(number))


def pass_as_originals(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let fakes have the official sizes and counts, as the README's reader's archives do."""
    monkeypatch.setattr(imagenet2012.rows, "NUM_CLASSES", 30)
    for split, count in {"train": 300, "validation": 40, "test": 40}.items():
        source = imagenet2012.ilsvrc2012.SOURCES[split]
        size = (folder / source.file_names[0]).stat().st_size if source.size else None
        official(monkeypatch, split, size=size, num_examples=count)


def test_every_block_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    pass_as_originals(monkeypatch, home / "imagenet")
    small = {"num_workers=8": "num_workers=2", "Crop(224)": "Crop(32)", "resnet50": "resnet18"}
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if all(find_spec(name) for name in re.findall(r"^(?:from|import) (\w+)", block, re.M)):
            for words, others in small.items():
                block = block.replace(words, others)
            exec(block, names)
    assert names["train"].num_rows == names["ds"]["train"].num_rows == 300
    assert {split: sorted(rows["label"]) for split, rows in names["subset"].items()} == {
        "train": [0, 1, 2],
        "validation": [0, 1, 2],
    }
    assert not find_spec("torchcodec") or names["loss"].isfinite()


@pytest.mark.skipif(not find_spec("torchcodec"), reason="needs torchcodec")
def test_the_training_loop_decodes_as_the_dataset_does() -> None:
    """Also CMYK, grayscale, the PNG, images on their side, and broken metadata."""
    from torchcodec.decoders import decode_image

    (block,) = (block for block in BLOCKS if "torchcodec" in block)
    assert "decode_image(jpeg)" in block
    images = {name: make(name) for name, make in fakes.ODD.items()}
    images |= {"plain": fakes.jpeg(8, size=(500, 375)), "garbage as EXIF": fakes.bad_exif(9)}
    for name, jpeg in images.items():
        wanted = np.asarray(imagenet2012.decode_image(jpeg))
        assert np.array_equal(decode_image(jpeg).permute(1, 2, 0).numpy(), wanted), name


def demo(tmp_path: Path, folder: str) -> str:
    """Run the demo, and return what it prints."""
    program = ROOT / "examples" / "demo.py"
    done = ended(start_python(program, folder, cwd=tmp_path, HF_HOME=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size > (100, 100)
    return done.stdout


def test_the_demo(tmp_path: Path) -> None:
    assert "these are the bundled archives" in demo(tmp_path, "")


def test_the_demo_takes_a_subset(tmp_path: Path) -> None:
    """It says what is not as it should be, and goes on."""
    members = fakes.flat_images("val", 3)
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(members))
    told = demo(tmp_path, str(tmp_path))
    assert "bytes, the original validation archive has 6,744,924,160" in told
    assert members[0][0] in told


def test_front_matter() -> None:
    data = DatasetCard.load(ROOT / "README.md").data.to_dict()
    for key in ("pretty_name", "license_link", "task_categories", "size_categories", "language"):
        assert data.get(key), key
    assert data["license"] == "other"
    assert TEXT.split("---")[1].count("\n") < 25, "the classes are in dataset_infos.json"


def test_links_and_pictures_are_there() -> None:
    for path in ("README.md", *map(str, Path(ROOT, "docs").glob("*.md"))):
        text = Path(ROOT, path).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (Path(ROOT, path).parent / target).exists(), f"{path}: {target}"


def test_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_names_for_contributors_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = (*ROOT.glob("*.py"), *ROOT.glob("imagenet2012/*.py"))
    loader = "".join(path.read_text() for path in modules)
    names = re.findall(r"`(?:\w+\.)?([_A-Za-z]\w+)`", text.partition("## Tests")[0])
    assert len(names) > 10
    for name in names:
        assert re.search(rf"\b{name}\b", loader), name
    for path in re.findall(r"`(\w+/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_tables_are_those_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import report

    found = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    assert (ROOT / "benchmarks" / "results.md").read_text() == report.tables(found)

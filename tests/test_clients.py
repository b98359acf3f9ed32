"""Every block of docs/clients.md runs, as a script of its own, with the program it is about.

A test is skipped where its program is not installed. `.ci/run` makes an environment that has all.
"""

import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from conftest import ROOT

TEXT = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##? ([^\n]+)\n\n(.*?)(?=^##? [^\n]+\n\n|\Z)", TEXT, re.DOTALL | re.M))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# The archives of these tests are smaller than the official ones.
UNCHECKED = """\
import functools
import imagenet2012
imagenet2012.load = functools.partial(imagenet2012.load, verification_mode="no_checks")
"""
HANG = 600  # seconds that no slow machine takes, only a program that never ends
CLASSES, PER_CLASS, VALIDATION = 12, 8, 40
TRAIN = CLASSES * PER_CLASS


# ------------------------------------------------------------------------- the data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page calls /data: archives, and what its commands make of them."""
    folder = tmp_path_factory.mktemp("data")
    fakes.make_archives(folder / "imagenet", CLASSES, PER_CLASS, validation=0)
    write_validation(folder / "imagenet")
    (commands,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in commands.splitlines():
        run_command(located(line, folder))
    return folder


def write_validation(folder: Path) -> None:
    """Write a validation archive of consecutive numbers, as TFDS numbers what it finds."""
    pictures = {number: number for number in range(1, VALIDATION)} | {VALIDATION: 1}  # one twice
    members = [
        (f"ILSVRC2012_val_{number:08d}.JPEG", fakes.jpeg(picture, str(number)))
        for number, picture in pictures.items()
    ]
    members[1] = (members[1][0], fakes.jpeg(2, mode="L"))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(members))


def run_command(line: str) -> None:
    """Run a command on archives that are not of the official size."""
    program, *arguments = shlex.split(line)
    command = [sys.executable, "-m", program, *arguments, "--no-checks"]
    subprocess.run([*command, "--num-proc", "1"], check=True, timeout=HANG)


# ------------------------------------------------------------------------- running


def block(section: str, number: int = 0) -> str:
    """Return a block of a section."""
    return BLOCK.findall(SECTIONS[section])[number]


def located(code: str, data: Path) -> str:
    """Return code in which /data is the folder of these tests."""
    return re.sub(r"(?<!\w)/data/", f"{data}/", code)


def run(
    tmp_path: Path, data: Path, code: str, checks: str, launcher: Iterable[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run code as a script, with statements after it that say what must be true."""
    head = UNCHECKED if "imagenet2012.load(" in code else ""
    script = tmp_path / "script.py"
    script.write_text(located(f"{head}{code}\n{checks}\n", data))
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if not find_spec(module)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def test_every_block_has_its_test() -> None:
    """Of each section as many blocks are run as it has."""
    source = Path(__file__).read_text(encoding="utf-8")
    for section, text in SECTIONS.items():
        for number in range(len(BLOCK.findall(text))):
            call = f'block("{section}"' + (f", {number})" if number else ")")
            assert call in source, call


# ------------------------------------------------------------------------- training


@needs("timm")
def test_timm_streams_the_index(tmp_path: Path, data: Path) -> None:
    checks = f"""
assert images.shape == (64, 3, 224, 224) and images.dtype == torch.float32
assert train.reader.num_samples == {TRAIN} and len(loader) >= {TRAIN} // 64
assert 0 <= int(targets.min()) <= int(targets.max()) < {CLASSES}
assert len(set(targets.tolist())) > {CLASSES} // 2, "not mixed"
"""
    run(tmp_path, data, block("timm"), checks)


@needs("timm")
@needs("timm")
def test_timm_reads_parquet_at_random(tmp_path: Path, data: Path) -> None:
    checks = f"""
import imagenet2012
assert sum(len(targets) for images, targets in loader) == len(validation) == {VALIDATION}
numbers = [int(name[15:23]) for name in names]
assert sorted(numbers) == list(range(1, {VALIDATION} + 1))
expected = [line.strip() for line in open("{ROOT}/labels/validation.txt")]
for (image, label), number in zip(validation, numbers, strict=True):
    assert image.shape[0] == 3 and imagenet2012.WNIDS[label] == expected[number - 1]
"""
    run(tmp_path, data, block("timm", 1), checks)


@needs("transformers", "accelerate", "torchvision")
def test_trainer(tmp_path: Path, data: Path) -> None:
    checks = """
import math
assert trainer.state.global_step == 3 and len(names) == 1000
assert math.isfinite(scores["eval_loss"])
"""
    run(tmp_path, data, block("transformers"), checks)


TWO_RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@needs("accelerate", "torchvision")
@pytest.mark.parametrize("launcher", [[], TWO_RANKS], ids=["one process", "two processes"])
def test_accelerate(tmp_path: Path, data: Path, launcher: list[str]) -> None:
    ranks = 2 if launcher else 1
    checks = f"""
assert accelerator.num_processes == {ranks}
assert torch.isfinite(loss) and len(loader) == -(-{TRAIN} // (32 * {ranks}))
accelerator.end_training()
"""
    run(tmp_path, data, block("accelerate"), checks, launcher)


@needs("accelerate", "torchvision")
@needs("lightning", "torchvision")
def test_lightning(tmp_path: Path, data: Path) -> None:
    run(tmp_path, data, block("Lightning"), f"assert trainer.global_step == -(-{TRAIN} // 32)")


@needs("grain")
def test_grain(tmp_path: Path, data: Path) -> None:
    checks = f"""
if __name__ == "__main__":
    assert batch["image"].shape == (32, 64, 64, 3) and batch["label"].shape == (32,)
    assert sum(len(b["label"]) for b in batches) == {TRAIN}
"""
    run(tmp_path, data, block("grain"), checks)


@needs("keras", "torch")
def test_keras(tmp_path: Path, data: Path) -> None:
    checks = """
assert len(history.history["loss"]) == 2 and all(np.isfinite(history.history["loss"]))
"""
    run(tmp_path, data, block("Keras"), checks)


# ------------------------------------------------------------------------- tables and images


@needs("duckdb")
def test_duckdb(tmp_path: Path, data: Path) -> None:
    checks = f"assert counts == [(label, {PER_CLASS}) for label in range({CLASSES})], counts"
    run(tmp_path, data, block("DuckDB, polars, pandas"), checks)


@needs("polars")
def test_polars(tmp_path: Path, data: Path) -> None:
    checks = f"""
assert counts.rows() == [(label, {PER_CLASS}) for label in range({CLASSES})], counts
assert place.startswith("imagenet2012://") and place.endswith(train["file_name"][0])
"""
    run(tmp_path, data, block("DuckDB, polars, pandas", 1), checks)


@needs("cleanvision")
def test_cleanvision(tmp_path: Path, data: Path) -> None:
    checks = f"""
assert len(lab.issues) == {VALIDATION}
names = [sorted(validation[row]["file_name"][15:23] for row in rows) for rows in doubled]
assert names == [["00000001", "{VALIDATION:08d}"]], names
"""
    run(tmp_path, data, block("cleanvision"), checks)


def test_bytes_for_writers(tmp_path: Path, data: Path) -> None:
    checks = f"""
import io
from PIL import Image

written = {{sample["__key__"]: sample for sample in samples()}}
assert len(written) == {TRAIN}
for row in train:
    sample = written[row["file_name"].partition(".")[0]]
    assert sample["cls"] == str(row["label"])
    Image.open(io.BytesIO(sample["jpg"])).load()
"""
    run(tmp_path, data, block("Programs that want bytes"), checks)


# ------------------------------------------------------------------------- from elsewhere


def results(tmp_path: Path) -> dict[str, Any]:
    """Return what a script has put into `found`, by `KEEP`."""
    return pickle.loads((tmp_path / "found").read_bytes())


KEEP = "import pickle\npickle.dump(found, open('found', 'wb'))"


@needs("torchvision")
def test_from_torchvision(tmp_path: Path, data: Path) -> None:
    """The same classes and, of each image, the same label and tensor."""
    run(tmp_path, data, EXTRACT, "")
    names = "[os.path.basename(path) for path, _ in validation.imgs]"
    checks = (
        f"import os\nfound = {{n: {{}} for n in {names}}}\n"
        + """
for name, (image, label) in zip(found, map(validation.__getitem__, range(len(found)))):
    found[name] = wnids[label], classes[label], image.numpy()
"""
    )
    run(tmp_path, data, block("From torchvision"), checks + KEEP)
    before = results(tmp_path)
    checks = """
names = validation.with_format(None)["file_name"]
rows = [(row["label"], row["image"].numpy()) for row in validation]
found = {name: (wnids[n], classes[n], image) for name, (n, image) in zip(names, rows)}
assert wnids.index("n03126707") == class_to_idx["crane2"] and class_to_idx["crane"] == 134
"""
    run(tmp_path, data, block("From torchvision", 1), checks + KEEP)
    after = results(tmp_path)
    assert before.keys() == after.keys() and len(after) == VALIDATION
    for name, (*named, image) in before.items():
        assert after[name][:2] == tuple(named) and np.array_equal(after[name][2], image), name


# What torchvision makes of the archives and the development kit.
EXTRACT = f"""
import os
import imagenet2012
import torch

names = [line.rstrip().split("\\t") for line in open("{ROOT}/labels/classes.tsv")]
classes = {{wnid: tuple(words.split(", ")) for wnid, words, *_ in names}}
rows = imagenet2012.load("/data/imagenet", "in_place", split="validation")
import datasets
for row in rows.cast_column("image", datasets.Image(decode=False)):
    folder = "/data/extracted/val/" + imagenet2012.WNIDS[row["label"]]
    os.makedirs(folder, exist_ok=True)
    jpeg = imagenet2012.Imagenet2012FileSystem().cat_file(row["image"]["path"])
    open(os.path.join(folder, row["file_name"]), "wb").write(jpeg)
torch.save((classes, []), "/data/extracted/meta.bin")
"""


@needs("tensorflow_datasets", "tensorflow")
def test_from_tfds(tmp_path: Path, data: Path) -> None:
    """The same labels and pixels: TFDS decodes as the block after it."""
    manual = data / "tfds" / "downloads" / "manual"
    manual.mkdir(parents=True)
    for archive in (data / "imagenet").glob("*.tar"):
        (manual / archive.name).symlink_to(archive)
    checks = f"found = sorted((i.numpy().tobytes(), int(label)) for i, label in validation)\n{KEEP}"
    run(tmp_path, data, block("From TensorFlow Datasets"), checks)
    before = results(tmp_path)
    run(tmp_path, data, block("From TensorFlow Datasets", 1), checks)
    assert results(tmp_path) == before and len(before) == VALIDATION


@needs("tensorflow")
def test_tensorflow_gives_the_same_pixels(tmp_path: Path, data: Path) -> None:
    """With the accurate DCT, and differing ones without, as the page says."""
    checks = """
import numpy as np

for row in datasets.load_dataset("/data/imagenet-parquet", split="validation"):
    jpeg, wanted = fakes_of[row["file_name"]], np.asarray(row["image"]).astype(int)
    accurate = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    assert np.array_equal(accurate, wanted), row["file_name"]
    assert abs(decode(jpeg, 0)[0].numpy() - wanted).max() <= 25
"""
    reading = """
validation_archive = imagenet2012.load("/data/imagenet", "in_place", split="validation")
undecoded = validation_archive.cast_column("image", datasets.Image(decode=False))
fakes_of = dict(zip(undecoded["file_name"], imagenet2012.read_images(undecoded["image"])))
"""
    code = block("From TensorFlow Datasets", 1).replace(
        "/data/tfds/downloads/manual", "/data/imagenet"
    )
    run(tmp_path, data, code, reading + checks)


def test_pixels_as_stored(tmp_path: Path, data: Path) -> None:
    checks = f"""
turned = imagenet2012.load("/data/imagenet", "in_place", split="train")
sizes = [(a["file_name"], a["image"].size, b["image"].size) for a, b in zip(turned, train)]
differing = [row for row in sizes if row[1] != row[2]]
assert len(sizes) == {TRAIN}
assert differing == [("n01440764_10026.JPEG", (96, 72), (72, 96))], differing
"""
    run(tmp_path, data, block("Pixels as they are stored"), checks)

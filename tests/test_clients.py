"""Every block of docs/clients.md runs, as a script of its own, with the program it is about.

A test is skipped where its program is not installed. `.ci/run` makes an environment that has all
but TensorFlow.
"""

import pickle
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fakes
import layouts
import numpy as np
import pytest
from conftest import HANG, ROOT, ended, start_python
from imagenet2012.ilsvrc2012 import read_labels

TEXT = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^##? ([^\n]+)\n\n(.*?)(?=^##? [^\n]+\n\n|\Z)", TEXT, re.DOTALL | re.M)
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in SECTIONS}
# The archives of these tests are smaller than the official ones.
UNCHECKED = """\
import functools
import imagenet2012
imagenet2012.load = functools.partial(imagenet2012.load, verification_mode="no_checks")
"""
CLASSES, PER_CLASS, VALIDATION = 12, 8, 40
TRAIN = CLASSES * PER_CLASS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page calls /data: archives, and what its commands make of them."""
    folder = tmp_path_factory.mktemp("data")
    fakes.make_archives(folder / "imagenet", CLASSES, PER_CLASS, validation=0)
    # Consecutive numbers, as TFDS numbers what it finds; the last has the picture of the first.
    pictures = {number: number % (VALIDATION - 1) for number in range(1, VALIDATION + 1)}
    images = {number: fakes.jpeg(seed, str(number)) for number, seed in pictures.items()}
    images[2] = fakes.jpeg(2, mode="L")
    members = [(f"ILSVRC2012_val_{number:08d}.JPEG", data) for number, data in images.items()]
    (folder / "imagenet" / layouts.VAL).write_bytes(fakes.tar(members))
    (commands,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in located(commands, folder).splitlines():
        command = [sys.executable, "-m", *shlex.split(line), "--no-checks", "--num-proc", "1"]
        subprocess.run(command, check=True, timeout=HANG)
    return folder


def located(code: str, data: Path) -> str:
    """Return code in which /data is the folder of these tests."""
    return re.sub(r"(?<!\w)/data/", f"{data}/", code)


def run(tmp_path: Path, data: Path, code: str, checks: str, *launcher: str) -> None:
    """Run code as a script, with statements after it that say what must be true.

    It is skipped if a module that it imports is not installed.
    """
    imported = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    if missing := [module for module in imported if not find_spec(module)]:
        pytest.skip(f"needs {', '.join(missing)}")
    head = UNCHECKED if "imagenet2012.load(" in code else ""
    script = tmp_path / "script.py"
    script.write_text(located(f"{head}{code}\n{checks}\n", data))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = ended(start_python(*launcher, script, cwd=tmp_path, **quiet))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


# ------------------------------------------------------------------------- blocks by themselves

# By section and number of the block: what must be true after it.
CHECKS = {
    ("timm", 0): f"""
assert images.shape == (64, 3, 224, 224) and images.dtype == torch.float32
assert train.reader.num_samples == {TRAIN} and len(loader) >= {TRAIN} // 64
assert 0 <= int(targets.min()) <= int(targets.max()) < {CLASSES}
assert len(set(targets.tolist())) > {CLASSES} // 2, "not mixed"
""",
    ("timm", 1): f"""
from imagenet2012.ilsvrc2012 import read_labels
assert sum(len(targets) for images, targets in loader) == len(validation) == {VALIDATION}
numbers = [int(name[15:23]) for name in names]
assert sorted(numbers) == list(range(1, {VALIDATION} + 1))
expected = read_labels().validation
for (image, label), number in zip(validation, numbers, strict=True):
    assert image.shape[0] == 3 and label == expected[number - 1]
import pytest
with pytest.raises(RuntimeError, match="Failed to load 10 consecutive samples"):    # of an index
    create_dataset("hfds//data/imagenet-index", split="validation")[0]
""",
    ("transformers", 0): """
assert trainer.state.global_step == 3 and len(names) == 1000
assert scores["eval_loss"] < float("inf")
trainer.args.remove_unused_columns = True           # why the page says that it must be False
import pytest
with pytest.raises(Exception, match="image"):
    next(iter(trainer.get_train_dataloader()))
""",
    ("accelerate", 0): f"""
assert accelerator.num_processes == 2
assert torch.isfinite(loss) and len(loader) == -(-{TRAIN} // (32 * 2))
accelerator.end_training()
""",
    ("Lightning", 0): f"assert trainer.global_step == -(-{TRAIN} // 32)",
    ("grain", 0): f"""
if __name__ == "__main__":
    assert batch["image"].shape == (32, 64, 64, 3) and batch["label"].shape == (32,)
    assert sum(len(b["label"]) for b in batches) == {TRAIN}
""",
    ("Keras", 0): """
assert len(history.history["loss"]) == 2 and all(np.isfinite(history.history["loss"]))
""",
    ("DuckDB, polars, pandas", 0): f"""
assert counts == [(label, {PER_CLASS}) for label in range({CLASSES})], counts
""",
    ("DuckDB, polars, pandas", 1): f"""
assert counts.rows() == [(label, {PER_CLASS}) for label in range({CLASSES})], counts
assert place.startswith("imagenet2012://") and place.endswith(train["file_name"][0])
""",
    ("cleanvision", 0): f"""
assert len(lab.issues) == {VALIDATION}
names = [sorted(validation[row]["file_name"][15:23] for row in rows) for rows in doubled]
assert names == [["00000001", "{VALIDATION:08d}"]], names
""",
    ("Programs that want bytes", 0): f"""
import io
from PIL import Image

written = {{sample["__key__"]: sample for sample in samples()}}
assert len(written) == {TRAIN}
for row in train:
    sample = written[row["file_name"].partition(".")[0]]
    assert sample["cls"] == str(row["label"])
    Image.open(io.BytesIO(sample["jpg"])).load()
""",
    ("Pixels as they are stored", 0): f"""
turned = imagenet2012.load("/data/imagenet", "in_place", split="train")
sizes = [(a["file_name"], a["image"].size, b["image"].size) for a, b in zip(turned, train)]
differing = [row for row in sizes if row[1] != row[2]]
assert len(sizes) == {TRAIN}
assert differing == [("n01440764_10026.JPEG", (96, 72), (72, 96))], differing
""",
}


PAIRS = ("From torchvision", "From TensorFlow Datasets")
EACH = [(s, n) for s in BLOCKS if s not in PAIRS for n in range(len(BLOCKS[s]))]


@pytest.mark.parametrize(("section", "number"), EACH)
def test_block(section: str, number: int, tmp_path: Path, data: Path) -> None:
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launcher = two if section == "accelerate" else []
    run(tmp_path, data, BLOCKS[section][number], CHECKS[section, number], *launcher)


# ------------------------------------------------------------------------- from elsewhere


def both(tmp_path: Path, data: Path, section: str, *checks: str) -> list[Any]:
    """Run the two blocks of a section, and return what the checks have put into `found`."""
    found = []
    for block, check in zip(BLOCKS[section], checks, strict=True):
        keep = "import pickle\npickle.dump(found, open('found', 'wb'))"
        run(tmp_path, data, block, f"{check}\n{keep}")
        found.append(pickle.loads((tmp_path / "found").read_bytes()))
    return found


def test_from_torchvision(tmp_path: Path, data: Path) -> None:
    """The same classes and, of each image, the same label and tensor."""
    torch = pytest.importorskip("torch")
    layouts.extract(data / "imagenet" / layouts.VAL, data / "extracted" / "val")
    layouts.in_class_folders((data / "extracted" / "val").iterdir())
    classes, words, _ = read_labels()  # as the development kit has them
    named = {wnid: tuple(of.split(", ")) for wnid, of in zip(classes, words, strict=True)}
    torch.save((named, []), data / "extracted" / "meta.bin")
    before = """
import os
named = [(os.path.basename(path), validation[i]) for i, (path, _) in enumerate(validation.imgs)]
found = {name: (wnids[label], image.numpy()) for name, (image, label) in named}
found = {"rows": found, "classes": set(classes), "first": len(image)}
"""
    after = """
names = validation.with_format(None)["file_name"]
rows = list(validation)
found = {name: (wnids[r["label"]], r["image"].numpy()) for name, r in zip(names, rows)}
assert wnids.index("n03126707") == class_to_idx["crane2"] and class_to_idx["crane"] == 134
found = {"rows": found, "classes": set(classes), "first": len(image)}
"""
    then, now = both(tmp_path, data, PAIRS[0], before, after)
    assert len(then["rows"]) == len(now["rows"]) == VALIDATION
    assert then["first"] == now["first"] == 3 and then["classes"] <= now["classes"]
    for name, (wnid, image) in then["rows"].items():
        assert now["rows"][name][0] == wnid and np.array_equal(now["rows"][name][1], image), name


def test_from_tfds(tmp_path: Path, data: Path) -> None:
    """The same labels and pixels; Pillow's, if TensorFlow is asked for them."""
    manual = data / "tfds" / "downloads" / "manual"
    manual.mkdir(parents=True)
    for archive in (data / "imagenet").glob("*.tar"):
        (manual / archive.name).symlink_to(archive)
    found = "found = sorted((i.numpy().tobytes(), int(label)) for i, label in validation)"
    accurate = """
import numpy as np

upright = imagenet2012.load("/data/imagenet", "in_place", split="validation")["image"]
for image, jpeg in zip(upright, imagenet2012.read_images(stored["image"]), strict=True):
    same = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    assert np.array_equal(same, np.asarray(image))
    assert abs(decode(jpeg, 0)[0].numpy().astype(int) - same).max() <= 25
"""
    then, now = both(tmp_path, data, PAIRS[1], found, f"{accurate}\n{found}")
    assert then == now and len(then) == VALIDATION

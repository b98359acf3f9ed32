"""Every block of the recipes runs, and does what its text says."""

import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fakes
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT
from test_card import home, pass_as_originals  # noqa: F401

import imagenet2012
from imagenet2012 import card
from imagenet2012.cli import main

TEXT = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", TEXT, re.DOTALL)
ABOUT_BROKEN = [block for _, block in BLOCKS if "sound" in block]
LOAD = 'import imagenet2012\ntrain = imagenet2012.load("~/imagenet", "in_place", split="train")\n'
LOAD += 'stream = imagenet2012.load("~/imagenet", split="train", streaming=True)\n'


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, Any]:  # noqa: F811
    """What the blocks have left behind, one after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("work"))
        pass_as_originals(patch, home / "imagenet")
        patch.setattr(card, "HfApi", FakeHub)
        names: dict[str, Any] = {"commands": []}
        exec(LOAD, names)
        for language, block in BLOCKS:
            if language == "sh":
                names["commands"].append(run_command(block, home))
                # The working directory stands for the home folder, which `~` is only for shells.
                if not os.path.lexists("imagenet-256"):
                    os.symlink(home / "imagenet-256", "imagenet-256")
            elif find_spec("torch") or not re.search(r"torch|DataLoader", block):
                exec(as_known(block), names)
        return names


def as_known(block: str) -> str:
    """Return a block without the argument that versions before 5.0 of `datasets` do not know."""
    old = int(datasets.__version__.split(".")[0]) < 5
    return block.replace(", max_buffer_input_shards=1", "") if old else block


class FakeHub:
    """A Hub that takes all."""

    def create_repo(self, *_: Any, private: bool, **__: Any) -> None:
        assert private

    def repo_info(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(private=True)

    def upload_folder(self, **_: Any) -> None: ...


def run_command(line: str, folder: Path) -> Result:
    """Run a line of the shell in this process, where the archives pass as originals."""
    program, *arguments = shlex.split(line.replace("~", str(folder)))
    assert program == "imagenet2012"
    return CliRunner().invoke(main, [*arguments, "--num-proc", "1"])


def test_commands(ran: dict[str, Any]) -> None:
    resized, pushed = ran["commands"]
    assert resized.exit_code == 0, resized.output
    assert pushed.exit_code == 0, pushed.output
    assert "Uploaded to the dataset repository me/imagenet-1k" in pushed.output
    assert ran["small"].num_rows == 300


def test_resuming_misses_nothing(ran: dict[str, Any]) -> None:
    assert len(ran["seen"]) == 10
    assert len({*ran["seen"], *ran["rest"]}) == len(ran["seen"]) + len(ran["rest"]) == 300


def test_ranks_share_the_images(ran: dict[str, Any]) -> None:
    names = [row["file_name"] for rank in ran["ranks"] for row in rank]
    assert len(names) == len(set(names)) == 300


needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
BROKEN = {
    "n01440764_1.JPEG": fakes.jpeg(1)[:600],  # cut off
    "n01440764_2.JPEG": b"no image at all",
    "n01440764_3.JPEG": fakes.png(1).replace(b"IDAT", b"iDAT"),
    "n01440764_4.JPEG": b"",
}


SOUND = {f"n01440764_{number}.JPEG": fakes.jpeg(number) for number in range(5, 105)}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with an archive in which some images are broken."""
    members = sorted({**SOUND, **BROKEN}.items())
    archive = tmp_path / "archives" / "ILSVRC2012_img_train.tar"
    archive.parent.mkdir()
    archive.write_bytes(fakes.train_tar({"n01440764": members}))
    return archive.parent


def without_broken(folder: Path, config: str, cache: dict[str, Any]) -> dict[str, Any]:
    """Run the first block about broken images, and return what it leaves behind."""
    train = imagenet2012.load(folder, config, split="train", **cache)
    stream = imagenet2012.load(folder, split="train", streaming=True, **cache)
    for rows in (train, stream):
        with pytest.raises(Exception, match=r"n01440764_\d\.JPEG"):
            list(rows)
    found = {"imagenet2012": imagenet2012, "datasets": datasets, "train": train, "stream": stream}
    exec(ABOUT_BROKEN[0], found)
    return found


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_broken_images_are_left_out(
    damaged: Path, config: str, cache: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = without_broken(damaged, config, cache)
    assert sorted(row["file_name"] for row in found["sound"]) == sorted(SOUND)
    assert found["labels"] == [0] * len(SOUND)
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in BROKEN), printed
    whole = found["train"].cast_column("image", found["undecoded"])
    whole = whole.with_transform(found["without_broken"])
    names = [name for batch in whole.iter(16) for name in batch["file_name"]]
    assert sorted(names) == sorted(SOUND)


@pytest.mark.parametrize("config", ["default", "in_place"])
@needs_torch
def test_broken_images_are_left_out_of_batches(
    damaged: Path, config: str, cache: dict[str, Any]
) -> None:
    from torch.utils.data import DataLoader

    found = without_broken(damaged, config, cache)
    found |= {"DataLoader": DataLoader, "collate": lambda rows: (rows, rows)}
    exec(ABOUT_BROKEN[1], found)
    assert sum(found["counts"]) == len(SOUND)


def test_a_moved_archive_is_no_broken_image(damaged: Path, cache: dict[str, Any]) -> None:
    """It is an error: else a whole epoch would be left out."""
    found = without_broken(damaged, "in_place", cache)
    (damaged / "ILSVRC2012_img_train.tar").rename(damaged / "moved.tar")
    sound = found["train"].cast_column("image", found["undecoded"])
    with pytest.raises(imagenet2012.ArchiveError):
        sound.with_transform(found["without_broken"])[0]


def test_subsets_and_what_is_stored(ran: dict[str, Any]) -> None:
    assert set(ran["first"]["label"]) == set(range(10))
    assert ran["subset"].num_rows == 20
    assert ran["hundred"].num_rows == 20
    assert set(ran["hundred"]["label"]) == {0, 1}
    assert ran["jpeg"][:2] == b"\xff\xd8"
    assert ran["shared"]["file_name"][:] == ran["train"]["file_name"][:]
    assert ran["sizes"].num_rows == 300 and "image" not in ran["sizes"].column_names
    assert ran["same"]["file_name"][:] == ran["subset"]["file_name"][:]
    assert ran["same"][0]["image"].mode == "RGB"


def test_real_labels_go_by_number(ran: dict[str, Any]) -> None:
    for row in ran["validation"]:
        assert row["real"] == [int(row["file_name"][15:23]) - 1]


@needs_torch
def test_resuming_in_place(ran: dict[str, Any]) -> None:
    whole, rest = ran["loader_of"](3), ran["loader_of"](3, seen=128)
    assert list(whole.sampler)[128:] == list(rest.sampler)
    assert sum(len(labels) for _, labels in rest) == 300 - 128
    assert list(ran["samplers"][0])[64:] == list(ran["resumed"].sampler)
    assert sum(len(labels) for _, labels in ran["resumed"]) == 100 - 64


@needs_torch
def test_ranks_in_place(ran: dict[str, Any]) -> None:
    assert sum(len(list(sampler)) for sampler in ran["samplers"]) == 300
    assert len(ran["labels"]) > 0
    names = [name for part in ran["parts"] for name in part["file_name"]]
    assert sorted(names) == sorted(ran["train"]["file_name"])


def test_object_storage(ran: dict[str, Any]) -> None:
    assert len(ran["near"]) == len(ran["validation"])
    assert next(iter(ran["far"]))["image"].mode == "RGB"

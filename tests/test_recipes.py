"""Every block of the recipes runs, and does what its text says."""

import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import datasets
import fakes
import pytest
from click.testing import CliRunner
from conftest import ROOT
from layouts import TRAIN
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
        patch.setattr(card, "HfApi", MagicMock())
        names: dict[str, Any] = {"outputs": []}
        exec(LOAD, names)
        for language, block in BLOCKS:
            if language == "sh":  # in this process, where the archives pass as originals
                arguments = shlex.split(block.replace("~", str(home)))[1:]
                done = CliRunner().invoke(main, [*arguments, "--num-proc", "1"])
                assert done.exit_code == 0, done.output
                names["outputs"].append(done.output)
                # The working directory stands for the home folder, which `~` is only for shells.
                if not os.path.lexists("imagenet-256"):
                    os.symlink(home / "imagenet-256", "imagenet-256")
            elif find_spec("torch") or not re.search(r"torch|DataLoader", block):
                if int(datasets.__version__.split(".")[0]) < 5:  # they do not know it
                    block = block.replace(", max_buffer_input_shards=1", "")
                exec(block, names)
        return names


def test_what_is_written_and_loaded(ran: dict[str, Any]) -> None:
    assert "Uploaded to the dataset repository me/imagenet-1k" in ran["outputs"][1]
    assert ran["small"].num_rows == ran["sizes"].num_rows == 300
    assert "image" not in ran["sizes"].column_names and ran["jpeg"][:2] == b"\xff\xd8"
    assert ran["shared"]["file_name"][:] == ran["train"]["file_name"][:]
    assert ran["same"]["file_name"][:] == ran["subset"]["file_name"][:]
    assert ran["same"][0]["image"].mode == next(iter(ran["far"]))["image"].mode == "RGB"
    assert len(ran["near"]) == len(ran["validation"])


def test_subsets_and_labels(ran: dict[str, Any]) -> None:
    assert set(ran["first"]["label"]) == set(range(10))
    assert ran["subset"].num_rows == ran["hundred"].num_rows == 20
    assert set(ran["hundred"]["label"]) == {0, 1}
    for row in ran["validation"]:
        assert row["real"] == [int(row["file_name"][15:23]) - 1]


def test_resuming_and_ranks_of_a_stream_miss_nothing(ran: dict[str, Any]) -> None:
    assert len(ran["seen"]) == 10
    everywhere = [row["file_name"] for rank in ran["ranks"] for row in rank]
    for names in (ran["seen"] + ran["rest"], everywhere):
        assert sorted(names) == sorted(ran["train"]["file_name"])


def test_resuming_and_ranks_in_place(ran: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    whole, rest = ran["loader_of"](3), ran["loader_of"](3, seen=128)
    assert list(whole.sampler)[128:] == list(rest.sampler)
    assert sum(len(labels) for _, labels in rest) == 300 - 128
    assert list(ran["samplers"][0])[64:] == list(ran["resumed"].sampler)
    assert sum(len(labels) for _, labels in ran["resumed"]) == 100 - 64
    assert sum(len(list(sampler)) for sampler in ran["samplers"]) == 300
    names = [name for part in ran["parts"] for name in part["file_name"]]
    assert sorted(names) == sorted(ran["train"]["file_name"])


BROKEN = {
    "n01440764_1.JPEG": fakes.jpeg(1)[:600],  # cut off
    "n01440764_2.JPEG": b"no image at all",
    "n01440764_3.JPEG": fakes.png(1).replace(b"IDAT", b"iDAT"),
    "n01440764_4.JPEG": b"",
}
SOUND = {f"n01440764_{number}.JPEG": fakes.jpeg(number) for number in range(5, 105)}


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_broken_images_are_left_out(
    config: str, tmp_path: Path, cache: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """But an archive that is gone is an error: else a whole epoch would be left out."""
    archive = tmp_path / TRAIN
    archive.write_bytes(fakes.train_tar({"n01440764": sorted({**SOUND, **BROKEN}.items())}))
    train = imagenet2012.load(tmp_path, config, split="train", **cache)
    stream = imagenet2012.load(tmp_path, split="train", streaming=True, **cache)
    for rows in (train, stream):
        with pytest.raises(Exception, match=r"n01440764_\d\.JPEG"):
            list(rows)
    found = {"imagenet2012": imagenet2012, "datasets": datasets, "train": train, "stream": stream}
    exec(ABOUT_BROKEN[0], found)
    assert sorted(row["file_name"] for row in found["sound"]) == sorted(SOUND)
    assert found["labels"] == [0] * len(SOUND)
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in BROKEN), printed
    transformed = train.cast_column("image", found["undecoded"])
    transformed = transformed.with_transform(found["without_broken"])
    names = [name for batch in transformed.iter(16) for name in batch["file_name"]]
    assert sorted(names) == sorted(SOUND)
    with pytest.raises(TypeError):
        transformed[train["file_name"][:].index("n01440764_1.JPEG")]
    if find_spec("torch"):
        from torch.utils.data import DataLoader

        found |= {"DataLoader": DataLoader, "collate": lambda rows: (rows, rows)}
        exec(ABOUT_BROKEN[1], found)
        assert sum(found["counts"]) == len(SOUND)
    if config == "in_place":
        archive.unlink()
        with pytest.raises(imagenet2012.ArchiveError):
            transformed[0]

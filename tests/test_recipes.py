"""Every block of the recipes runs, and does what its text says."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_card import home  # noqa: F401
from test_card import pass_as_originals

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
LOAD = 'import imagenet2012\ntrain = imagenet2012.load("~/imagenet", "in_place", split="train")\n'
LOAD += 'stream = imagenet2012.load("~/imagenet", split="train", streaming=True)\n'


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, Any]:  # noqa: F811
    """What the blocks have left behind, one after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("work"))
        pass_as_originals(patch, home / "imagenet")
        names: dict[str, Any] = {}
        exec(LOAD, names)
        for block in BLOCKS:
            if find_spec("torch") or ("torch" not in block and "DataLoader" not in block):
                exec(block, names)
        return names


def test_resuming_misses_nothing(ran: dict[str, Any]) -> None:
    assert len(ran["seen"]) == 10
    assert len({*ran["seen"], *ran["rest"]}) == len(ran["seen"]) + len(ran["rest"]) == 300


def test_ranks_share_the_images(ran: dict[str, Any]) -> None:
    names = [row["file_name"] for rank in ran["ranks"] for row in rank]
    assert len(names) == len(set(names)) == 300


def test_batches(ran: dict[str, Any]) -> None:
    assert ran["pixels"].shape == (16, 64, 64, 3)


def test_bytes(ran: dict[str, Any]) -> None:
    assert ran["jpeg"][:2] == b"\xff\xd8"


def test_subsets(ran: dict[str, Any]) -> None:
    assert ran["subset"].num_rows == 20
    assert ran["hundred"].num_rows == 20
    assert set(ran["hundred"]["label"]) == {0, 1}


def test_real_labels_go_by_number(ran: dict[str, Any]) -> None:
    for row in ran["validation"]:
        assert row["real"] == [int(row["file_name"][15:23]) - 1]


def test_parquet_holds_the_images(ran: dict[str, Any]) -> None:
    assert ran["same"]["file_name"][:] == ran["subset"]["file_name"][:]
    assert ran["same"][0]["image"].mode == "RGB"


def test_sizes_and_pixels(ran: dict[str, Any]) -> None:
    assert ran["sizes"].num_rows == 300 and "image" not in ran["sizes"].column_names
    assert ran["unturned"].mode == "RGB"


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
def test_torch(ran: dict[str, Any]) -> None:
    assert sum(len(list(sampler)) for sampler in ran["samplers"]) == 300
    assert len(ran["labels"]) > 0

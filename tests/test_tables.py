"""The label tables and what is recorded of the dataset."""

import hashlib
import json
import sys
from collections import Counter

import datasets
from conftest import ROOT

import imagenet2012

sys.path.insert(0, str(ROOT / "scripts"))

import make_infos

# Of the tables that scripts/make_labels.py made from tensorflow-datasets 4.9.10 and timm 1.0.31.
HASHES = {
    "classes.tsv": "5a07574679dd01a3ca00f9037e913575b5b1df760123224f5101d210af8cfa3c",
    "validation.txt": "313fc3f23c864dde9183c9a368809065765dd1b657a6904fded44e3e46d34604",
}


def test_hashes() -> None:
    for name, expected in HASHES.items():
        assert hashlib.sha256((ROOT / "labels" / name).read_bytes()).hexdigest() == expected


def test_wnids_are_sorted_and_unique() -> None:
    wnids = imagenet2012.WNIDS
    assert len(wnids) == 1000
    assert list(wnids) == sorted(set(wnids))


def test_words_are_those_of_the_hub() -> None:
    """Unique, with both cranes; `imagenet-1k` calls the machine crane2."""
    words = dict(zip(imagenet2012.WNIDS, imagenet2012.ilsvrc2012.read_labels().words, strict=True))
    assert len(set(words.values())) == 1000
    assert (words["n02012849"], words["n03126707"]) == ("crane", "crane2")
    assert words["n01440764"] == "tench, Tinca tinca"
    assert words["n15075141"].startswith("toilet tissue")


def test_validation_has_fifty_of_each_class() -> None:
    validation = imagenet2012.ilsvrc2012.read_labels().validation
    assert len(validation) == 50_000
    assert Counter(validation) == Counter(dict.fromkeys(range(1000), 50))
    assert validation[:3] == (65, 970, 230)  # as every list of labels for ILSVRC2012 begins


def test_dataset_infos_are_what_the_builder_declares() -> None:
    assert (ROOT / "dataset_infos.json").read_text(encoding="utf-8") == make_infos.make()


def test_dataset_infos_are_read_by_datasets() -> None:
    infos = json.loads((ROOT / "dataset_infos.json").read_text(encoding="utf-8"))
    for name in ("default", "in_place"):
        info = datasets.DatasetInfo.from_dict(infos[name])
        assert info.features == imagenet2012.Imagenet2012(config_name=name).info.features
        assert info.download_size == 154_642_401_280
        assert sum(split.num_examples for split in info.splits.values()) == 1_331_167


def test_sizes_add_up_to_what_tensorflow_datasets_states() -> None:
    sizes = [source.size for source in imagenet2012.ilsvrc2012.SOURCES.values() if source.size]
    assert f"{sum(sizes) / 2**30:.2f} GiB" == "144.02 GiB"

"""The label tables and what is recorded of the dataset."""

import hashlib
import sys
from collections import Counter

import datasets
from conftest import ROOT
from imagenet2012.ilsvrc2012 import SOURCES, read_labels

import imagenet2012

sys.path.insert(0, str(ROOT / "scripts"))

import make_infos

# Of the tables that scripts/make_labels.py made from tensorflow-datasets 4.9.10 and timm 1.0.31.
HASHES = {
    "classes.tsv": "5a07574679dd01a3ca00f9037e913575b5b1df760123224f5101d210af8cfa3c",
    "validation.txt": "313fc3f23c864dde9183c9a368809065765dd1b657a6904fded44e3e46d34604",
}


def test_the_label_tables() -> None:
    """The words are those of the Hub: unique, with both cranes, of which one is crane2."""
    for name, expected in HASHES.items():
        assert hashlib.sha256((ROOT / "labels" / name).read_bytes()).hexdigest() == expected
    wnids, words, validation = read_labels()
    assert wnids == imagenet2012.WNIDS == tuple(sorted(set(wnids)))
    assert len(set(words)) == len(wnids) == 1000 and words[0] == "tench, Tinca tinca"
    named = dict(zip(wnids, words, strict=True))
    assert (named["n02012849"], named["n03126707"]) == ("crane", "crane2")
    assert Counter(validation) == Counter(dict.fromkeys(range(1000), 50))
    assert validation[:3] == (65, 970, 230)  # as every list of labels for ILSVRC2012 begins


def test_what_is_recorded_is_what_the_builder_declares() -> None:
    assert (ROOT / "dataset_infos.json").read_text(encoding="utf-8") == make_infos.make()
    for name, info in datasets.info.DatasetInfosDict.from_directory(str(ROOT)).items():
        assert info.features == imagenet2012.Imagenet2012(config_name=name).info.features
        assert sum(split.num_examples for split in info.splits.values()) == 1_331_167
        assert info.download_size == sum(source.size or 0 for source in SOURCES.values())
        assert f"{info.download_size / 2**30:.2f} GiB" == "144.02 GiB"  # as TFDS states it

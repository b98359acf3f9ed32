"""What to say of an option, configuration or value that does not exist."""

import difflib
from collections.abc import Iterable
from typing import Any

from .ilsvrc2012 import SOURCES

VALUES = {
    "order": ("archive", "mixed"),
    "label_names": ("words", "wnid"),
    "verification_mode": ("basic_checks", "no_checks", "all_checks"),
}
# What there is to choose, for who misspells it; the last are those of `datasets.load_dataset`.
OPTIONS = (
    *("data_dir", "data_files", "label_names", "order", "split", "streaming", "cache_dir"),
    *("num_proc", "verification_mode", "keep_in_memory", "features", "download_mode"),
)
OTHER_WORDS = {"root": "data_dir", "folder": "data_dir", "shuffle": "order", "val": "validation"}
TRANSFORMS = ("transform", "transforms", "target_transform", "preprocess")
TRANSFORM_ADVICE = (
    "transform what was loaded, by dataset.with_transform(function) or, where it is streamed, "
    "dataset.map(function). The function gets a batch as a dict of lists, or a row as a dict."
)


def check_options(
    config_name: str, configs: list[str], options: dict[str, Any], known: set[str]
) -> None:
    """Refuse a misspelt configuration or option in a sentence.

    Parameters
    ----------
    config_name : str
    configs : list of str
        The configurations that there are.
    options : dict
        What was passed.
    known : set of str
        The options that there are.

    Raises
    ------
    ValueError
        If one does not exist. Says what may have been meant.
    """
    if config_name in SOURCES:
        raise ValueError(
            f"{config_name!r} is a split, not a configuration: pass split={config_name!r}."
        )
    if config_name not in configs:
        raise ValueError(f"no configuration {config_name!r}{meant(config_name, configs)}")
    for option in options:
        if option in TRANSFORMS:
            raise ValueError(f"no option {option!r}: {TRANSFORM_ADVICE}")
        if option in configs:
            raise ValueError(f"no option {option!r}: it is a configuration, the second argument.")
        if option not in known:
            raise ValueError(f"no option {option!r}{meant(option, OPTIONS)}")


def check_value(option: str, value: str) -> None:
    """Raise `ValueError` if an option does not have such a value."""
    if value not in VALUES[option]:
        raise ValueError(f"{option} is {' or '.join(map(repr, VALUES[option]))}, not {value!r}.")


def meant(word: str, words: Iterable[str]) -> str:
    """Say what a misspelt word may have meant."""
    close = difflib.get_close_matches(word, words, 1) or [OTHER_WORDS.get(word, "")]
    return f": did you mean {close[0]!r}?" if close[0] else f", only {', '.join(words)}."

"""Loading: `load`, and the name that `datasets.load_dataset` knows."""

import os
import types
from typing import Any

import datasets
from datasets import packaged_modules
from datasets.data_files import DataFilesDict

from imagenet2012 import imagenet2012 as script
from imagenet2012.ilsvrc2012 import NAME, SOURCES
from imagenet2012.splits import DATA_HASH, cut_split
from imagenet2012.storage import logger

_usual = datasets.load.PackagedDatasetModuleFactory


def register() -> None:
    """Make ``datasets.load_dataset("imagenet2012")`` find the builder."""
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = (script.__name__, DATA_HASH)
    datasets.load.PackagedDatasetModuleFactory = _module_of


def _module_of(name: str, data_files: Any = None, **kwargs: Any) -> Any:
    """Return what `datasets` asks for the module of a builder, and for what is given to it.

    For this name alone nothing is listed: it would go through everything below the folder, or the
    working directory, for minutes where there are extracted images, and stop with an error of its
    own where there is nothing. Nor is a server told that it was loaded.
    """
    if name != NAME:
        return _usual(name, data_files=data_files, **kwargs)
    given = {"data_files": data_files or DataFilesDict(), "dataset_name": NAME}
    module = datasets.load.DatasetModule(script.__name__, DATA_HASH, given)
    return types.SimpleNamespace(get_module=lambda: module)


def load(
    data_dir: str | os.PathLike[str] | None = None,
    name: str = "default",
    *,
    split: Any = None,
    **kwargs: Any,
) -> Any:
    """Load ILSVRC2012 as `datasets.load_dataset` does, but prepare only what `split` needs.

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder that holds the archives, or what was extracted from them. Without it, the one that
        ``IMAGENET2012_DIR`` names, else the working directory, else prepared copies.
    name : {"default", "in_place"}
        Copy the images into the cache, or leave them in the archives.
    split : str, list of str or datasets.ReadInstruction, optional
        As in `datasets.load_dataset`: ``"train"``, ``"validation[:10%]"``, ``"train+validation"``…
    **kwargs
        `label_names`, `order` (see `Imagenet2012Config`), and all that `datasets.load_dataset`
        takes: `data_files` (a dict with the path of each split's archive, instead of `data_dir`),
        `streaming`, `num_proc`, `cache_dir`, `verification_mode`, `download_mode`, `features`…

    Returns
    -------
    Dataset, DatasetDict, IterableDataset or IterableDatasetDict
        One dataset if `split` is given, else one for each archive that was found.

    Raises
    ------
    ManualDownloadError
        If the archives are not there.
    ArchiveError
        If one is not what it should be.
    ValueError
        If an option does not exist or contradicts another.
    """
    each = split if isinstance(split, list | tuple) else [split]
    if split is not None and "all" not in map(str, each):
        names = (name for one in each for name, _ in cut_split(one, SOURCES))
        kwargs["splits"] = tuple(dict.fromkeys(names))
    mode = datasets.VerificationMode(kwargs.get("verification_mode") or "basic_checks")
    kwargs["checks"] = mode != datasets.VerificationMode.NO_CHECKS  # of streams, which get no mode
    if mode == datasets.VerificationMode.ALL_CHECKS and kwargs.get("streaming"):
        logger.warning("Streaming starts at once: the SHA-256 of the archives is not checked.")
    return datasets.load_dataset(NAME, name, data_dir=data_dir, split=split, **kwargs)

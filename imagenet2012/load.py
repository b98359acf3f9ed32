"""Loading: `load`, and the name that `datasets.load_dataset` knows.

Each split that `load` prepares has a cache of its own, so that only what is asked for is prepared.
A copy is found again when its archives are gone.
"""

import dataclasses
import functools
import io
import itertools
import json
import os
import re
from collections.abc import Iterable
from typing import Any

import datasets
from datasets import packaged_modules
from datasets.data_files import DataFilesDict
from datasets.data_files import DataFilesList
from datasets.exceptions import ManualDownloadError

from imagenet2012.archives import INSTRUCTIONS
from imagenet2012.archives import absolute
from imagenet2012.archives import check_kind
from imagenet2012.archives import find_archives
from imagenet2012.archives import given_archives
from imagenet2012.archives import is_dir
from imagenet2012.archives import listed
from imagenet2012.archives import warn_of_missing
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.imagenet2012 import DATA_HASH
from imagenet2012.imagenet2012 import ORIGIN
from imagenet2012.imagenet2012 import VERSION
from imagenet2012.imagenet2012 import Imagenet2012
from imagenet2012.imagenet2012 import Imagenet2012Config
from imagenet2012.imagenet2012 import remember
from imagenet2012.tar_reader import logger
from imagenet2012.tar_reader import status_of

NAME = "imagenet2012"
PREPARE_OPTIONS = ("num_proc", "verification_mode", "download_mode", "download_config")
# What `datasets.load_dataset` takes and means nothing here.
MEANINGLESS = ("revision", "save_infos", "trust_remote_code")


def register() -> None:
    """Make ``datasets.load_dataset("imagenet2012")`` find the builder."""
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = (Imagenet2012.__module__, DATA_HASH)


def load(
    data_dir: str | os.PathLike[str] | None = None,
    name: str = "default",
    *,
    split: Any = None,
    data_files: Any = None,
    streaming: bool = False,
    keep_in_memory: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Load ILSVRC2012 as `datasets.load_dataset` does, without its scan of the folder.

    Of a `split` that is asked for, only what it needs is prepared.

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder that holds the archives, or one that ``imagenet2012 prepare --output`` wrote.
    name : {"default", "in_place"}
        Copy the images into the cache, or leave them in the archives.
    split : str, list of str or datasets.ReadInstruction, optional
        As in `datasets.load_dataset`: ``"train"``, ``"validation[:10%]"``, ``"train+validation"``…
    data_files : dict, optional
        Path of the archive for each split, instead of `data_dir`.
    streaming : bool
        Read the archives while iterating, without preparing anything.
    keep_in_memory : bool, optional
        Hold the prepared dataset in memory.
    **kwargs
        `label_names`, `order` (see `Imagenet2012Config`), and all that `datasets.load_dataset`
        takes: `num_proc`, `cache_dir`, `verification_mode`, `download_mode`, `features`…

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
    """
    folder = None if data_dir is None else absolute(data_dir)
    if folder and not data_files and is_dir(f"{folder}/data"):
        from imagenet2012 import shards  # only here, as it takes long to import

        if plans := shards.find_plans(folder):
            kwargs = {key: value for key, value in kwargs.items() if key not in MEANINGLESS}
            options = {"keep_in_memory": keep_in_memory, **kwargs}
            return shards.load(folder, plans, name, split, streaming, **options)
    named = itertools.chain(*listed(data_files, folder).values())
    remember(kwargs.get("storage_options"), folder, *named)
    preparing = {key: kwargs.pop(key) for key in PREPARE_OPTIONS if key in kwargs}
    kwargs = {key: value for key, value in kwargs.items() if key not in MEANINGLESS}
    copies = {} if streaming or data_files else _find_copies(name, folder, kwargs)
    try:
        archives = given_archives(data_files, folder) if data_files else find_archives(folder)
    except ManualDownloadError:
        if not copies:
            raise
        archives = {}
    if data_files:
        for key, path in archives.items():
            check_kind(key, path)
    if folder and split is None and archives:
        warn_of_missing(archives)
    loader = Loader(name, archives, copies, preparing, kwargs)
    if streaming:
        return loader.stream(split)
    if split is None:
        return datasets.DatasetDict({s: loader.dataset(s, keep_in_memory) for s in loader.splits})
    loader.names_in(split)  # before the work on the first of them
    return loader.dataset(split, keep_in_memory)


@dataclasses.dataclass
class Loader:
    """Splits that are prepared when they are asked for, or that were prepared before.

    Attributes
    ----------
    name : str
        The configuration.
    archives, copies : dict of str to str
        Of each split the archive's path, or the config id of a copy whose archive is gone.
    preparing, options : dict
        For `download_and_prepare`, and for the builder.
    prepared : dict of str to Imagenet2012
        The builders of splits that are prepared.
    """

    name: str
    archives: dict[str, str]
    copies: dict[str, str]
    preparing: dict[str, Any]
    options: dict[str, Any]
    prepared: dict[str, Imagenet2012] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return list(self.archives or self.copies)

    def builder(self, splits: Iterable[str]) -> Imagenet2012:
        """Return a builder of these splits."""
        # Made directly, as patterns would be resolved: a path may have brackets or stars in it.
        paths = {
            split: DataFilesList([self.archives[split]], [()]) for split in dict.fromkeys(splits)
        }
        return Imagenet2012(config_name=self.name, data_files=DataFilesDict(paths), **self.options)

    def stream(self, split: Any) -> Any:
        """Return an iterable dataset, or several."""
        modes = datasets.VerificationMode
        mode = modes(self.preparing.get("verification_mode") or modes.BASIC_CHECKS)
        if mode == modes.ALL_CHECKS:
            logger.warning("Streaming starts at once: the SHA-256 of the archives is not checked.")
        builder = self.builder(self.splits if split is None else self.names_in(split))
        builder.verification = mode
        return builder.as_streaming_dataset(split=split)

    def dataset(self, split: Any, in_memory: bool | None) -> Any:
        """Return the dataset that an expression means."""
        if isinstance(split, list | tuple):
            return [self.dataset(one, in_memory) for one in split]
        parts = []
        for part in self._parts(split):
            (name,) = self.names_in(part)
            builder = self._prepare(name)
            parts.append(builder.as_dataset(split=part, in_memory=bool(in_memory)))
        if len(parts) == 1:
            return parts[0]
        return datasets.concatenate_datasets(parts, split=datasets.NamedSplit(str(split)))

    def names_in(self, split: Any) -> list[str]:
        """Return the splits that an expression, or a list of them, names.

        Raises
        ------
        ValueError
            If there is no such split.
        ManualDownloadError
            If its archive is missing.
        """
        if isinstance(split, list | tuple):
            return [name for one in split for name in self.names_in(one)]
        names = [re.match(r"\w*", part)[0] for part in self._parts(split)]  # type: ignore[index]
        for name in names:
            if name not in SOURCES:
                raise ValueError(f"There is no split {name!r}, only {', '.join(SOURCES)}.")
            if name not in self.archives and name not in self.copies:
                found = ", ".join(self.archives.values())
                raise ManualDownloadError(
                    f"No archive of the {name} split, only {found}.\n\n{INSTRUCTIONS}"
                )
        return names

    def _parts(self, split: Any) -> list[str]:
        """Return what an expression such as ``train[:10%]+validation`` adds up."""
        if str(split) == "all":
            return self.splits
        if not isinstance(split, datasets.ReadInstruction):
            split = datasets.ReadInstruction.from_spec(str(split))
        return split.to_spec().split("+")

    def _prepare(self, split: str) -> Imagenet2012:
        """Return the builder of a split, prepared; all splits in one cache will do as well."""
        if split not in self.prepared:
            splits = [split]
            if split not in self.archives:
                chosen = self._copy_of(split)
            elif is_dir(self._all_splits.cache_dir):
                chosen, splits = self._all_splits, list(self.archives)
            else:
                chosen = self.builder(splits)
            chosen.download_and_prepare(**self.preparing)
            self.prepared |= dict.fromkeys(splits, chosen)
        return self.prepared[split]

    @functools.cached_property
    def _all_splits(self) -> Imagenet2012:
        """The builder of all splits in one cache, as `datasets.load_dataset` makes it."""
        return self.builder(self.archives)

    def _copy_of(self, split: str) -> "CopyBuilder":
        """Return the builder of a copy whose archive was not found."""
        copy = CopyBuilder(
            config_name=self.name, dataset_name=NAME, copy=self.copies[split], **self.options
        )
        folder = _read_origin(f"{copy.cache_dir}/{ORIGIN}")["folder"]
        logger.warning(
            f"No {split} archive was found: this is the copy that was made of the one in {folder}."
        )
        return copy


# ------------------------------------------------------------------------- copies


@dataclasses.dataclass
class CopyConfig(Imagenet2012Config):
    """The configuration of a copy, whose archives are not looked for.

    Attributes
    ----------
    copy : str
        Its config id.
    """

    copy: str = ""

    def create_config_id(self, *args: Any, **kwargs: Any) -> str:
        """Name the cache of the copy."""
        return self.copy


class CopyBuilder(Imagenet2012):
    """The builder of a copy that was prepared before."""

    BUILDER_CONFIG_CLASS = CopyConfig
    BUILDER_CONFIGS = [CopyConfig("default", datasets.Version(VERSION))]  # noqa: RUF012

    def _archives_of_cache(self) -> dict[str, str]:
        return {}


def _find_copies(name: str, folder: str | None, options: dict[str, Any]) -> dict[str, str]:
    """Return the config id of the newest copy of each split, made from a folder or from any."""
    root = absolute(options.get("cache_dir") or datasets.config.HF_DATASETS_CACHE)
    chosen = {
        "label_names": options.get("label_names") or "words",
        "order": options.get("order") or "archive",
    }
    found: list[tuple[int, str, dict[str, Any]]] = []
    if name == "default" and is_dir(f"{root}/{NAME}"):
        with os.scandir(f"{root}/{NAME}") as entries:
            for entry in entries:
                path = f"{entry.path}/{VERSION}/{DATA_HASH}/{ORIGIN}"
                if entry.name.startswith("default-") and (status := status_of(path)):
                    found.append((int(status.version), entry.name, _read_origin(path)))
    copies: dict[str, str] = {}
    for _, config_id, origin in sorted(found, key=lambda one: one[0]):
        if origin.items() >= chosen.items() and folder in (None, origin["folder"]):
            copies |= dict.fromkeys(origin["splits"], config_id)
    return copies


def _read_origin(path: str) -> dict[str, Any]:
    with io.FileIO(path) as file:
        return json.loads(file.read())

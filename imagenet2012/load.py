"""Loading: `load`, and the name that `datasets.load_dataset` knows.

Each split that `load` prepares has a cache of its own, so that only what is asked for is prepared.
A copy is found again when its archives are gone.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import datasets
from datasets import packaged_modules
from datasets.data_files import DataFilesDict
from datasets.exceptions import ManualDownloadError

from imagenet2012.archives import (
    FOLDER_VARIABLE,
    INSTRUCTIONS,
    absolute,
    check_space,
    find_archives,
    given_archives,
    paths_by_split,
    size_of,
    warn_of_missing,
)
from imagenet2012.copies import ORIGIN, read_origin
from imagenet2012.ilsvrc2012 import SOURCES, without_secrets
from imagenet2012.imagenet2012 import (
    DATA_HASH,
    VERSION,
    Imagenet2012,
    Imagenet2012Config,
    as_data_files,
    use_options,
)
from imagenet2012.options import check_value, meant
from imagenet2012.storage import is_dir, is_url, logger
from imagenet2012.tree_listing import BASES

NAME = "imagenet2012"
PREPARE_OPTIONS = ("num_proc", "verification_mode", "download_mode", "download_config")
CONFIGS = [config.name for config in Imagenet2012.BUILDER_CONFIGS]
# What `datasets.load_dataset` takes and means nothing here.
MEANINGLESS = ("revision", "save_infos", "trust_remote_code")


def register() -> None:
    """Make ``datasets.load_dataset("imagenet2012")`` find the builder, `NamedBuilder`."""
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = (__name__, DATA_HASH)
    datasets.load.PackagedDatasetModuleFactory = NamedModule


class NamedModule(datasets.load.PackagedDatasetModuleFactory):
    """What `datasets` asks for a builder by its name.

    For this name alone nothing is listed: its parent would go through everything below the folder,
    or the working directory, for minutes where there are extracted images, and stop with an error
    of its own where there is nothing.
    """

    def get_module(self) -> datasets.load.DatasetModule:
        """Return the module of the builder, and what is given to the builder."""
        if self.name != NAME:
            return super().get_module()
        files = DataFilesDict() if self.data_files is None else self.data_files
        given = {"data_files": files, "dataset_name": NAME}
        return datasets.load.DatasetModule(__name__, DATA_HASH, given)


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
    check_contradictions(data_dir, streaming, kwargs)
    folder = None if data_dir is None else absolute(data_dir)
    named = itertools.chain(*paths_by_split(data_files, folder).values())
    use_options(kwargs.get("storage_options"), folder, *named)
    kwargs = {key: value for key, value in kwargs.items() if key not in MEANINGLESS}
    preparing = {key: kwargs.pop(key) for key in PREPARE_OPTIONS if key in kwargs}
    Imagenet2012.check_options(name, kwargs)
    if folder and not (data_files or is_url(folder)) and is_dir(f"{folder}/data"):
        from imagenet2012 import shards  # only here, as it takes long to import

        if plans := shards.find_plans(folder):
            options = {"keep_in_memory": keep_in_memory, **preparing, **kwargs}
            return shards.load(folder, plans, name, split, streaming, **options)
    mode = preparing.get("verification_mode")
    check_value(
        "verification_mode", "basic_checks" if mode is None else getattr(mode, "value", mode)
    )
    copies: dict[str, str] = {}
    if data_files:
        archives = given_archives(data_files, folder)
    else:
        archives, copies = _find(name, folder, kwargs, streaming)
    if folder and split is None and archives:
        warn_of_missing(archives)
    loader = Loader(name, archives, copies, preparing, kwargs)
    return loader.stream(split) if streaming else loader.load(split, keep_in_memory)


def check_contradictions(data_dir: Any, streaming: bool, options: dict[str, Any]) -> None:
    """Raise an error for what would be taken otherwise than it is meant."""
    if streaming and options.get("num_proc") is not None:
        raise NotImplementedError(
            "A stream is read where it is iterated: num_proc has no meaning there. For several "
            "processes give it to torch.utils.data.DataLoader(stream, num_workers=…)."
        )
    if data_dir in CONFIGS and not is_dir(absolute(data_dir)):
        raise ValueError(f"{data_dir!r} is a configuration, not a folder: pass name={data_dir!r}.")
    if data_dir == "":
        raise ValueError("data_dir is empty: is a variable unset that should hold it?")
    if isinstance(data_dir, list | tuple | dict):
        raise TypeError("data_dir is one folder. For archives in several, pass data_files.")


class NamedBuilder(Imagenet2012):
    """The builder that `datasets.load_dataset` gets: where no archive is found, copies will do."""

    _copies: "Loader | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = self.info.builder_name = NAME  # else that of this module

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Prepare, or find what was prepared; see `Imagenet2012.download_and_prepare`."""
        if not self.config.data_files:
            archives, copies = self._find()
            if not archives:
                preparing = {key: kwargs[key] for key in PREPARE_OPTIONS if key in kwargs}
                self._copies = Loader(self.config.name, {}, copies, preparing, self._chosen())
                return
        super().download_and_prepare(*args, **kwargs)

    def _chosen(self) -> dict[str, Any]:
        config = self.config
        return {
            "order": config.order,
            "label_names": config.label_names,
            "features": self._chosen_features,
            "cache_dir": self._cache_dir_root,
        }

    def _find(self, streaming: bool = False) -> tuple[dict[str, str], dict[str, str]]:
        return _find(self.config.name, self.config.data_dir, self._chosen(), streaming)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return an iterable dataset; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        if not self.config.data_files:
            self._find(streaming=True)
        return super().as_streaming_dataset(*args, **kwargs)

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return the prepared dataset; see `datasets.DatasetBuilder.as_dataset`."""
        if self._copies:
            split = kwargs.get("split", args[0] if args else None)
            return self._copies.load(split, kwargs.get("in_memory"))
        return super().as_dataset(*args, **kwargs)


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
    builders : dict of str to Imagenet2012
        By split, as far as they were needed.
    prepared : list of Imagenet2012
        Those that are prepared.
    """

    name: str
    archives: dict[str, str]
    copies: dict[str, str]
    preparing: dict[str, Any]
    options: dict[str, Any]
    builders: dict[str, Imagenet2012] = dataclasses.field(default_factory=dict)
    prepared: list[Imagenet2012] = dataclasses.field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return list(self.archives or self.copies)

    def builder(self, splits: Iterable[str]) -> Imagenet2012:
        """Return a builder of these splits."""
        files = as_data_files({split: self.archives[split] for split in splits})
        return Imagenet2012(config_name=self.name, data_files=files, **self.options)

    @property
    def _mode(self) -> datasets.VerificationMode:
        return datasets.VerificationMode(self.preparing.get("verification_mode") or "basic_checks")

    def stream(self, split: Any) -> Any:
        """Return an iterable dataset, or several."""
        if isinstance(split, list | tuple):
            return [self.stream(one) for one in split]
        names = self.splits if split is None else self.names_in(split)
        if split is not None and names != [str(split)]:
            raise ValueError(
                f"A stream is of a whole split, not of {split}: see take() and skip()."
            )
        if self._mode == datasets.VerificationMode.ALL_CHECKS:
            logger.warning("Streaming starts at once: the SHA-256 of the archives is not checked.")
        builder = self.builder(names)
        builder.verification = self._mode
        return builder.as_streaming_dataset(split=split)

    def load(self, split: Any, in_memory: bool | None) -> Any:
        """Return the dataset that an expression means, or without one all of them."""
        self._check_new(self.splits if split is None else self.names_in(split))
        if split is None:
            return datasets.DatasetDict({s: self.dataset(s, in_memory) for s in self.splits})
        return self.dataset(split, in_memory)

    def _check_new(self, splits: Iterable[str]) -> None:
        """Check all archives that no copy was made of, before the hours of work on the first."""
        new = {s: self.archives[s] for s in splits if not is_dir(self._builder_of(s).cache_dir)}
        if len(new) < 2:  # the builder of a single one does it at once
            return
        for split, path in new.items():
            self.builders[split].verification = self._mode
            self.builders[split].check_archives({split: path})
        cache = absolute(self.options.get("cache_dir") or datasets.config.HF_DATASETS_CACHE)
        if self.name == "default" and not is_url(cache):
            check_space(cache, sum(map(size_of, new.values())))

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
                raise ValueError(f"There is no split {name!r}{meant(name, SOURCES)}")
            if name not in self.archives and name not in self.copies:
                found = ", ".join(map(without_secrets, self.archives.values()))
                found = found or f"copies of {' and '.join(self.copies)}"
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

    def _builder_of(self, split: str) -> Imagenet2012:
        """Return the builder of a split; all splits in one cache will do as well."""
        if split not in self.builders:
            if split not in self.archives:
                chosen: Imagenet2012 = self._copy_of(split)
            elif is_dir(self._all_splits.cache_dir):
                chosen = self._all_splits
            else:
                chosen = self.builder([split])
            self.builders[split] = chosen
        return self.builders[split]

    def _prepare(self, split: str) -> Imagenet2012:
        """Return the builder of a split, prepared."""
        builder = self._builder_of(split)
        if builder not in self.prepared:
            options = dict(self.preparing)
            if split not in self.archives:  # a copy is all that there is
                options.pop("download_mode", None)
            builder.download_and_prepare(**options)
            self.prepared.append(builder)
        return builder

    @functools.cached_property
    def _all_splits(self) -> Imagenet2012:
        """The builder of all splits in one cache, as `datasets.load_dataset` makes it."""
        return self.builder(self.archives)

    def _copy_of(self, split: str) -> "CopyBuilder":
        """Return the builder of a copy whose archive was not found."""
        copy = CopyBuilder(
            config_name=self.name, dataset_name=NAME, copy=self.copies[split], **self.options
        )
        folders = read_origin(copy.cache_dir)["folders"]
        named = os.environ.get(FOLDER_VARIABLE)
        where = f" ({FOLDER_VARIABLE} is {without_secrets(named)})" if named else ""
        unchecked = " Its SHA-256 is not checked." * (
            self._mode == datasets.VerificationMode.ALL_CHECKS
        )
        logger.warning(
            f"No {split} archive was found{where}: this is the copy that was made of the one in "
            f"{' or '.join(folders)}.{unchecked}"
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

    def archives(self) -> dict[str, str]:
        """Refuse: nothing else may ever be prepared in the place of the copy."""
        raise ManualDownloadError(f"The archives of the copy {self.copy} are gone.")

    def create_config_id(self, *args: Any, **kwargs: Any) -> str:
        """Name the cache of the copy."""
        return self.copy


class CopyBuilder(Imagenet2012):
    """The builder of a copy that was prepared before."""

    BUILDER_CONFIG_CLASS = CopyConfig
    BUILDER_CONFIGS = [CopyConfig("default", datasets.Version(VERSION))]  # noqa: RUF012


class Copy(NamedTuple):
    """A prepared copy in the cache.

    Attributes
    ----------
    time : int
        When it was made, in nanoseconds.
    config_id : str
    origin : dict
        See `read_origin`.
    """

    time: int
    config_id: str
    origin: dict[str, Any]


def _find(
    name: str, folder: str | None, options: dict[str, Any], streaming: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the archive of each split in a folder, and the config id of its newest copy.

    Raises
    ------
    ManualDownloadError
        If there is neither. Says whether there are copies of archives in other folders.
    """
    cache = absolute(options.get("cache_dir") or datasets.config.HF_DATASETS_CACHE)
    made = _copies_in(cache, name, options)
    copies = {
        split: copy.config_id
        for copy in made
        for split in copy.origin["splits"]
        if not streaming and _was_in(copy, folder)
    }
    try:
        return find_archives(folder), copies
    except ManualDownloadError as error:
        if copies:
            return {}, copies
        found, _, instructions = str(error).partition("\n\n")
        if name == "default":  # in place, the archives are needed
            found += f"\n{_say_of_copies(made, cache, streaming)}"
        raise ManualDownloadError(f"{found}\n\n{instructions}") from None


def _was_in(copy: Copy, folder: str | None) -> bool:
    """Tell whether what a copy was made of was seen in a folder; of any without one."""
    if not folder:
        return True
    return any(f"{without_secrets(folder)}{base}" in copy.origin["folders"] for base in BASES)


def _say_of_copies(made: list[Copy], cache: str, streaming: bool) -> str:
    """Say which copies there are besides."""
    if not made:
        return f"Nor is there a prepared copy of these options in {cache}."
    folders = " and of ".join(dict.fromkeys(f for copy in made for f in copy.origin["folders"]))
    how = "without streaming" if streaming else "without a folder"
    return f"There is a prepared copy, of the archives in {folders}: {how}, it is taken."


def _copies_in(cache: str, name: str, options: dict[str, Any]) -> list[Copy]:
    """Return the copies in a cache of these options: last the newest that was made with checks."""
    chosen = {
        "label_names": options.get("label_names") or "words",
        "order": options.get("order") or "archive",
    }
    found: list[Copy] = []
    if name != "default" or options.get("features"):
        return found
    # A cache that may not be read has nothing, and neither have the copies of other users in it.
    with contextlib.suppress(OSError), os.scandir(f"{cache}/{NAME}") as entries:
        for entry in entries:
            copy = f"{entry.path}/{VERSION}/{DATA_HASH}"
            if not entry.name.startswith("default-"):
                continue
            with contextlib.suppress(OSError, ValueError):
                time = os.stat(f"{copy}/{ORIGIN}").st_mtime_ns
                found.append(Copy(time, entry.name, read_origin(copy)))
    chosen_ones = [c for c in found if c.origin.items() >= chosen.items()]
    return sorted(chosen_ones, key=lambda copy: (copy.origin.get("checked", False), copy.time))

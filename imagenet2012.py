"""ILSVRC2012 (ImageNet-1k) as a Hugging Face dataset, read straight from the original archives.

    import imagenet2012

    ds = imagenet2012.load("~/imagenet")

The folder holds ``ILSVRC2012_img_train.tar`` and/or ``ILSVRC2012_img_val.tar`` (and, if wanted, the
test archive), fetched by hand from https://image-net.org/download-images. Nothing is extracted.

This is the loading script: what can be chosen, and the builder. What it uses lies beside it, in
modules named for their subjects. Paths in them are strings with ``/``, and only ``os.stat``,
``os.scandir``, ``io.FileIO`` and their like touch the disk, as `datasets` replaces ``open``,
``os.path.join``, ``pathlib.Path`` and others here for streaming.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, ManualDownloadError

from .archives import (
    archives_in,
    check_archive,
    check_sha256,
    check_space,
    folder_of,
    given_archives,
    not_found,
    warn_of_missing,
)
from .decoding import NamedImage, RowFeatures, RowInfo, StoredImage
from .ilsvrc2012 import INFO, NAME, SOURCES, VERSION, ArchiveError, read_labels
from .in_place import check_in_place
from .regions import Part

# `x as x` is not used here: `datasets` 3 copies only modules that the script itself imports.
from .remote import Options as Options
from .rows import Row, RowReader, Stretch, parts_of, stretches_of
from .splits import (
    DATA_HASH,
    check_main_guard,
    copies_in,
    copy_name,
    finish_copy,
    hash_of,
    is_made,
    joined,
    seen,
    warn_of_copy,
)
from .storage import absolute
from .tables import prefetched, tables_of
from .tar_reader import TarReader as TarReader
from .trees import is_folder as is_folder


@dataclasses.dataclass
class Imagenet2012Config(datasets.BuilderConfig):
    """What can be chosen.

    Attributes
    ----------
    name : {"default", "in_place"}
        Whether the images' bytes are copied into Arrow files, or stay in the archives and are
        read from there.
    label_names : {"words", "wnid"}
        Names of the classes: the Hub's ``imagenet-1k``'s ("tench"), or WordNet identifiers
        ("n01440764") as in TensorFlow Datasets. The labels are the same.
    order : {"archive", "mixed"}, optional
        Of a stream: as in the archives, class after class, or the classes mixed (the default).
    splits : tuple of str
        Which splits; without them, all whose archives are found.
    checks : bool
        Whether sizes and counts must be the official ones; of a stream it is a warning if they are
        not. Of a copy, `verification_mode` decides.
    """

    label_names: str = "words"
    order: str | None = None
    splits: tuple[str, ...] = ()
    checks: bool = True
    copy: str = ""  # the name of the folder in the cache, which the builder sets

    def create_config_id(self, *args: Any, **kwargs: Any) -> str:
        """Return the name of the folder of the copy."""
        return self.copy or super().create_config_id(*args, **kwargs)


VALUES = {"label_names": ("words", "wnid"), "order": ("archive", "mixed")}


class Imagenet2012(datasets.ArrowBasedBuilder, datasets.GeneratorBasedBuilder):
    """ILSVRC2012 from its original archives.

    Examples have ``file_name`` (str), ``image`` (`PIL.Image.Image`, mode RGB) and ``label``
    (int, 0 to 999, the index of the wnid in sorted order; -1 in the test split).

    Each split has a folder of its own in the cache, which is named by what is in it. A builder of
    several splits makes a builder for each, and passes calls on to it. Preparing is several times
    as fast by tables, streaming by examples.

    It takes what `datasets.DatasetBuilder` takes, and the fields of `Imagenet2012Config`.

    Attributes
    ----------
    archives : dict of str to str
        By split, the path of its archive or tree, as far as they were found.
    splits : tuple of str
        Those that there are, or were asked for.
    """

    VERSION = datasets.Version(VERSION)
    BUILDER_CONFIG_CLASS = Imagenet2012Config
    BUILDER_CONFIGS = [  # noqa: RUF012
        Imagenet2012Config("default", VERSION, description="The images are copied into Arrow."),
        Imagenet2012Config("in_place", VERSION, description="The images stay in the archives."),
    ]
    DEFAULT_CONFIG_NAME = "default"
    info: datasets.DatasetInfo
    _get_examples_iterable_for_split = (  # of streams
        datasets.GeneratorBasedBuilder._get_examples_iterable_for_split
    )

    def __init__(self, cache_dir: str | None = None, **kwargs: Any) -> None:
        name = kwargs.get("config_name") or self.DEFAULT_CONFIG_NAME
        for option, values in VALUES.items():
            if kwargs.get(option) not in (None, *values):
                raise ValueError(f"{option} is {' or '.join(values)}, not {kwargs[option]!r}.")
        files, options = kwargs.pop("data_files", None), kwargs.get("storage_options")
        if (folder := kwargs.get("data_dir")) is not None:
            folder = kwargs["data_dir"] = absolute(folder)
        self._of_split: dict[str, Imagenet2012] = {}
        self._not_found: ManualDownloadError | None = None
        self.archives = {} if files else archives_in(folder_of(folder), options)
        if files:
            try:
                self.archives = given_archives(files, folder, options)
            except ManualDownloadError as error:  # of what is gone there may be a copy
                self._not_found = error
        self._given = {"cache_dir": cache_dir, **kwargs, "data_files": self.archives or files}
        cache = absolute(cache_dir or datasets.config.HF_DATASETS_CACHE)
        self.splits = tuple(kwargs.get("splits") or self.archives or copies_in(cache, name))
        kwargs["copy"] = f"{name}-all"  # where nothing is written
        if len(self.splits) == 1:
            (split,) = self.splits
            kwargs["copy"] = copy_name(name, split, self.archives.get(split, ""), options)
        if kwargs.get("features"):
            kwargs["copy"] += f"-{hash_of(kwargs['features'])}"
        # Images: few, as they are held in memory. In place: many, as each batch costs when loaded.
        batch = 10_000 if name == "in_place" else 64
        kwargs["writer_batch_size"] = kwargs.get("writer_batch_size") or batch
        kwargs |= {"hash": DATA_HASH, "dataset_name": NAME}
        super().__init__(cache_dir=cache_dir, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            **INFO,
            features=self._features(),
            supervised_keys=datasets.info.SupervisedKeysData("image", "label"),
        )

    def _features(self) -> datasets.Features:
        wnids, words, _ = read_labels(self.base_path)
        names = wnids if self.config.label_names == "wnid" else words
        image, label = NamedImage(mode="RGB"), datasets.ClassLabel(names=list(names))
        return RowFeatures({"file_name": datasets.Value("string"), "image": image, "label": label})

    def _name_classes(self) -> None:
        """Set the features again: a copy on the disk has the class names of its first load."""
        features = self._given.get("features") or self._features()
        self.info = RowInfo(**{**vars(self.info), "features": features})

    def of_split(self, split: str) -> "Imagenet2012":
        """Return the builder of one split, which names the classes as was asked for."""
        if self.splits != (split,) and split not in self._of_split:
            self._of_split[split] = type(self)(**{**self._given, "splits": (split,)})
        one = self._of_split.get(split, self)
        one.config.checks = self.config.checks
        one._name_classes()
        return one

    def download_and_prepare(
        self, output_dir: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Prepare what is not there yet; see `datasets.DatasetBuilder.download_and_prepare`."""
        if output_dir is not None or kwargs.get("file_format") not in (None, "arrow"):
            raise ValueError("A copy is Arrow in cache_dir. `imagenet2012 export` writes others.")
        if self.config.order == "mixed":
            raise ValueError('order="mixed" is for streams. `imagenet2012 export` shuffles a copy.')
        if not self.splits:
            raise self._missing()
        mode = datasets.VerificationMode(kwargs.get("verification_mode") or "basic_checks")
        self.config.checks = mode != datasets.VerificationMode.NO_CHECKS
        self._hashes = mode == datasets.VerificationMode.ALL_CHECKS
        self._warn_of_missing()
        if len(self.splits) > 1:
            return self._prepare_each(*args, **kwargs)
        if not is_made(self.cache_dir, kwargs.get("download_mode")):
            check_main_guard()
        super().download_and_prepare(None, *args, **kwargs)
        (split,) = self.splits
        count = self.info.splits[split].num_examples if self.config.checks else None
        found = self.archives.get(split, "")
        warn_of_copy(self.cache_dir, split, found, count, self.storage_options)

    def _prepare_each(self, *args: Any, **kwargs: Any) -> None:
        """Prepare each split in its own folder; all archives are checked before the first."""
        builders = [self.of_split(split) for split in self.splits]
        for one in builders:
            if not is_made(one.cache_dir, kwargs.get("download_mode")):
                one.checked_archive(strict=True)
        for one in builders:
            one.download_and_prepare(None, *args, **kwargs)
        infos = {s: one.info.splits[s] for s, one in zip(self.splits, builders, strict=True)}
        self.info.splits = datasets.SplitDict(infos, dataset_name=NAME)
        self.info.dataset_size = sum(one.info.dataset_size or 0 for one in builders)

    def _download_and_prepare(
        self, dl_manager: Any, verification_mode: datasets.VerificationMode, **kwargs: Any
    ) -> None:
        # Else `datasets` would take what a killed run left for shards of this one.
        shutil.rmtree(self._output_dir)
        os.mkdir(self._output_dir)
        self._name_classes()
        # Else `datasets` holds this run to what an earlier one recorded.
        self.info.splits = self.info.download_checksums = None
        prepare: Any = datasets.DatasetBuilder._download_and_prepare  # that of examples is skipped
        prepare(self, dl_manager, verification_mode, **kwargs)
        (split,) = self.splits
        count = self.info.splits[split].num_examples if self.config.checks else None
        finish_copy(self._output_dir, split, self.archives[split], count, self.storage_options)

    def _missing(self) -> ManualDownloadError:
        missing = [split for split in self.splits or SOURCES if split not in self.archives]
        beside = next(iter(self.archives.values()), "").rpartition("/")[0]
        where = folder_of(self.config.data_dir or beside)
        return self._not_found or not_found(where, missing, self.storage_options)

    def _warn_of_missing(self) -> None:
        if self.config.data_dir and self.archives and not self.config.splits:
            warn_of_missing(self.archives, self.config.checks, self.storage_options)

    def checked_archive(self, strict: bool) -> tuple[str, str]:
        """Return the only split and its archive, which is checked, its size only if `strict`."""
        (split,) = self.splits
        if split not in self.archives:
            raise self._missing()
        path = self.archives[split]
        check_archive(split, path, strict, self.config.checks, self.storage_options)
        if self.config.name == "in_place":  # as given: `datasets` adds to its own
            check_in_place(path, self._given.get("storage_options"))
        return split, path

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        streaming, options = dl_manager.is_streaming, self.storage_options
        split, path = self.checked_archive(strict=not streaming)
        was, labels = seen(path, options), read_labels(self.base_path)
        parts = parts_of(split, path, labels, options, self.config.checks, not streaming)
        if not streaming:
            size = sum(part.size for part in parts)
            check_space(self._output_dir, size // (300 if self.config.name == "in_place" else 1))
            if self._hashes:
                check_sha256(split, path, options)
        order = (self.config.order or "mixed") if streaming else "archive"
        stretches = stretches_of(split, parts, order)  # a list, which ``num_proc`` divides
        given = {"split": split, "path": path, "was": was, "parts": parts, "stretches": stretches}
        generator = datasets.SplitGenerator(split, given)
        if was["size"] == SOURCES[split].size:  # for progress bars and streams
            generator.split_info.num_examples = SOURCES[split].num_examples
            if streaming:
                self.info.splits = datasets.SplitDict({split: generator.split_info})
        return [generator]

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield examples one by one, for streaming."""
        for row in self._rows(**kwargs):
            image = StoredImage(path=row.path, bytes=row.data)
            yield row.name, {"file_name": row.name, "image": image, "label": row.label}

    def _generate_tables(self, **kwargs: Any) -> Iterator[tuple[str, pa.Table]]:
        """Yield examples in tables, for preparing."""
        tables = tables_of(self._rows(**kwargs), self._writer_batch_size)
        if self.config.name == "default":  # in place there is little to write meanwhile
            tables = prefetched(tables)
        try:
            for number, table in enumerate(tables):
                yield str(number), table  # by numbers, some versions of `datasets` count wrongly
        except Exception as error:  # else `datasets` shows neither its text nor its kind
            raise DatasetGenerationError(f"{type(error).__name__}: {error}") from error

    def _rows(
        self, split: str, path: str, was: Any, parts: tuple[Part, ...], stretches: list[Stretch]
    ) -> Iterator[Row]:
        """Yield the rows of stretches, perhaps in a new process."""
        if seen(path, self.storage_options) != was:
            raise ArchiveError(path, "changed since it was checked.", advice="Load it again.")
        labels, in_place = read_labels(self.base_path), self.config.name == "in_place"
        options = self.storage_options, self.config.checks
        yield from RowReader(split, parts, labels.validation, in_place, *options).rows(stretches)

    def as_dataset(self, split: Any = None, **kwargs: Any) -> Any:
        """Return the prepared dataset; see `datasets.DatasetBuilder.as_dataset`."""

        def give(name: str, part: str) -> datasets.Dataset:
            return datasets.DatasetBuilder.as_dataset(self.of_split(name), split=part, **kwargs)

        if split is None:
            return datasets.DatasetDict({name: give(name, name) for name in self.splits})
        return joined(split, self.splits, give)

    def _get_dataset_fingerprint(self, split: Any) -> str:
        """Tell datasets with other names of the classes apart, and what `map` makes of them."""
        fingerprint = super()._get_dataset_fingerprint(split)
        return fingerprint if self.config.label_names == "words" else hash_of(fingerprint)

    def as_streaming_dataset(self, split: Any = None, base_path: str | None = None) -> Any:
        """Return an iterable dataset; see `datasets.DatasetBuilder.as_streaming_dataset`."""

        def give(name: str, part: str) -> datasets.IterableDataset:
            if name != part:
                raise ValueError(f"A stream is of whole splits, not of {part}: see take and skip.")
            builder = self.of_split(name)
            return datasets.DatasetBuilder.as_streaming_dataset(builder, name, base_path)

        if not self.splits:
            raise self._missing()
        self._warn_of_missing()
        if split is None:
            return datasets.IterableDatasetDict({name: give(name, name) for name in self.splits})
        return joined(split, self.splits, give)

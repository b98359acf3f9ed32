"""ILSVRC2012 (ImageNet-1k) as a Hugging Face dataset, read straight from the original archives.

    import imagenet2012

    ds = imagenet2012.load("~/imagenet")                                     # Arrow copy
    ds = imagenet2012.load("~/imagenet", "in_place")                         # no copy
    ds = imagenet2012.load("~/imagenet", split="train", streaming=True)      # no preparation

The folder holds ``ILSVRC2012_img_train.tar`` and/or ``ILSVRC2012_img_val.tar`` (and, if wanted, the
test archive), fetched by hand from https://image-net.org/download-images. Nothing is extracted.

This is the loading script: what the dataset is, what can be chosen, and the builder. What it uses
lies beside it, in modules named for their subjects.

For streaming, `datasets` replaces ``open``, ``os.path.join``, ``os.path.exists``, ``pathlib.Path``
and others in this module (on version 3 also in those beside it) with functions that take URLs, for
which ``::`` in a path is special. So paths here are strings with ``/``, and only ``os.stat``,
``os.scandir``, ``os.open`` and their like touch the disk.
"""

import contextlib
import dataclasses
import inspect
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import pyarrow as pa
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.exceptions import ManualDownloadError, NonMatchingSplitsSizesError

from .archives import (
    FOLDER_VARIABLE,
    absolute,
    check_sha256,
    check_size,
    check_space,
    find_archives,
    given_archives,
    paths_by_split,
    told_of_the_cache,
    warn_of_missing,
)
from .arrow_tables import (
    BUFFER_BYTES,
    MAX_TABLE_BYTES,
    ImageBuffer,
    Row,
    RowNumber,
    WritesTables,
    key_of,
    prefetched,
    repeated_name,
    tables_of,
    without_garbage_collection,
)
from .contents import check_kind
from .copies import note_folder, read_origin, write_origin
from .ilsvrc2012 import DOWNLOAD_PAGE, SOURCES, ArchiveError, read_labels, without_secrets
from .in_place import NamedImage, RowInfo, StoredImage
from .in_turns import in_turns
from .options import check_options, check_value
from .rows import RowReader, Shard, shards_of
from .splits import is_official, open_split, parts_of, reader_of
from .storage import Status, is_dir, is_url, logger, storage_of
from .tar_reader import TarReader
from .tree_listing import Part, status_of_split
from .trees import Tree

# `datasets` 3 copies what the script imports, but not what that imports in turn. No comment may
# stand on the line of an import: it would be read as an address to fetch the module from.
COPIED_WITH_THE_SCRIPT = (TarReader, Tree, in_turns)

# ------------------------------------------------------------------------- what the dataset is

VERSION = "5.0.0"
# Names the cached copy. Not a hash of this source, as `datasets` has for its own modules: a new
# release must not cost anybody 144 GiB and an hour unless it changes the data.
DATA_HASH = f"data-{VERSION}"

DESCRIPTION = """\
ILSVRC 2012, commonly known as ImageNet-1k, is an image dataset organised according to the WordNet \
hierarchy: 1000 synsets, each with 732 to 1300 training images and 50 validation images, \
quality-controlled and annotated by hand. 1,281,167 images for training, 50,000 for validation and \
100,000 for testing, the last without public labels."""

CITATION = """\
@article{ILSVRC15,
  author  = {Olga Russakovsky and Jia Deng and Hao Su and Jonathan Krause and Sanjeev Satheesh and
             Sean Ma and Zhiheng Huang and Andrej Karpathy and Aditya Khosla and Michael Bernstein
             and Alexander C. Berg and Li Fei-Fei},
  title   = {{ImageNet Large Scale Visual Recognition Challenge}},
  journal = {International Journal of Computer Vision (IJCV)},
  year    = {2015},
  volume  = {115},
  number  = {3},
  pages   = {211--252},
  doi     = {10.1007/s11263-015-0816-y}
}"""

HOMEPAGE = "https://image-net.org/"
LICENSE = f"ImageNet terms of access: non-commercial research and education. See {DOWNLOAD_PAGE}"

# ------------------------------------------------------------------------- what can be chosen


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
        As in the archives, where a class follows another, or so that any 1000 training images in
        a row are of about 1000 classes. Without it: mixed when streaming, else as in the archives.
    """

    label_names: str = "words"
    order: str | None = None

    def archives(self) -> dict[str, str]:
        """Return the path of each split's archive: those that were given, else by the folder."""
        if self.data_files:
            return {split: paths[0] for split, paths in self.data_files.items()}
        return find_archives(self.data_dir)

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Name the cache by what the archives are, so that they may move but not change."""
        chosen = {"label_names": self.label_names, "order": self.order or "archive"}
        try:
            archives = self.archives()
        except ManualDownloadError:
            return super().create_config_id(config_kwargs, custom_features)
        for split, path in archives.items():
            status = status_of_split(path) or Status(0, 0, False)  # gone since it was found
            # A signed URL has another signature each time, and is the same archive.
            name = without_secrets(path).rpartition("/")[2]
            chosen[split] = f"{name} {status.size} {status.version}"
            if self.name == "in_place":
                chosen[split] += f" in {os.fsencode(path).decode(errors='backslashreplace')}"
        return super().create_config_id(chosen, custom_features)


def as_data_files(archives: dict[str, str]) -> DataFilesDict:
    """Return archives by split as `datasets` takes them, without resolving them as patterns."""
    return DataFilesDict({s: DataFilesList([path], [()]) for s, path in archives.items()})


# ------------------------------------------------------------------------- the builder


class Imagenet2012(WritesTables, datasets.GeneratorBasedBuilder):
    """ILSVRC2012 from its original archives.

    Examples have ``file_name`` (str), ``image`` (`PIL.Image.Image`, mode RGB) and ``label``
    (int, 0 to 999, the index of the wnid in sorted order; -1 in the test split).

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder of the archives; ``~`` and relative paths are understood.
    data_files : dict, optional
        Path of the archive of each split, instead.
    config_name, label_names, order
        See `Imagenet2012Config`.
    **kwargs
        As for `datasets.DatasetBuilder`.
    """

    VERSION = datasets.Version(VERSION)
    BUILDER_CONFIG_CLASS = Imagenet2012Config
    BUILDER_CONFIGS = [  # noqa: RUF012
        Imagenet2012Config("default", VERSION, description="The images are copied into Arrow."),
        Imagenet2012Config("in_place", VERSION, description="The images stay in the archives."),
    ]
    DEFAULT_CONFIG_NAME = "default"
    # What is to be checked; None where `datasets` does not say, which is when it streams.
    verification: datasets.VerificationMode | None = None
    info: datasets.DatasetInfo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.check_options(kwargs.get("config_name"), kwargs)
        if kwargs.get("data_dir") is not None:
            kwargs["data_dir"] = absolute(kwargs["data_dir"])
        folder, files = kwargs.get("data_dir"), kwargs.get("data_files")
        self._named = (folder, *itertools.chain(*paths_by_split(files, folder).values()))
        use_options(kwargs.get("storage_options"), *self._named)
        if files and not isinstance(files, DataFilesDict):
            kwargs["data_files"] = as_data_files(given_archives(files, folder))
        kwargs["hash"] = kwargs.get("hash") or DATA_HASH
        self._chosen_features = kwargs.get("features")
        # A batch of images is held in memory. Rows of an index are small, and each of its batches
        # takes 64 kB in a process that loads it.
        batch = 10_000 if kwargs.get("config_name") == "in_place" else 100
        kwargs["writer_batch_size"] = kwargs.get("writer_batch_size") or batch
        with told_of_the_cache(kwargs.get("cache_dir")):
            super().__init__(*args, **kwargs)

    @classmethod
    def check_options(cls, config_name: str | None, options: dict[str, Any]) -> None:
        """Raise `ValueError` for a misspelt configuration or option."""
        configs = [config.name for config in cls.BUILDER_CONFIGS]
        known = {field.name for field in dataclasses.fields(cls.BUILDER_CONFIG_CLASS)}
        known |= set(inspect.signature(datasets.DatasetBuilder.__init__).parameters)
        check_options(config_name or configs[0], configs, options, known)

    def _use_options(self) -> None:
        """Read with this builder's options from now on: others may have been used since."""
        use_options(self.storage_options, *self._named)

    def _keep_options(self) -> None:
        """Let rows in place be read with this builder's options."""
        self._use_options()
        if self.config.name == "in_place":
            for path in self._archives_of_cache().values():
                storage_of(path).keep_options(path)

    def _info(self) -> datasets.DatasetInfo:
        check_value("label_names", self.config.label_names)
        check_value("order", self.config.order or "archive")
        labels = read_labels(self.base_path)
        names = labels.wnids if self.config.label_names == "wnid" else labels.words
        features = datasets.Features(
            {
                "file_name": datasets.Value("string"),
                "image": NamedImage(mode="RGB"),
                "label": datasets.ClassLabel(names=list(names)),
            }
        )
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            citation=CITATION,
            homepage=HOMEPAGE,
            license=LICENSE,
            features=features,
            supervised_keys=datasets.info.SupervisedKeysData("image", "label"),
        )

    # --------------------------------------------------------------------- before the first example

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; see `datasets.DatasetBuilder`. What was prepared before is checked as well."""
        number = kwargs.get("num_proc")
        if number is not None and not (hasattr(number, "__index__") and number > 0):
            raise ValueError(f"num_proc is a number of processes, not {number!r}.")
        forced = kwargs.get("download_mode") in FORCED
        if (number or 1) > 1 and (forced or not is_dir(self._output_dir)):
            check_not_starting()
        self._use_options()
        self._was_prepared_now = False
        with told_of_the_cache(self._cache_dir_root):
            super().download_and_prepare(*args, **kwargs)
        if not self._was_prepared_now:
            note_folder(self._output_dir, self._archives_of_cache())
            mode = datasets.VerificationMode(kwargs.get("verification_mode") or "basic_checks")
            if mode != datasets.VerificationMode.NO_CHECKS:
                self._check_again(mode)

    def _download_and_prepare(
        self, dl_manager: Any, verification_mode: datasets.VerificationMode, **kwargs: Any
    ) -> None:
        checked = verification_mode != datasets.VerificationMode.NO_CHECKS
        archives = self.config.archives()
        self.verification = verification_mode
        self._restore_features()
        self._clear_leftovers()
        self.info.splits = _official_splits(archives) if checked else None
        self.info.download_checksums = None  # recorded ones would be held to what it downloaded
        self._was_prepared_now = True
        self.note_main_process()
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        except NonMatchingSplitsSizesError as error:
            raise NonMatchingSplitsSizesError(_wrong_counts(archives, error)) from error
        except Exception as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # then its pool was torn down
                raise KeyboardInterrupt from None
            raise
        if self._writes_here:
            self._check_names(archives)
            if not self._chosen_features:  # else nobody could tell that it is no plain copy
                order = self.config.order or "archive"
                names, mode = self.config.label_names, verification_mode.value
                write_origin(self._output_dir, archives, names, order, mode)

    @property
    def _writes_here(self) -> bool:
        """Whether it is written to a disk: ``download_and_prepare("s3://…")`` writes elsewhere."""
        return not is_url(self._output_dir) and is_dir(self._output_dir)

    def _check_names(self, archives: dict[str, str]) -> None:
        """Check that no image was written twice, also from two regions of a tar."""
        names = sorted(os.listdir(self._output_dir))
        for split, path in archives.items():
            starts = tuple(f"{self.dataset_name}-{split}{end}" for end in "-.")
            ours = [f"{self._output_dir}/{name}" for name in names if name.startswith(starts)]
            if name := repeated_name(ours):
                raise ArchiveError(path, f"{name!r} appears twice in it.")

    def _check_again(self, mode: datasets.VerificationMode) -> None:
        """Check what was prepared before, perhaps with fewer checks; only warn unless by all."""
        strict = mode == datasets.VerificationMode.ALL_CHECKS
        archives = self._archives_of_cache()
        for split, path in archives.items():
            check_size(split, path, strict)
            if strict:
                check_sha256(split, path)
        if strict and archives and not self._was_hashed():
            logger.warning(
                f"{self._output_dir} was made without all_checks: if the archives were damaged, "
                'it is too. To be sure, pass download_mode="force_redownload" as well.'
            )
        for split, info in self.info.splits.items():
            if info.num_examples != (expected := SOURCES[split].num_examples):
                problem = f"{self._output_dir} has {info.num_examples:,} {split} images, the "
                problem += f"original {expected:,}: it was prepared without checks."
                if strict:
                    raise NonMatchingSplitsSizesError(problem)
                logger.warning(problem)

    def _was_hashed(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(read_origin(self._output_dir).get("hashed"))
        return False

    def _archives_of_cache(self) -> dict[str, str]:
        try:
            return self.config.archives()
        except ManualDownloadError:  # they are gone, and what was made of them is whole
            return {}

    def _clear_leftovers(self) -> None:
        """Remove what a killed run left: `datasets` would take its shards for this run's."""
        if self._output_dir.endswith(".incomplete") and self._writes_here:
            with os.scandir(self._output_dir) as entries:
                for entry in [entry for entry in entries if entry.is_file()]:
                    os.unlink(entry.path)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archives = self.config.archives()
        if self.config.data_dir:
            warn_of_missing(archives)
        streaming = dl_manager.is_streaming
        self.check_archives(archives, strict=not streaming)
        order = self.config.order or ("mixed" if streaming else "archive")
        given = {s: self._gen_kwargs(s, path, order, streaming) for s, path in archives.items()}
        if streaming:  # so that a program can know the length of an epoch
            official = [
                s for s in given if is_official(open_split(archives[s]), s, given[s]["parts"])
            ]
            self.info.splits = _official_splits(official) if official else None
        else:
            self._check_copy(archives, sum(p.size for kw in given.values() for p in kw["parts"]))
        return [datasets.SplitGenerator(split, kwargs) for split, kwargs in given.items()]

    @property
    def _is_checked(self) -> bool:
        return self.verification != datasets.VerificationMode.NO_CHECKS

    def check_archives(self, archives: dict[str, str], strict: bool = True) -> None:
        """Check what the archives are; of another size only warn where `strict` is false."""
        for split, path in archives.items():
            check_kind(split, path)
            if self.config.name == "in_place":
                storage_of(path).check_in_place(path)
            if self.verification is not None and self._is_checked:
                check_size(split, path, strict)

    def _check_copy(self, archives: dict[str, str], size: int) -> None:
        """Check before `size` bytes are copied that there is room, and the SHA-256 if wanted."""
        if self._writes_here:
            check_space(self._output_dir, size // (300 if self.config.name == "in_place" else 1))
        if self.verification == datasets.VerificationMode.ALL_CHECKS:
            for split, path in archives.items():
                check_sha256(split, path)

    def _gen_kwargs(
        self, split: str, path: str, order: str, streaming: bool = False
    ) -> dict[str, Any]:
        """Return what `_generate_examples` needs; lists are what ``num_proc`` divides."""
        opened = open_split(path)
        checked = self._is_checked and (not streaming or None)
        parts = parts_of(opened, split, read_labels(self.base_path), checked)
        for part in dict.fromkeys((parts[0], parts[-1])):
            reader = reader_of(opened, part, SOURCES[split].image)
            next(reader.members(), None)
            reader.check_end_mark()
        return {
            "split": split,
            "archive": (path, opened.size, opened.version),
            "parts": parts,
            "shards": shards_of(split, parts, order),
        }

    # --------------------------------------------------------------------- the examples

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield examples one by one, for streaming."""
        for place, row in self._rows(None, **kwargs):
            image = StoredImage(path=row.path, bytes=row.data)
            example = {"file_name": row.member.name, "image": image, "label": row.label}
            yield key_of(place, row), example

    def _generate_tables(self, **kwargs: Any) -> Iterator[tuple[Any, pa.Table]]:
        """Yield examples in tables, for preparing; see `arrow_tables`."""
        length, cancelled = max(1, self._writer_batch_size), threading.Event()
        if self.config.name == "in_place":
            rows = self._rows(None, **kwargs)
            return without_garbage_collection(tables_of(rows, length, None, cancelled))
        buffer = None
        if not is_url(kwargs["archive"][0]):
            buffer = ImageBuffer(min(length * BUFFER_BYTES, MAX_TABLE_BYTES))
        rows = self._rows(buffer, **kwargs)
        return prefetched(tables_of(rows, length, buffer, cancelled), cancelled)

    def _rows(
        self,
        buffer: ImageBuffer | None,
        split: str,
        archive: tuple[str, int, int | str],
        parts: tuple[Part, ...],
        shards: list[Shard],
    ) -> Iterator[tuple[RowNumber, Row]]:
        """Yield the rows of shards, perhaps in a new process."""
        path, size, version = archive
        self._use_options()  # this may be a new process, or others were used since
        in_place = self.config.name == "in_place"
        if in_place:
            storage_of(path).keep_options(path)
        opened = open_split(path, self._is_checked)
        if (opened.size, opened.version) != (size, version):
            raise ArchiveError(path, "changed since it was checked.", advice="Load it again.")
        validation = read_labels(self.base_path).validation
        yield from RowReader(split, opened, parts, validation, in_place, buffer).rows(shards)

    # --------------------------------------------------------------------- what is prepared

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return the prepared dataset; see `datasets.DatasetBuilder.as_dataset`."""
        self._keep_options()
        self._restore_features()
        with told_of_the_cache(self._cache_dir_root):
            return super().as_dataset(*args, **kwargs)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return an iterable dataset; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        self._keep_options()
        self._restore_features(streaming=True)
        return super().as_streaming_dataset(*args, **kwargs)

    def _restore_features(self, streaming: bool = False) -> None:
        # Where a prepared copy is found, `datasets` takes the features that were stored with it.
        image = self.info.features.get("image")
        if type(image) is datasets.Image:
            self.info.features["image"] = NamedImage(image.mode, image.decode)
        if streaming or self.config.name == "in_place":
            self.info = RowInfo(**vars(self.info))


def _wrong_counts(archives: dict[str, str], error: Exception) -> str:
    counts = ", ".join(
        f"{SOURCES[split].num_examples:,} in {without_secrets(path)}"
        for split, path in archives.items()
    )
    return (
        f"The archives do not hold the expected numbers of images ({counts}). For a subset pass "
        f'verification_mode="no_checks". Details: {error}'
    )


def _official_splits(splits: Iterable[str]) -> datasets.SplitDict:
    infos = {split: datasets.SplitInfo(split, 0, SOURCES[split].num_examples) for split in splits}
    return datasets.SplitDict(infos)


FORCED = ("force_redownload", datasets.DownloadMode.FORCE_REDOWNLOAD)


def check_not_starting() -> None:
    """Raise `RuntimeError` in a new process that still runs its parent's script, to know it.

    Such a process would wait for the parent's lock on the cache, and the parent for the process.
    """
    # A spawned process runs the script as the module "__mp_main__", which becomes "__main__", too,
    # once it has run.
    script = sys.modules.get("__mp_main__")
    if script is not None and script is not sys.modules["__main__"]:
        raise RuntimeError(
            "num_proc starts processes that run this script again from its first line, as always "
            'with multiprocessing by spawn. Put what it does below `if __name__ == "__main__":`.'
        )


def use_options(options: dict[str, Any] | None, *paths: str | None) -> None:
    """Read these paths, or else the folder by default, with these options in this thread."""
    given = [path for path in paths if path]
    for path in given or [absolute(os.environ.get(FOLDER_VARIABLE, ""))]:
        storage_of(path).use_options(path, options or {})

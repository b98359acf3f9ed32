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

import dataclasses
import hashlib
import inspect
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import (
    DatasetGenerationError,
    ManualDownloadError,
    NonMatchingSplitsSizesError,
)

from .archives import (
    INSTRUCTIONS,
    cache_errors,
    check_kind,
    check_options,
    check_sha256,
    check_size,
    check_space,
    find_archives,
    given_archives,
    meant,
    warn_of_missing,
)
from .decoding import NamedImage, RowFeatures, RowInfo, StoredImage
from .ilsvrc2012 import DOWNLOAD_PAGE, SOURCES, ArchiveError, read_labels, without_secrets
from .in_place import check_in_place
from .remote import Options
from .rows import Row, RowReader, Stretch, parts_of, stretches_of
from .storage import Part, absolute, is_dir, is_url, logger, open_file
from .tables import prefetched, repeated_name, tables_of
from .tar_reader import TarReader
from .trees import is_folder, status_of_split

# ------------------------------------------------------------------------- what the dataset is

NAME = "imagenet2012"
VERSION = "5.0.0"
# Stands in the path of a copy for the hash of this source that `datasets` would put there: a new
# release must not cost anybody 144 GiB and an hour unless it changes the data.
DATA_HASH = f"data-{VERSION}"
NOTE = "archives.json"  # beside a copy: what it was made of

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
        Of a stream: as in the archives, where a class follows another, or so that the classes are
        mixed, which is the default. What is prepared is in the order of the archives.
    splits : tuple of str
        Which splits; without them, all whose archives are found.
    """

    label_names: str = "words"
    order: str | None = None
    splits: tuple[str, ...] = ()


def cut_split(split: Any, splits: Iterable[str]) -> list[tuple[str, str]]:
    """Cut an expression such as ``train[:10%]+validation`` into parts of one split each.

    Parameters
    ----------
    split : str or datasets.ReadInstruction
    splits : iterable of str
        What ``all`` stands for.

    Returns
    -------
    list of (str, str)
        The name of the split, and the part of it.

    Raises
    ------
    ValueError
        If there is no such split.
    """
    if str(split) == "all":
        return [(name, name) for name in splits]
    if not isinstance(split, datasets.ReadInstruction):
        split = datasets.ReadInstruction.from_spec(str(split))
    parts = [(re.split(r"\W", part, maxsplit=1)[0], part) for part in split.to_spec().split("+")]
    for name, _ in parts:
        if name not in SOURCES:
            raise ValueError(f"There is no split {name!r}{meant(name, SOURCES)}")
    return parts


# ------------------------------------------------------------------------- the builder


class Imagenet2012(datasets.ArrowBasedBuilder, datasets.GeneratorBasedBuilder):
    """ILSVRC2012 from its original archives.

    Examples have ``file_name`` (str), ``image`` (`PIL.Image.Image`, mode RGB) and ``label``
    (int, 0 to 999, the index of the wnid in sorted order; -1 in the test split).

    Each split has a folder of its own in the cache, which is named by what is in it. A builder of
    several splits makes one of each, and hands on what it is asked for. They are prepared as tables
    and streamed as examples, each of which is several times as fast as the other would be.

    Parameters
    ----------
    cache_dir : str, optional
    data_dir : str or path-like, optional
        Folder of the archives; ``~`` and relative paths are understood.
    data_files : dict, optional
        Path of the archive of each split, instead.
    config_name, label_names, order, splits
        See `Imagenet2012Config`.
    **kwargs
        As for `datasets.DatasetBuilder`.

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
    mode = datasets.VerificationMode.BASIC_CHECKS
    _get_examples_iterable_for_split = (
        datasets.GeneratorBasedBuilder._get_examples_iterable_for_split
    )

    def __init__(self, cache_dir: str | None = None, **kwargs: Any) -> None:
        self._given = {"cache_dir": cache_dir, **kwargs}
        name = kwargs.get("config_name") or self.DEFAULT_CONFIG_NAME
        chosen = {key: value for key, value in kwargs.items() if key != "config_name"}
        check_options({"name": name, **chosen}, _known_options())
        if kwargs.get("data_dir") is not None:
            kwargs["data_dir"] = absolute(kwargs["data_dir"])
        options, files = kwargs.get("storage_options"), kwargs.pop("data_files", None)
        self._not_found: ManualDownloadError | None = None
        self.archives, self._of_split = {}, {}
        try:
            self.archives = _archives_of(files, kwargs.get("data_dir"), options)
        except ManualDownloadError as error:
            self._not_found = error
        cache = absolute(cache_dir or datasets.config.HF_DATASETS_CACHE)
        found = self.archives or _copies_in(cache, name)
        self.splits = tuple(kwargs.get("splits") or found)
        kwargs["config_id"] = _copy_id(name, self.splits, self.archives, options)
        if kwargs.get("features"):
            kwargs["config_id"] += f"-{_hash(repr(kwargs['features']))}"
        # A batch of images is held in memory. Rows in place are small, and each of their batches
        # takes 64 kB in a process that loads them.
        batch = 10_000 if name == "in_place" else 100
        kwargs["writer_batch_size"] = kwargs.get("writer_batch_size") or batch
        kwargs |= {"hash": DATA_HASH, "dataset_name": NAME}
        with cache_errors(cache_dir):
            super().__init__(cache_dir=cache_dir, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            citation=CITATION,
            homepage=HOMEPAGE,
            license=LICENSE,
            features=self._features(),
            supervised_keys=datasets.info.SupervisedKeysData("image", "label"),
        )

    def _features(self) -> datasets.Features:
        labels = read_labels(self.base_path)
        names = labels.wnids if self.config.label_names == "wnid" else labels.words
        image, label = NamedImage(mode="RGB"), datasets.ClassLabel(names=list(names))
        return RowFeatures({"file_name": datasets.Value("string"), "image": image, "label": label})

    def _name_classes(self) -> None:
        """Put on the features anew, as a copy may be stored with others."""
        self.info = RowInfo(**vars(self.info))
        self.info.features = self._given.get("features") or self._features()

    def of_split(self, split: str) -> "Imagenet2012":
        """Return the builder of one split."""
        if self.splits == (split,):
            return self
        if split not in self._of_split:
            given = {**self._given, "splits": (split,)}
            if split in self.archives:
                given["data_files"] = {split: self.archives[split]}
            self._of_split[split] = type(self)(**given)
        return self._of_split[split]

    # --------------------------------------------------------------------- before the first example

    def download_and_prepare(
        self, output_dir: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Prepare what is not there yet; see `datasets.DatasetBuilder.download_and_prepare`.

        Raises
        ------
        ManualDownloadError
            If there is neither an archive nor a copy of it.
        ArchiveError
            If an archive is not what it should be.
        """
        number = kwargs.get("num_proc")
        if number is not None and not (hasattr(number, "__index__") and number > 0):
            raise ValueError(f"num_proc is a number of processes, not {number!r}.")
        if self.config.order == "mixed":
            raise ValueError(
                'order="mixed" is for streams (streaming=True): what is prepared is in the order '
                "of the archives. `imagenet2012 export` writes a shuffled copy."
            )
        if not self.splits:
            raise self._missing()
        self.mode = datasets.VerificationMode(kwargs.get("verification_mode") or "basic_checks")
        self._warn_of_missing()
        if output_dir is None and len(self.splits) > 1:
            return self._prepare_each(*args, **kwargs)
        self._is_new = False
        with cache_errors(self._cache_dir_root):
            super().download_and_prepare(output_dir, *args, **kwargs)
        if not self._is_new:
            self._look_at_copy()

    def _prepare_each(self, *args: Any, **kwargs: Any) -> None:
        """Prepare each split in its own folder; all archives are checked before the first."""
        builders = [self.of_split(split) for split in self.splits]
        new = [one for one in builders if not is_dir(one.cache_dir)]
        for one in new:
            one.mode = self.mode
            one.check_archives(strict=True)
        if self.config.name == "default" and not is_url(self._cache_dir_root):
            sizes = (status_of_split(path) for one in new for path in one._chosen.values())
            check_space(self._cache_dir_root, sum(status.size for status in sizes if status))
        for one in builders:
            one.download_and_prepare(None, *args, **kwargs)
        infos = {s: one.info.splits[s] for s, one in zip(self.splits, builders, strict=True)}
        self.info.splits = datasets.SplitDict(infos, dataset_name=NAME)
        self.info.dataset_size = sum(one.info.dataset_size or 0 for one in builders)

    def _download_and_prepare(
        self, dl_manager: Any, verification_mode: datasets.VerificationMode, **kwargs: Any
    ) -> None:
        self._is_new = True
        self._clear_leftovers()
        self._name_classes()
        checks = verification_mode != datasets.VerificationMode.NO_CHECKS
        self.info.splits = _official(self._chosen) if checks else None
        self.info.download_checksums = None  # recorded ones would be held to what it downloaded
        prepare: Any = (
            datasets.DatasetBuilder._download_and_prepare
        )  # no keys are checked for tables
        try:
            prepare(self, dl_manager, verification_mode, **kwargs)
        except NonMatchingSplitsSizesError as error:
            raise NonMatchingSplitsSizesError(_wrong_counts(self._chosen, error)) from error
        if self._writes_here:
            self._check_names()
            self._write_note()

    @property
    def _writes_here(self) -> bool:
        """Whether it is written to a disk: ``download_and_prepare("s3://…")`` writes elsewhere."""
        return not is_url(self._output_dir) and is_dir(self._output_dir)

    def _clear_leftovers(self) -> None:
        """Remove what a killed run left: `datasets` would take its shards for this run's."""
        if self._output_dir.endswith(".incomplete") and self._writes_here:
            with os.scandir(self._output_dir) as entries:
                for entry in [entry for entry in entries if entry.is_file()]:
                    os.unlink(entry.path)

    def _check_names(self) -> None:
        """Check that no image was written twice, also from two regions of a tar."""
        names = sorted(os.listdir(self._output_dir))
        for split, path in self._chosen.items():
            starts = tuple(f"{NAME}-{split}{end}" for end in "-.")
            ours = [f"{self._output_dir}/{name}" for name in names if name.startswith(starts)]
            if name := repeated_name(ours):
                raise ArchiveError(path, f"{name!r} appears twice in it.")

    # --------------------------------------------------------------------- what a copy was made of

    def _write_note(self) -> None:
        """Note beside the copy what it was made of."""
        hashed = self.mode == datasets.VerificationMode.ALL_CHECKS
        note = {
            split: {**self._seen(path), "sha256": SOURCES[split].sha256 if hashed else None}
            for split, path in self._chosen.items()
        }
        with io.FileIO(f"{self._output_dir}/{NOTE}", "w") as file:
            file.write(json.dumps(note, indent=2).encode())

    def _seen(self, path: str) -> dict[str, Any]:
        status = status_of_split(path, self.storage_options)
        return {"size": status.size, "version": status.version} if status else {}

    def _look_at_copy(self) -> None:
        """Warn if a copy that was there may not be what is asked for."""
        (split,) = self.splits
        path, again = self.archives.get(split), 'pass download_mode="force_redownload"'
        with io.FileIO(f"{self.cache_dir}/{NOTE}") as file:
            made_of = json.loads(file.readall())[split]
        if not path:
            logger.warning(f"No {split} archive was found: this is the copy in {self.cache_dir}.")
        elif self._seen(path).items() - made_of.items():
            logger.warning(
                f"{path} was changed, or only touched or copied, since {self.cache_dir} was made "
                f"of it. To make it again, {again}."
            )
        found, expected = self.info.splits[split].num_examples, SOURCES[split].num_examples
        if self.mode != datasets.VerificationMode.NO_CHECKS and found != expected:
            logger.warning(
                f"{self.cache_dir} has {found:,} {split} images, the original {expected:,}: it was "
                f"made without checks. To make it again with them, {again}."
            )

    # --------------------------------------------------------------------- the archives

    @property
    def _chosen(self) -> dict[str, str]:
        """The archives of the splits of this builder."""
        return {split: self.archives[split] for split in self.splits if split in self.archives}

    def _missing(self) -> ManualDownloadError:
        found = ", ".join(map(without_secrets, self.archives.values()))
        return self._not_found or ManualDownloadError(
            f"No archive of the {' and '.join(self.splits)} split, only {found}.\n\n{INSTRUCTIONS}"
        )

    def _warn_of_missing(self) -> None:
        if self.config.data_dir and self.archives and not self.config.splits:
            checks = self.mode != datasets.VerificationMode.NO_CHECKS
            warn_of_missing(self.archives, checks, self.storage_options)

    def check_archives(self, strict: bool) -> None:
        """Check what the archives are; of another size only warn unless `strict`."""
        for split, path in self._chosen.items():
            check_kind(split, path, self.storage_options)
            if self.config.name == "in_place":
                check_in_place(path, self.storage_options)
            if self.mode != datasets.VerificationMode.NO_CHECKS:
                check_size(split, path, strict, self.storage_options)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if not self._chosen:
            raise self._missing()
        streaming = dl_manager.is_streaming
        self.check_archives(strict=not streaming)
        order = (self.config.order or "mixed") if streaming else "archive"
        given = {s: self._gen_kwargs(s, p, order, streaming) for s, p in self._chosen.items()}
        if streaming:  # so that a program can know the length of an epoch
            whole = [s for s, kwargs in given.items() if kwargs["seen"][0] == SOURCES[s].size]
            self.info.splits = _official(whole) if whole else None
        else:
            self._check_copy(sum(p.size for kwargs in given.values() for p in kwargs["parts"]))
        return [datasets.SplitGenerator(split, kwargs) for split, kwargs in given.items()]

    def _check_copy(self, size: int) -> None:
        """Check before `size` bytes are copied that there is room, and the SHA-256 if wanted."""
        if self._writes_here:
            check_space(self._output_dir, size // (300 if self.config.name == "in_place" else 1))
        if self.mode == datasets.VerificationMode.ALL_CHECKS:
            for split, path in self._chosen.items():
                check_sha256(split, path, self.storage_options)

    def _gen_kwargs(self, split: str, path: str, order: str, streaming: bool) -> dict[str, Any]:
        """Return what `_generate_examples` needs; lists are what ``num_proc`` divides."""
        checks = self.mode != datasets.VerificationMode.NO_CHECKS
        labels = read_labels(self.base_path)
        parts = parts_of(split, path, labels, self.storage_options, checks, strict=not streaming)
        for part in dict.fromkeys((parts[0], parts[-1])):
            if not is_folder(part):
                file = open_file(part.path, self.storage_options)
                TarReader(file, part, SOURCES[split].image).check_ends()
        return {
            "split": split,
            "path": path,
            "seen": tuple(self._seen(path).values()),
            "parts": parts,
            "stretches": stretches_of(split, parts, order),
        }

    # --------------------------------------------------------------------- the examples

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield examples one by one, for streaming."""
        for row in self._rows(**kwargs):
            image = StoredImage(path=row.path, bytes=row.data)
            yield row.name, {"file_name": row.name, "image": image, "label": row.label}

    def _generate_tables(self, **kwargs: Any) -> Iterator[tuple[str, pa.Table]]:
        """Yield examples in tables, for preparing."""
        # Several versions of `datasets` count rows by shards wrongly unless the key is a string.
        tables = prefetched(tables_of(self._rows(**kwargs), self._writer_batch_size or 100))
        try:
            for number, table in enumerate(tables):
                yield str(number), table
        except Exception as error:  # of another one, and of another process's, no cause is shown
            raise DatasetGenerationError(f"{type(error).__name__}: {error}") from error

    def _rows(
        self,
        split: str,
        path: str,
        seen: tuple[int, int | str],
        parts: tuple[Part, ...],
        stretches: list[Stretch],
    ) -> Iterator[Row]:
        """Yield the rows of stretches, perhaps in a new process."""
        if tuple(self._seen(path).values()) != seen:
            raise ArchiveError(path, "changed since it was checked.", advice="Load it again.")
        validation = read_labels(self.base_path).validation
        in_place = self.config.name == "in_place"
        checks = self.mode != datasets.VerificationMode.NO_CHECKS
        reader = RowReader(split, parts, validation, in_place, self.storage_options, checks)
        yield from reader.rows(stretches)

    # --------------------------------------------------------------------- what is given

    def as_dataset(self, split: Any = None, **kwargs: Any) -> Any:
        """Return the prepared dataset; see `datasets.DatasetBuilder.as_dataset`."""
        if split is None:
            return datasets.DatasetDict({s: self.as_dataset(s, **kwargs) for s in self.splits})
        if isinstance(split, list | tuple):
            return [self.as_dataset(one, **kwargs) for one in split]
        parts = []
        for name, part in cut_split(split, self.splits):
            builder = self.of_split(name)
            builder._name_classes()
            with cache_errors(self._cache_dir_root):
                parts.append(datasets.DatasetBuilder.as_dataset(builder, split=part, **kwargs))
        if len(parts) == 1:
            return parts[0]
        return datasets.concatenate_datasets(parts, split=datasets.NamedSplit(str(split)))

    def _get_dataset_fingerprint(self, split: Any) -> str:
        """Tell datasets with other names of the classes apart, and what `map` makes of them."""
        fingerprint = super()._get_dataset_fingerprint(split)
        names = self.config.label_names
        return fingerprint if names == "words" else _hash(f"{fingerprint} {names}")

    def as_streaming_dataset(self, split: Any = None, base_path: str | None = None) -> Any:
        """Return an iterable dataset; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        self._name_classes()
        self._warn_of_missing()
        if isinstance(split, list | tuple):
            return [self.as_streaming_dataset(one, base_path) for one in split]
        if split is None:
            return super().as_streaming_dataset(None, base_path)
        streams = []
        for name, part in cut_split(split, self.splits):
            if name != part:
                raise ValueError(f"A stream is of whole splits, not of {part}: see take and skip.")
            if name not in self.archives:
                raise self._missing()
            streams.append(super().as_streaming_dataset(name, base_path))
        return streams[0] if len(streams) == 1 else datasets.concatenate_datasets(streams)


def _known_options() -> list[str]:
    fields = [field.name for field in dataclasses.fields(Imagenet2012Config)]
    return [*fields, *inspect.signature(datasets.DatasetBuilder.__init__).parameters]


def _archives_of(files: Any, folder: str | None, options: Options) -> dict[str, str]:
    return given_archives(files, folder, options) if files else find_archives(folder, options)


def _copies_in(cache: str, name: str) -> list[str]:
    """Return the splits of which a cache has a copy that needs no archive."""
    return [s for s in SOURCES if is_dir(f"{cache}/{NAME}/{name}-{s}/{VERSION}/{DATA_HASH}")]


def _copy_id(name: str, splits: tuple[str, ...], archives: dict[str, str], options: Options) -> str:
    """Name the folder of a copy by what is in it.

    Of an archive of the official size that is configuration and split. Others are told apart by
    name, size and time of change, and rows in place by the path of the archive, which they hold.
    """
    if len(splits) != 1:  # nothing is written there
        return f"{name}-all"
    (split,) = splits
    told: list[Any] = []
    path = without_secrets(archives.get(split, ""))
    status = status_of_split(archives[split], options) if path else None
    if status and status.size != SOURCES[split].size:
        told = [path.rpartition("/")[2], status.size, status.version]
    if path and name == "in_place":
        told.append(path)
    return f"{name}-{split}" + (f"-{_hash(repr(told))}" if told else "")


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _official(splits: Iterable[str]) -> datasets.SplitDict:
    infos = {split: datasets.SplitInfo(split, 0, SOURCES[split].num_examples) for split in splits}
    return datasets.SplitDict(infos)


def _wrong_counts(archives: dict[str, str], error: Exception) -> str:
    counts = ", ".join(
        f"{SOURCES[split].num_examples:,} in {without_secrets(path)}"
        for split, path in archives.items()
    )
    return (
        f"The archives do not hold the expected numbers of images ({counts}). For a subset pass "
        f'verification_mode="no_checks" (on the command line: --no-checks). Details: {error}'
    )

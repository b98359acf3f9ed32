"""The command ``imagenet2012``."""

import dataclasses
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from typing import TypeVar

import click

import imagenet2012
from imagenet2012 import hub
from imagenet2012.archives import INSTRUCTIONS
from imagenet2012.archives import absolute
from imagenet2012.archives import archives_in
from imagenet2012.archives import find_archives
from imagenet2012.archives import given_archives
from imagenet2012.archives import size_of
from imagenet2012.console import bar
from imagenet2012.console import folded
from imagenet2012.ilsvrc2012 import NUM_CLASSES
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.imagenet2012 import VERSION
from imagenet2012.storage import logger
from imagenet2012.tree_listing import trees_in

if TYPE_CHECKING:  # the rest is imported where it is used, as --help should not wait for it
    import datasets

    from imagenet2012 import check as checks
    from imagenet2012 import export

F = TypeVar("F", bound=Callable[..., Any])
SPLITS = tuple(SOURCES)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# What the loader's errors advise, in the words of the command.
ADVICE = {
    'pass verification_mode="no_checks"': "pass --no-checks",
    "(verification_mode='all_checks')": "(imagenet2012 check --deep)",
    INSTRUCTIONS[INSTRUCTIONS.index(", and pass that folder") :]: ".",
}

folder_argument = click.argument("folder", metavar="DIR", type=click.Path())
split_option = click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(SPLITS),
    help="Only this split; may be repeated.",
)
no_checks_option = click.option(
    "--no-checks",
    is_flag=True,
    help="For subsets and re-packed archives: do not hold sizes and counts to the official ones.",
)


def seed_option(what: str) -> Callable[[F], F]:
    """Return the option ``--seed``; NumPy takes no negative one."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help=what)


class FilePath(click.Path):
    """A path of this machine; in ``--output=~/a`` the shell leaves the ``~``."""

    def convert(self, value: Any, *args: Any) -> Any:
        """Return a `Path`."""
        if "://" in os.fspath(value):
            self.fail(
                f"{value} is a URL, and only files of this machine are written. Give a local path, "
                "and copy what was written there (a folder of Parquet shards to the Hub: --push).",
                *args,
            )
        return Path(os.fsdecode(super().convert(value, *args))).expanduser()


class FileSize(click.ParamType):
    """A number of bytes such as 500MB."""

    name = "bytes"

    def convert(self, value: Any, *args: Any) -> int:
        """Return the number."""
        from datasets.utils.py_utils import convert_file_size_to_int

        try:
            number = convert_file_size_to_int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is not a size such as 500MB or 1GB.", *args)
        return number


class Command(click.Command):
    """A command that takes no empty value, which is what an unset variable of a shell gives."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse empty values, then do as the parent's method."""
        for before, value in zip([self.name, *args], args, strict=False):
            option, equals, given = value.partition("=")
            joined = option.startswith("--") and equals
            if not (given if joined else value).strip():
                named = option if joined else before
                raise click.UsageError(
                    f"The value after {named} is empty: is a variable unset that should hold it?",
                    ctx,
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Say of warnings that they are, show progress on terminals only, and run the command."""
        import datasets

        handlers = logger.handlers, logger.propagate
        logger.handlers, logger.propagate = [WarningHandler()], False
        ctx.call_on_close(lambda: setattr(logger, "handlers", handlers[0]))
        ctx.call_on_close(lambda: setattr(logger, "propagate", handlers[1]))
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        return super().invoke(ctx)


class WarningHandler(logging.Handler):
    """Says of what is logged that it is a warning, or what else it is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(folded(f"{record.levelname.capitalize()}: {record.getMessage()}"), err=True)


class Group(click.Group):
    """Commands whose errors are a paragraph."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what may be wrong with archives, disks and options is no traceback."""
        try:
            return super().invoke(ctx)
        except BrokenProcessPool:
            fail("A worker process was killed, perhaps for want of memory: try a lower --num-proc.")
        except OSError as error:
            named = error.strerror and error.filename
            fail(f"{error.filename}: {error.strerror}." if named else str(error))
        except (ModuleNotFoundError, ValueError, hub.HubError) as error:
            fail(str(error))
        except Exception as error:
            from datasets.exceptions import DatasetsError

            if not isinstance(error, DatasetsError):
                raise
            fail(str(error))


def fail(message: str) -> NoReturn:
    """End with a message on standard error and status 1."""
    for words, advice in ADVICE.items():
        message = message.replace(words, advice)
    click.echo(folded(f"Error: {message}"), err=True)
    sys.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet --classes tench,n01443537 -o fish.png
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-256 --size 256
    """


# ------------------------------------------------------------------------- check


@main.command(short_help="Check the archives: sizes, structure, every header.")
@folder_argument
@split_option
@no_checks_option
@click.option("--deep", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--decode", is_flag=True, help="Decode every image too, on all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    folder: str,
    splits: tuple[str, ...],
    no_checks: bool,
    deep: bool,
    decode: bool,
    as_json: bool,
) -> None:
    """Check the archives in DIR: sizes, structure, and the header of every image.

    Nothing is written. The status is 0 only if all is OK; without --split the training and
    validation archives must both be there. DIR may also be one archive, under any name, or a
    folder that `prepare --output` wrote, whose every byte is checked. With --decode, every image
    that cannot be decoded is listed with the reason.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 check ~/imagenet --split validation --deep
      imagenet2012 check ~/imagenet --decode
      imagenet2012 check ~/Downloads/val.tar
      imagenet2012 check ~/imagenet --json | jq .archives[].problems
    """
    from imagenet2012 import check as checks
    from imagenet2012 import shards

    if plans := shards.find_plans(absolute(folder)):
        return check_shards(folder, plans, splits, not no_checks, as_json)
    archives, error = look_for_archives(folder)
    if error and not as_json:
        raise error
    usual = archives if os.path.isfile(os.path.expanduser(folder)) else ("train", "validation")
    wanted = tuple(dict.fromkeys(splits)) or tuple(s for s in SPLITS if s in usual or s in archives)
    missing = [split for split in wanted if split not in archives]
    strict, reports = not no_checks, []
    for split in (s for s in wanted if s in archives):
        size = size_of(archives[split])
        with bar(size, "B", f"{split}, headers") as progress:
            reports.append(
                checks.check(split, archives[split], strict=strict, progress=progress.update)
            )
        if deep:
            with bar(size, "B", f"{split}, SHA-256") as progress:
                checks.hash_archive(reports[-1], strict=strict, progress=progress.update)
        if decode:
            from imagenet2012.check_images import decode_images

            with bar(reports[-1].images, " images", f"{split}, decoding") as progress:
                decode_images(reports[-1], processes=CORES, progress=progress.update)
    ok = not missing and not any(report.problems for report in reports)
    if as_json:
        found = [dataclasses.asdict(report) for report in reports]
        told: dict[str, Any] = {"ok": ok, "well": ok}  # the second is its former name
        told |= {"missing": missing, "error": error and str(error), "archives": found}
        click.echo(json.dumps(told, indent=2))
    else:
        print_reports(reports, missing, strict)
    sys.exit(not ok)


def check_shards(
    folder: str,
    plans: "dict[str, export.Plan]",
    splits: tuple[str, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Check the Parquet shards that `prepare --output` wrote, and print what is wrong."""
    from imagenet2012 import shards

    found, missing = [], [split for split in splits if split not in plans]
    for split, plan in plans.items():
        if split in (splits or plans):
            with bar(plan.shards, " shards", split) as progress:
                problems = shards.check(
                    absolute(folder), plan, strict=strict, progress=progress.update
                )
            found.append({**dataclasses.asdict(plan), "problems": problems})
    ok = not missing and not any(one["problems"] for one in found)
    if as_json:
        click.echo(json.dumps({"ok": ok, "missing": missing, "shards": found}, indent=2))
        sys.exit(not ok)
    for one in found:
        what = f"an index of {one['in_place']}" if one["in_place"] else "with the images"
        title = click.style(one["split"], bold=True)
        click.echo(f"{title}  {one['rows']:,} images in {one['shards']:,} shards, {what}")
        for problem in one["problems"][:20]:
            click.echo(folded(f"  {click.style('!', fg='red')} {problem}", indent=4))
        if len(one["problems"]) > 20:
            click.echo(f"  ! and {len(one['problems']) - 20:,} more: see --json")
    for split in missing:
        click.echo(f"{click.style(split, bold=True)}  missing")
    verdict = click.style("All OK.", fg="green") if ok else "Not all is OK."
    click.echo(verdict)
    sys.exit(not ok)


def look_for_archives(folder: str) -> tuple[dict[str, str], Exception | None]:
    """Return the path of each split's archive, and if there is none, the error that says so."""
    import datasets

    path = absolute(folder)
    try:
        if os.path.isfile(path):
            return given_archives(path), None
        return find_archives(path), None
    except datasets.exceptions.ManualDownloadError as error:
        return {}, error


def print_reports(reports: "list[checks.Report]", missing: list[str], strict: bool) -> None:
    """Print a table for each archive, what is wrong with it, and the verdict."""
    for report in reports:
        click.echo(f"{click.style(report.split, bold=True)}  {report.path}")
        click.echo(f"{'found':>29}{'official':>18}")
        for name, found, official, ok in figures(report):
            verdict = ("OK" if ok else "differs") if strict and official else ""
            colour = "green" if ok else "red"
            mark = f"  {click.style(verdict, fg=colour)}" if verdict else ""
            click.echo(f"  {name:<12}{found:>15}{official:>18}{mark}")
        if report.sha256:
            click.echo(f"  SHA-256     {report.sha256}")
        if report.decoded is not None:
            click.echo(f"  decoded     {report.decoded:>15,}")
        mark = click.style("!", fg="red")
        for problem in report.problems[:20]:
            click.echo(folded(f"  {mark} {problem}", indent=4))
        if len(report.problems) > 20:
            click.echo(f"  ! and {len(report.problems) - 20:,} more: see --json")
        for name, reason in report.broken.items():
            click.echo(folded(f"  {mark} {name}: {reason}", indent=4))
        click.echo()
    for split in missing:
        names = " or ".join(SOURCES[split].file_names)
        click.echo(click.style(split, bold=True) + f"  missing: {names}\n")
    bad = sum(bool(report.problems) for report in reports)
    if not bad and not missing:
        click.echo(click.style("All OK.", fg="green"))
    else:
        said = [f"{bad} of {len(reports)} archives with problems"] * bool(bad)
        said += [f"{len(missing)} missing"] * bool(missing)
        click.echo(click.style(", ".join(said) + ".", fg="red"))


def figures(report: "checks.Report") -> list[tuple[str, str, str, bool]]:
    """Return the lines of the table: name, found, official, and whether they agree."""
    size, images = report.official_size, report.official_images
    lines = [
        ("bytes", f"{report.size:,}", f"{size:,}" if size else "", size in (None, report.size)),
        ("images", f"{report.images:,}", f"{images:,}", report.images == images),
    ]
    if report.split == "train":
        tars, number = report.class_tars, NUM_CLASSES
        name = "class tars" if size else "classes"
        lines.insert(1, (name, f"{tars:,}", f"{number:,}", tars == number))
    if expected := SOURCES[report.split].in_class:
        counts = [report.in_class.get(wnid, 0) for wnid in imagenet2012.WNIDS]
        ok = expected[0] <= min(counts) and max(counts) <= expected[1]
        lines.append(("in a class", spread(min(counts), max(counts)), spread(*expected), ok))
    return lines


def spread(fewest: int, most: int) -> str:
    """Write a range, or the one number that it is."""
    return f"{fewest:,} to {most:,}" if fewest < most else f"{fewest:,}"


# ------------------------------------------------------------------------- show


@main.command(short_help="Draw a contact sheet of random images.")
@folder_argument
@click.option("--split", type=click.Choice(SPLITS), help="Default: validation, if it is there.")
@click.option("--classes", help="Names, wnids or labels, separated by commas.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(1, 1000))
@seed_option("Of the random choice.")
@click.option(
    "-o",
    "--output",
    default="contact_sheet.png",
    show_default=True,
    type=FilePath(dir_okay=False),
)
@no_checks_option
def show(
    folder: str,
    split: str | None,
    classes: str | None,
    count: int,
    seed: int,
    output: Path,
    no_checks: bool,
) -> None:
    """Draw a contact sheet (PNG) of random images in DIR with their names.

    \b
    Examples:
      imagenet2012 show ~/imagenet
      imagenet2012 show ~/imagenet --split train --classes "tench,n01484850"
    """
    import numpy as np

    from imagenet2012 import sheet

    check_picture(output)
    plans = find_index(folder)
    archives: Any = plans or find_archives(absolute(folder))
    split = split or ("validation" if "validation" in archives else next(iter(archives)))
    size, official = 0 if plans else size_of(archives[split]), SOURCES[split].size
    if not plans and not no_checks and official not in (None, size):
        warning = f"{archives[split]} has {size:,} bytes, the original {official:,}."
        click.echo(folded(f"Warning: {warning} It is shown as it is."), err=True)
    dataset = load(folder, split, no_checks=True)
    names = dataset.features["label"].names
    labels = np.array(dataset["label"][:])
    chosen = np.arange(len(labels))
    if classes:
        chosen = np.flatnonzero(np.isin(labels, find_classes(classes, names)))
        if not len(chosen):
            others = " or ".join(f"--split {other}" for other in archives if other != split)
            hint = f" Try {others}." if others else ""
            raise ValueError(f"No image of these classes in the {split} split.{hint}")
    order = np.random.default_rng(seed).permutation(chosen)
    passed: list[Exception] = []
    picture = sheet.draw(
        itertools.islice(sheet.sound_rows(dataset, order, passed.append), count), names
    )
    for error in passed:
        click.echo(folded(f"Passed over: {error}"), err=True)
    shown = min(count, len(order) - len(passed))
    if not shown:
        raise ValueError("None of these images can be decoded. Nothing was written.")
    picture.save(output, "PNG")
    click.echo(f"{output}: {shown} {split} image{'s' * (shown > 1)}")


def find_index(folder: str) -> "dict[str, export.Plan]":
    """Return the plan of each split of a folder of rows in place; empty if it is none.

    Raises
    ------
    ValueError
        If its rows hold the images: these would be copied before one of them is seen.
    """
    from imagenet2012 import shards

    plans = shards.find_plans(absolute(folder))
    if not all(plan.in_place for plan in plans.values()):
        raise ValueError(
            f"{folder} holds Parquet shards of the images themselves. Give the folder of the "
            "archives, or an index of them (prepare --in-place --output)."
        )
    return plans


def check_picture(path: Path) -> None:
    """Raise `ValueError` if something is there that is no PNG, such as an archive."""
    if path.exists():
        with path.open("rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                raise ValueError(f"{path} is there and is no PNG. Nothing was written.")


def find_classes(text: str, names: list[str]) -> list[int]:
    """Return the labels that names (whole ones, or one of their words), wnids or labels mean."""
    found = []
    for one in (part.strip() for part in text.split(",") if part.strip()):
        matches = [
            label
            for label, (wnid, words) in enumerate(zip(imagenet2012.WNIDS, names, strict=True))
            if one in (wnid, str(label)) or one.lower() in words.lower().split(", ")
        ]
        if not matches:
            raise ValueError(
                f"No class is called {one!r}. Classes go by name as in the Hub's imagenet-1k, by "
                "wnid (n01440764) or by label (0 to 999)."
            )
        found += matches
    return found


def load(folder: str, split: str, no_checks: bool) -> "datasets.Dataset":
    """Load a split in place."""
    return imagenet2012.load(
        folder,
        "in_place",
        split=split,
        verification_mode="no_checks" if no_checks else "basic_checks",
    )


# ------------------------------------------------------------------------- prepare


@main.command(short_help="Prepare the cache, or a repository for the Hub.")
@folder_argument
@split_option
@no_checks_option
@click.option(
    "--num-proc",
    default=CORES,
    show_default="all cores",
    type=click.IntRange(1),
    help="Processes.",
)
@click.option("--in-place", is_flag=True, help="Index only: leave the images in the archives.")
@click.option(
    "--portable",
    is_flag=True,
    help="With --in-place --output: call the archives by name, to be found in IMAGENET2012_DIR.",
)
@click.option(
    "--label-names",
    default="words",
    show_default=True,
    type=click.Choice(["words", "wnid"]),
    help="Names of the classes.",
)
@click.option(
    "--order",
    show_default="archive",
    type=click.Choice(["archive", "mixed"]),
    help="Of the rows, without --output.",
)
@click.option("--cache-dir", type=FilePath(file_okay=False), help="Cache, if not the default one.")
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    help="Write Parquet shards and a card to this folder.",
)
@click.option("--size", type=click.IntRange(16), help="Resize to this shortest side (pixels).")
@click.option(
    "--quality",
    show_default="90",
    type=click.IntRange(1, 100),
    help="Of the JPEGs that --size makes.",
)
@click.option(
    "--shard-size",
    show_default="500MB",
    type=FileSize(),
    help="About, with --output.",
)
@click.option(
    "--shards",
    show_default="128",
    type=click.IntRange(1, 99_999),
    help="Of each split, with --in-place --output.",
)
@seed_option("Of the shuffle, with --output.")
@click.option(
    "--ray",
    is_flag=True,
    help="With --output: on all nodes of the running Ray cluster, which share DIR and FOLDER.",
)
@click.option("--push", metavar="REPO_ID", help="Upload the folder of --output to the Hub.")
@click.option("--public", is_flag=True, help="With --push: not a private repository.")
def prepare(
    folder: str, output: Path | None, push: str | None, public: bool, **options: Any
) -> None:
    """Prepare DIR in the cache of `datasets`, or as a repository for the Hub.

    Without --output, load_dataset and imagenet2012.load find what was prepared (with --split, only
    imagenet2012.load does). With --output, the folder gets shuffled Parquet shards that need
    nothing but `datasets`; started again after an interruption, it verifies what is there and goes
    on. With --size, larger images are resized (upright, RGB, JPEG); smaller ones keep their bytes.

    With --in-place and --output, the shards hold only where in the archives each image is: a folder
    of some 50 MB for every program that takes a dataset's folder, if this package is installed
    where it runs. With --portable, as always with --push, other machines read it too: from the
    archives in the folder that IMAGENET2012_DIR names there.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-parquet
      imagenet2012 prepare ~/imagenet --output ~/in256 --size 256 --push me/in256
      imagenet2012 prepare ~/imagenet --in-place --output ~/imagenet-index
    """
    check_options(folder, output, push, public, options)
    from imagenet2012 import prepare as preparing

    options["quality"] = options["quality"] or 90
    options["shard_size"] = options["shard_size"] or 500_000_000
    options["portable"] = options["portable"] or bool(options["in_place"] and push)
    options["order"] = options["order"] or "archive"
    options["cache_dir"] = options["cache_dir"] and str(options["cache_dir"])
    if not output:
        return preparing.prepare_cache(folder, options)
    if push:  # before the hours of work
        notice = (
            "Warning: You answer for who may see these images: ImageNet's terms let nobody pass "
            "them on."
        )
        if not options["in_place"]:  # an index has none
            click.echo(folded(notice), err=True)
        hub.get_repository(push, public)
    preparing.prepare_repository(folder, output, push, options)


def check_options(
    folder: str, output: Path | None, push: str | None, public: bool, options: dict[str, Any]
) -> None:
    """Raise `click.UsageError` if options do not go together."""
    if public and not push:
        raise click.UsageError("--public goes with --push: give it.")
    if options["quality"] and not options["size"]:
        raise click.UsageError("--quality goes with --size: other images keep their bytes.")
    if not output:
        if push or options["size"] or options["ray"] or options["portable"] or options["shards"]:
            raise click.UsageError(
                "--push, --size, --ray, --portable and --shards go with --output: give it."
            )
        return
    if options["order"]:
        raise click.UsageError("--output shuffles the images by --seed: leave --order out.")
    if archives_in(absolute(output)) or trees_in(absolute(output), {}):
        raise click.UsageError(f"{output} holds the images: give --output another folder.")
    others = ("size", "ray", "shard_size") if options["in_place"] else ("portable", "shards")
    for name in (name for name in others if options[name]):
        option = f"--{name.replace('_', '-')}"
        if options["in_place"]:
            raise click.UsageError(f"--in-place writes no images: leave {option} out.")
        raise click.UsageError(f"{option} goes with --in-place: give it.")


if __name__ == "__main__":
    main()

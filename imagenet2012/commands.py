"""What the command ``imagenet2012`` does; what may be typed is in ``imagenet2012_command.py``."""

import contextlib
import dataclasses
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NoReturn

import click
import datasets
from datasets.exceptions import DatasetsError, ManualDownloadError

from imagenet2012 import export, hub, reports, shards, sheet
from imagenet2012 import prepare as preparing
from imagenet2012.archives import INSTRUCTIONS, absolute, archives_in, find_archives, given_archives
from imagenet2012.console import folded
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.storage import logger, status_of
from imagenet2012.tree_listing import trees_in
from imagenet2012.workers import CORES

# What the loader's errors advise, in the words of the command.
ADVICE = {
    'pass verification_mode="no_checks"': "pass --no-checks",
    r"\(verification_mode='all_checks'\)": "(imagenet2012 check --deep)",
    re.escape(INSTRUCTIONS[INSTRUCTIONS.index(", and pass that folder") :]): ".",
    r"Pass cache_dir= \(or": "Pass --cache-dir (or",
    r'use the "in_place" configuration': "pass --in-place",
    r", or pass data_files=\{.*\}": "",
    r"several of its subfolders: pass data_files=.*": "several of its subfolders: put links to "
    "them into one, and pass that.",
}
# Of options of `prepare` whose absence must be told from their default.
DEFAULTS = {"num_proc": CORES, "quality": 90, "shard_size": 500_000_000, "order": "archive"}
NEED_OUTPUT = ("push", "size", "shard_size", "shards", "portable", "ray")


def run(command: Callable[..., None], options: dict[str, Any]) -> None:
    """Run a command; what may be wrong with archives, disks and options is no traceback."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        with warnings_said():
            command(**options)
    except BrokenProcessPool:
        fail("A worker process was killed, perhaps for want of memory: try a lower --num-proc.")
    except OSError as error:
        named = error.strerror and error.filename
        fail(f"{error.filename}: {error.strerror}." if named else str(error))
    except (ModuleNotFoundError, ValueError, DatasetsError, hub.HubError) as error:
        fail(str(error))


@contextlib.contextmanager
def warnings_said() -> Iterator[None]:
    """Print what is logged with its level, such as "Warning: "."""
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [WarningHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


class WarningHandler(logging.Handler):
    """Says of what is logged that it is a warning, or what else it is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(folded(f"{record.levelname.capitalize()}: {record.getMessage()}"), err=True)


def fail(message: str) -> NoReturn:
    """End with a message on standard error and status 1."""
    for words, advice in ADVICE.items():
        message = re.sub(words, advice, message)
    click.echo(folded(f"Error: {message}"), err=True)
    sys.exit(1)


# ------------------------------------------------------------------------- check


def check(
    folder: str, splits: tuple[str, ...], no_checks: bool, deep: bool, decode: bool, as_json: bool
) -> None:
    """Check archives, or shards that were written, and end with status 1 unless all is OK."""
    if plans := shards.find_plans(absolute(folder)):
        if deep or decode:
            raise click.UsageError(
                f"--deep and --decode are for archives. {folder} holds shards, of which each byte "
                "is held to what was written: pass the folder of the archives."
            )
        return check_shards(absolute(folder), plans, splits, no_checks, as_json)
    archives, error = look_for_archives(folder)
    if error and not as_json:
        raise error
    # A folder must hold both; an archive that is passed by itself is enough.
    usual = () if absolute(folder) in archives.values() else ("train", "validation")
    wanted = tuple(dict.fromkeys(splits)) or tuple(s for s in SOURCES if s in {*usual, *archives})
    missing = [split for split in wanted if split not in archives]
    given = {split: archives[split] for split in wanted if split in archives}
    made = reports.of_archives(given, strict=not no_checks, deep=deep, decode=decode)
    ok = not missing and not any(report.problems for report in made)
    if as_json:
        told: dict[str, Any] = {"ok": ok, "well": ok}  # the second is its former name
        told |= {"missing": missing, "error": error and str(error)}
        told["archives"] = [dataclasses.asdict(report) for report in made]
        click.echo(json.dumps(told, indent=2))
    else:
        reports.print_reports(made, missing, strict=not no_checks)
    sys.exit(not ok)


def check_shards(
    folder: str,
    plans: dict[str, export.Plan],
    splits: tuple[str, ...],
    no_checks: bool,
    as_json: bool,
) -> None:
    """Check what `prepare --output` wrote."""
    missing = [split for split in splits if split not in plans]
    chosen = {split: plan for split, plan in plans.items() if split in (splits or plans)}
    found = reports.of_shards(folder, chosen, strict=not no_checks)
    ok = not missing and not any(one["problems"] for one in found)
    if as_json:
        click.echo(json.dumps({"ok": ok, "missing": missing, "shards": found}, indent=2))
    else:
        reports.print_shards(found, missing)
    sys.exit(not ok)


def look_for_archives(folder: str) -> tuple[dict[str, str], ManualDownloadError | None]:
    """Return the path of each split's archive, and if there is none, the error that says so."""
    path = absolute(folder)
    status = status_of(path)
    try:
        return (given_archives if status and not status.is_dir else find_archives)(path), None
    except ManualDownloadError as error:
        return {}, error


# ------------------------------------------------------------------------- show


def show(
    folder: str,
    split: str | None,
    classes: str | None,
    count: int,
    seed: int,
    output: Path,
    no_checks: bool,
) -> None:
    """Draw a contact sheet of random images."""
    sheet.check_picture(output)
    dataset, splits = sheet.dataset_of(folder, split, no_checks)
    order = sheet.chosen_rows(dataset, splits, classes, seed)
    passed: list[Exception] = []
    rows = itertools.islice(sheet.sound_rows(dataset, order, passed.append), count)
    picture = sheet.draw(rows, dataset.features["label"].names)
    for error in passed:
        click.echo(folded(f"Passed over: {error}"), err=True)
    shown = min(count, len(order) - len(passed))
    if not shown:
        raise ValueError("None of these images can be decoded. Nothing was written.")
    picture.save(output, "PNG")
    click.echo(f"{output}: {shown} {dataset.split} image{'s' * (shown > 1)}")


# ------------------------------------------------------------------------- prepare


def prepare(
    folder: str, output: Path | None, push: str | None, public: bool, **options: Any
) -> None:
    """Prepare the cache, or a folder of shards that may be pushed to the Hub."""
    check_combinations(output, push, public, options)
    if shards.find_plans(absolute(folder)):
        raise click.UsageError(f"{folder} holds shards: pass the folder of the archives.")
    options |= {key: value for key, value in DEFAULTS.items() if not options[key]}
    options["portable"] = options["portable"] or bool(options["in_place"] and push)
    options["cache_dir"] = options["cache_dir"] and str(options["cache_dir"])
    if not output:
        return preparing.prepare_cache(folder, options)
    if push and not options["in_place"]:  # an index has no images
        logger.warning(
            "You answer for who may see these images: ImageNet's terms let nobody pass them on."
        )
    preparing.prepare_repository(folder, output, push, public, options)


def check_combinations(
    output: Path | None, push: str | None, public: bool, options: dict[str, Any]
) -> None:
    """Raise `click.UsageError` if options do not go together."""
    if public and not push:
        raise click.UsageError("--public goes with --push: give it.")
    if options["quality"] and not options["size"]:
        raise click.UsageError("--quality goes with --size: other images keep their bytes.")
    if not output:
        if option := first_given({"push": push, **options}, *NEED_OUTPUT):
            raise click.UsageError(f"{option} goes with --output: give it.")
        return
    if options["order"]:
        raise click.UsageError("--output shuffles the images by --seed: leave --order out.")
    if archives_in(absolute(output)) or trees_in(absolute(output), {}):
        raise click.UsageError(f"{output} holds the images: give --output another folder.")
    if options["in_place"] and (option := first_given(options, "size", "ray", "shard_size")):
        raise click.UsageError(f"--in-place writes no images: leave {option} out.")
    if not options["in_place"] and (option := first_given(options, "portable", "shards")):
        raise click.UsageError(f"{option} goes with --in-place: give it.")


def first_given(options: dict[str, Any], *names: str) -> str:
    """Return the first of these options that was given, as it is typed, or nothing."""
    return next((f"--{name.replace('_', '-')}" for name in names if options[name]), "")

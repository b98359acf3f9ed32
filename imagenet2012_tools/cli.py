"""The command ``imagenet2012``."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any
from typing import NoReturn

import click
import datasets
import numpy as np
from tqdm import tqdm

import imagenet2012
from imagenet2012_tools import check as checks
from imagenet2012_tools import export as exports
from imagenet2012_tools import sheet

SPLITS = tuple(imagenet2012.SOURCES)
CORES = os.cpu_count() or 1

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


class Group(click.Group):
    """Commands whose errors are a paragraph."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what may be wrong with archives, disks and options is no traceback."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
            fail(str(error))


def fail(message: str) -> NoReturn:
    """End with a message on standard error and status 1."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(1)


def bar(total: int, unit: str, title: str) -> tqdm:
    """Return a progress bar, which shows only on a terminal."""
    scaled = unit == "B"
    return tqdm(total=total, unit=unit, unit_scale=scaled, desc=title, disable=None, leave=False)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(imagenet2012.VERSION, prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet --classes tench,n01443537 -o fish.png
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-256 --size 256
    """
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


# ------------------------------------------------------------------------- check


@main.command()
@folder_argument
@split_option
@no_checks_option
@click.option("--deep", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(folder: str, splits: tuple[str, ...], no_checks: bool, deep: bool, as_json: bool) -> None:
    """Check the archives in DIR: sizes, structure, and the header of every image.

    Nothing is written. The status is 0 only if all is well; without --split the training and
    validation archives must both be there.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 check ~/imagenet --split validation --deep
      imagenet2012 check ~/imagenet --json | jq .problems
    """
    archives = imagenet2012._find_archives(imagenet2012._absolute(folder), None)
    wanted = splits or tuple(s for s in SPLITS if s != "test" or s in archives)
    reports = []
    for split in (s for s in wanted if s in archives):
        size = os.path.getsize(archives[split])
        with bar(size * (1 + deep), "B", split) as progress:
            reports.append(
                checks.check(
                    split,
                    archives[split],
                    strict=not no_checks,
                    deep=deep,
                    progress=progress.update,
                )
            )
    missing = [split for split in wanted if split not in archives]
    well = not missing and not any(report.problems for report in reports)
    if as_json:
        found = [dataclasses.asdict(report) for report in reports]
        click.echo(json.dumps({"well": well, "missing": missing, "archives": found}, indent=2))
    else:
        print_reports(reports, missing)
    sys.exit(not well)


def print_reports(reports: list[checks.Report], missing: list[str]) -> None:
    """Print a table of the archives, then what is wrong."""
    line = "{:<11}{:>17}{:>9}{:>12}  {}"
    click.echo(line.format("split", "bytes", "classes", "images", ""))
    for report in reports:
        classes = f"{report.classes:,}" if report.split == "train" else ""
        count = len(report.problems)
        state = f"{count} problem{'s' * (count > 1)}" if count else "well"
        values = (report.split, f"{report.size:,}", classes, f"{report.images:,}", state)
        click.echo(line.format(*values))
    for split in missing:
        click.echo(line.format(split, "", "", "", "missing"))
    for report in reports:
        click.echo(f"\n{report.path}" + (f"\nSHA-256 {report.sha256}" if report.sha256 else ""))
        for problem in report.problems[:20]:
            click.echo(f"  - {problem}")
        if len(report.problems) > 20:
            click.echo(f"  - and {len(report.problems) - 20:,} more")


# ------------------------------------------------------------------------- show


@main.command()
@folder_argument
@click.option("--split", type=click.Choice(SPLITS), help="Default: validation, if it is there.")
@click.option("--classes", help="Names, wnids or labels, separated by commas.")
@click.option("--count", default=32, show_default=True, help="How many images.")
@click.option("--seed", default=0, show_default=True, help="Of the random choice.")
@click.option("-o", "--output", default="contact_sheet.png", show_default=True, type=click.Path())
@no_checks_option
def show(
    folder: str,
    split: str | None,
    classes: str | None,
    count: int,
    seed: int,
    output: str,
    no_checks: bool,
) -> None:
    """Draw a contact sheet (PNG) of random images in DIR with their names.

    \b
    Examples:
      imagenet2012 show ~/imagenet
      imagenet2012 show ~/imagenet --split train --classes "tench,n01484850"
    """
    archives = imagenet2012._find_archives(imagenet2012._absolute(folder), None)
    split = split or ("validation" if "validation" in archives else next(iter(archives)))
    dataset = load(folder, split, no_checks, None)
    names = dataset.features["label"].names
    labels = np.array(dataset["label"][:])
    chosen = np.arange(len(labels))
    if classes:
        chosen = np.flatnonzero(np.isin(labels, find_classes(classes, names)))
        if not len(chosen):
            raise ValueError(f"No image of these classes in the {split} split.")
    picked = np.random.default_rng(seed).permutation(chosen)[:count]
    sheet.draw(dataset.select(picked), names).save(output)
    click.echo(f"{output}: {len(picked)} {split} images")


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


def load(folder: str, split: str, no_checks: bool, num_proc: int | None) -> datasets.Dataset:
    """Load a split in place."""
    mode = "no_checks" if no_checks else "basic_checks"
    return imagenet2012.load(
        folder, "in_place", split=split, verification_mode=mode, num_proc=num_proc
    )


# ------------------------------------------------------------------------- prepare


@main.command()
@folder_argument
@split_option
@no_checks_option
@click.option("--num-proc", default=CORES, show_default="all cores", help="Processes.")
@click.option("--in-place", is_flag=True, help="Index only: leave the images in the archives.")
@click.option("--output", type=click.Path(), help="Write Parquet shards and a card to this folder.")
@click.option("--size", type=click.IntRange(16), help="Resize to this shortest side (pixels).")
@click.option("--quality", default=90, show_default=True, type=click.IntRange(1, 100))
@click.option("--shard-size", default="500MB", show_default=True, help="About, with --output.")
@click.option("--seed", default=0, show_default=True, help="Of the shuffle, with --output.")
@click.option("--push", metavar="REPO_ID", help="Upload the folder of --output to the Hub.")
@click.option("--public", is_flag=True, help="With --push: not a private repository.")
def prepare(
    folder: str, output: str | None, push: str | None, public: bool, **options: Any
) -> None:
    """Prepare DIR in the cache of `datasets`, or as a repository for the Hub.

    Without --output, load_dataset and imagenet2012.load find what was prepared. With --output, the
    folder gets shuffled Parquet shards that need nothing but `datasets`; started again after an
    interruption, it goes on. With --size, larger images are resized (upright, RGB, JPEG); smaller
    ones keep their bytes.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-parquet
      imagenet2012 prepare ~/imagenet --output ~/in256 --size 256 --push me/in256
    """
    if push and not output:
        raise click.UsageError("--push uploads the folder of --output: give both.")
    if options["size"] and not output:
        raise click.UsageError("--size needs --output.")
    if output:
        prepare_repository(folder, Path(output), options)
        click.echo(f'Load it with: datasets.load_dataset("{output}")')
    else:
        prepare_cache(folder, options)
    if push:
        upload(Path(output or ""), push, public)


def prepare_cache(folder: str, options: dict[str, Any]) -> None:
    """Prepare as a later `imagenet2012.load` of the same archives would."""
    archives = imagenet2012._find_archives(imagenet2012._absolute(folder), None)
    config = "in_place" if options["in_place"] else "default"
    mode = "no_checks" if options["no_checks"] else "basic_checks"
    for split in options["splits"] or archives:
        dataset = imagenet2012.load(
            folder, config, split=split, num_proc=options["num_proc"], verification_mode=mode
        )
        place = Path(dataset.cache_files[0]["filename"]).parent
        click.echo(f"{split}: {dataset.num_rows:,} images in {place}")


def prepare_repository(folder: str, output: Path, options: dict[str, Any]) -> None:
    """Write all shards, then the card."""
    archives = imagenet2012._find_archives(imagenet2012._absolute(folder), None)
    size = datasets.utils.py_utils.convert_file_size_to_int(options["shard_size"])
    keep = {key: options[key] for key in ("seed", "size", "quality")}
    infos = []
    for split in options["splits"] or archives:
        dataset = load(folder, split, options["no_checks"], options["num_proc"])
        plan = exports.make_plan(dataset, split, archives[split], size, **keep)
        with bar(plan.rows, " images", split) as progress:
            infos.append(
                exports.export(dataset, plan, output, options["num_proc"], progress.update)
            )
        shards = f"{plan.shards:,} shard{'s' * (plan.shards > 1)}"
        click.echo(f"{split}: {plan.rows:,} images in {shards}")
    exports.write_card(output, dataset.features, infos, plan)


def upload(output: Path, repo_id: str, public: bool) -> None:
    """Upload a folder; started again, it goes on where it was."""
    from huggingface_hub import HfApi

    notice = "You answer for who may see these images: ImageNet's terms let nobody pass them on."
    click.echo(notice, err=True)
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
    # Since huggingface-hub 2, uploading a folder goes on where it was by itself.
    send = getattr(api, "upload_large_folder", api.upload_folder)
    send(repo_id=repo_id, folder_path=str(output), repo_type="dataset")
    click.echo(f"Uploaded to the dataset repository {repo_id}.")


if __name__ == "__main__":
    main()

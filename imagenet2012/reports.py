"""What `imagenet2012 check` goes through, and how it says what was found."""

import dataclasses
from typing import Any

import click

from imagenet2012 import WNIDS, check, shards
from imagenet2012.archives import size_of
from imagenet2012.console import bar, folded
from imagenet2012.export import Plan
from imagenet2012.ilsvrc2012 import NUM_CLASSES, SOURCES, ArchiveError
from imagenet2012.workers import CORES

SHOWN = 20  # of the problems with one archive

# ------------------------------------------------------------------------- archives


def of_archives(
    archives: dict[str, str], *, strict: bool, deep: bool, decode: bool
) -> list[check.Report]:
    """Check archives, with a progress bar each; see `check.check`."""
    return [_of_archive(split, path, strict, deep, decode) for split, path in archives.items()]


def _of_archive(split: str, path: str, strict: bool, deep: bool, decode: bool) -> check.Report:
    size = size_of(path)
    with bar(size, "B", f"{split}, headers") as progress:
        report = check.check(split, path, strict=strict, progress=progress.update)
    try:
        if deep:
            with bar(size, "B", f"{split}, SHA-256") as progress:
                check.hash_archive(report, strict=strict, progress=progress.update)
        if decode:
            with bar(report.images, " images", f"{split}, decoding") as progress:
                check.decode_images(report, processes=CORES, progress=progress.update)
    except ArchiveError as error:  # most likely known from the headers
        problems = [*report.problems, check.first_line(error)]
        report.problems = list(dict.fromkeys(problems))
    return report


def print_reports(reports: list[check.Report], missing: list[str], strict: bool) -> None:
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
        print_problems(report.problems)
        for name, reason in report.broken.items():
            print_problems([f"{name}: {reason}"])
        click.echo()
    for split in missing:
        names = " or ".join(SOURCES[split].file_names)
        click.echo(click.style(split, bold=True) + f"  missing: {names}\n")
    bad = sum(bool(report.problems) for report in reports)
    said = [f"{bad} of {len(reports)} archives with problems"] * bool(bad)
    said += [f"{len(missing)} missing"] * bool(missing)
    print_verdict(", ".join(said))


def figures(report: check.Report) -> list[tuple[str, str, str, bool]]:
    """Return the lines of the table: name, found, official, and whether they agree."""
    size, images = report.official_size, report.official_images
    lines = [
        ("bytes", f"{report.size:,}", f"{size:,}" if size else "", size in (None, report.size)),
        ("images", f"{report.images:,}", f"{images:,}", report.images == images),
    ]
    if report.split == "train":
        found, name = report.class_tars, "class tars" if size else "classes"
        lines.insert(1, (name, f"{found:,}", f"{NUM_CLASSES:,}", found == NUM_CLASSES))
    if expected := SOURCES[report.split].in_class:
        counts = [report.in_class.get(wnid, 0) for wnid in WNIDS]
        ok = expected[0] <= min(counts) and max(counts) <= expected[1]
        lines.append(("in a class", spread(min(counts), max(counts)), spread(*expected), ok))
    return lines


def spread(fewest: int, most: int) -> str:
    """Write a range, or the one number that it is."""
    return f"{fewest:,} to {most:,}" if fewest < most else f"{fewest:,}"


def print_problems(problems: list[str]) -> None:
    """Print what is wrong, the first of it."""
    for problem in problems[:SHOWN]:
        click.echo(folded(f"  {click.style('!', fg='red')} {problem}", indent=4))
    if len(problems) > SHOWN:
        click.echo(f"  ! and {len(problems) - SHOWN:,} more: see --json")


def print_verdict(wrong: str) -> None:
    """Print that all is well, or what is not."""
    click.echo(click.style(f"{wrong}.", fg="red") if wrong else click.style("All OK.", fg="green"))


# ------------------------------------------------------------------------- folders of shards


def of_shards(folder: str, plans: dict[str, Plan], *, strict: bool) -> list[dict[str, Any]]:
    """Return plan and problems of each split of a folder that `prepare --output` wrote."""
    found = []
    for split, plan in plans.items():
        with bar(plan.shards, " shards", split) as progress:
            problems = shards.check(folder, plan, strict=strict, progress=progress.update)
        found.append({**dataclasses.asdict(plan), "problems": problems})
    return found


def print_shards(found: list[dict[str, Any]], missing: list[str]) -> None:
    """Print what each split is, what is wrong with it, and the verdict."""
    for one in found:
        what = f"an index of {one['in_place']}" if one["in_place"] else "with the images"
        title, plural = click.style(one["split"], bold=True), "s" * (one["shards"] > 1)
        click.echo(f"{title}  {one['rows']:,} images in {one['shards']:,} shard{plural}, {what}")
        print_problems(one["problems"])
    for split in missing:
        click.echo(f"{click.style(split, bold=True)}  missing")
    bad = any(one["problems"] for one in found) or missing
    print_verdict("Not all is OK" if bad else "")

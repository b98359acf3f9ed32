"""The command ``imagenet2012``: what may be typed.

It stands beside the package, whose import takes a second, so that ``--help`` is answered at once.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
SPLITS = ("train", "validation", "test")

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
        from datasets.utils.py_utils import convert_file_size_to_int  # takes a second

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


def run(command: str, options: dict[str, Any]) -> None:
    """Do what was typed; see `imagenet2012.commands`."""
    from imagenet2012 import commands  # takes a second

    commands.run(getattr(commands, command), options)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="imagenet2012", prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet --classes tench,n01443537 -o fish.png
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-256 --size 256
    """


main.command_class = Command

# ------------------------------------------------------------------------- check


@main.command(short_help="Check the archives: sizes, structure, every header.")
@folder_argument
@split_option
@no_checks_option
@click.option("--deep", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--decode", is_flag=True, help="Decode every image too, on all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(**options: Any) -> None:
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
    run("check", options)


# ------------------------------------------------------------------------- show


@main.command(short_help="Draw a contact sheet of random images.")
@folder_argument
@click.option("--split", type=click.Choice(SPLITS), help="Default: validation, if it is there.")
@click.option("--classes", help="Names, wnids or labels, separated by commas.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(1, 1000))
@seed_option("Of the random choice.")
@click.option(
    "-o", "--output", default="contact_sheet.png", show_default=True, type=FilePath(dir_okay=False)
)
@no_checks_option
def show(**options: Any) -> None:
    """Draw a contact sheet (PNG) of random images in DIR with their names.

    \b
    Examples:
      imagenet2012 show ~/imagenet
      imagenet2012 show ~/imagenet --split train --classes "tench,n01484850"
    """
    run("show", options)


# ------------------------------------------------------------------------- prepare


@main.command(short_help="Prepare the cache, or a repository for the Hub.")
@folder_argument
@split_option
@no_checks_option
@click.option("--num-proc", show_default="all cores", type=click.IntRange(1), help="Processes.")
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
@click.option("--shard-size", show_default="500MB", type=FileSize(), help="About, with --output.")
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
def prepare(**options: Any) -> None:
    """Prepare DIR in the cache of `datasets`, or as a repository for the Hub.

    Without --output, load_dataset and imagenet2012.load find what was prepared (with --split, only
    imagenet2012.load does). With --output, the folder gets shuffled Parquet shards that need
    nothing but `datasets`; started again after an interruption, it verifies what is there and goes
    on. With --size, larger images are resized (upright, RGB, JPEG); smaller ones keep their bytes.

    With --in-place and --output, the shards hold only where in the archives each image is: a folder
    of some 40 MB for every program that takes a dataset's folder, if this package is installed
    where it runs. With --portable, as always with --push, other machines read it too: from the
    archives in the folder that IMAGENET2012_DIR names there.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-parquet
      imagenet2012 prepare ~/imagenet --output ~/in256 --size 256 --push me/in256
      imagenet2012 prepare ~/imagenet --in-place --output ~/imagenet-index
    """
    run("prepare", options)


if __name__ == "__main__":
    main()

"""The page on what a full run costs shows what its script prints."""

from pathlib import Path

from conftest import ROOT, ended, start_python


def cells(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows if len(row) == 8 and row[0]}


def test_the_page_shows_the_simulation(tmp_path: Path) -> None:
    program = ROOT / "benchmarks" / "scale.py"
    done = ended(start_python(program, "--part", "500", cwd=tmp_path))
    printed = cells(done.stdout)
    shown = cells((ROOT / "docs" / "scale.md").read_text(encoding="utf-8"))
    assert len(printed) == 4, done.stderr
    for name, row in printed.items():
        for index, slack in ((0, 2.0), (1, 1.2)):  # of few classes, the start is a greater part
            measured, told = (float(one[index].replace(",", "")) for one in (row, shown[name]))
            assert told / slack <= measured <= told * slack, (name, index)

"""The long run of damaged archives: ``python scripts/fuzz_archives.py [COUNT] [FIRST_SEED]``.

Damages COUNT small archives, one for each seed, in every way that `tests/hostile.py` knows (now and
then several at once), reads each in one and in several regions, and compares with `tarfile`. Each
process may use 2 GiB of memory and 10 seconds for an archive. Prints what was tried and every seed
for which the reader was wrong.
"""

import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fakes  # noqa: E402
import hostile  # noqa: E402

BATCH = 500


def too_long(*_: object) -> None:
    """Turn an endless loop into an error."""
    raise TimeoutError("more than 10 seconds")


def attempt(seed: int, path: Path) -> tuple[str, list[str]]:
    """Damage and read one archive; return the ways of damage and the verdicts."""
    rnd = random.Random(seed)
    data = fakes.tar(hostile.archive(rnd.randint(1, 12), seed, 1500), blocking=512)
    kind, damaged = hostile.mutate(data, rnd)
    if rnd.random() < 0.2 and hostile.judge(damaged):
        second, damaged = hostile.mutate(damaged, rnd)
        kind = f"{kind}, {second}"
    signal.alarm(10)
    verdicts = [
        hostile.verdict(path, damaged, k) for k in (1, rnd.randint(2, 9), rnd.choice([64, 200]))
    ]
    signal.alarm(0)
    return kind, verdicts


def run(first: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Try a batch of seeds; return kinds of damage, verdicts and failures."""
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    signal.signal(signal.SIGALRM, too_long)
    kinds, verdicts, failures = Counter[str](), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + BATCH):
            kind, outcomes = attempt(seed, Path(folder) / "ILSVRC2012_img_val.tar")
            kinds[kind if "," not in kind else "two at once"] += 1
            verdicts.update(v if v in ("right", "refused") else "wrong" for v in outcomes)
            wrong = [v for v in outcomes if v not in ("right", "refused")]
            failures += [f"seed {seed}, {kind}: {v}" for v in wrong]
    return kinds, verdicts, failures


def main() -> None:
    """Run all batches on all cores, and print the sums."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    start = time.time()
    kinds, verdicts, failures = Counter[str](), Counter[str](), list[str]()
    with Pool() as pool:
        for some in pool.imap_unordered(run, range(first, first + count, BATCH)):
            kinds += some[0]
            verdicts += some[1]
            failures += some[2]
            print(*some[2], sep="\n", end="\n" if some[2] else "", flush=True)
    seconds = f"{time.time() - start:,.0f} s"
    print(f"{sum(kinds.values()):,} archives in {seconds}, {len(failures)} failures")
    for title, counts in (("damage", kinds), ("verdicts of readings", verdicts)):
        print(f"{title}: " + ", ".join(f"{name} {n:,}" for name, n in counts.most_common()))
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()

"""Damaged and hostile inputs: `make fuzz`, `make fuzz KINDS="yaml json" COUNT=500 SEED=7`.

Every input is accepted, quarantined or refused in one line; anything else is a fault, kept in build/fuzz with its
number.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.fuzz.trying import FAULTS, OUTCOMES, Outcome, outcomes

COUNTS = {"audio": 10_000, "corpus": 300, "yaml": 800, "tables": 600, "json": 400, "parquet": 200, "shards": 500}
COUNTS |= {"names": 500}
OUT = Path("build/fuzz")


@click.command(help=__doc__)
@click.argument("kinds", nargs=-1, type=click.Choice(list(COUNTS)))
@click.option("--count", type=int, help="Inputs of each kind.")
@click.option("--seed", default=0, show_default=True, help="Of all that is drawn.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes at once.")
def main(kinds: tuple[str, ...], count: int | None, seed: int, jobs: int) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    click.echo(f"{'kind':<10}{'inputs':>8}" + "".join(f"{what:>11}" for what in OUTCOMES) + f"{'MB':>7}{'s':>6}")
    faults = 0
    for kind in kinds or COUNTS:
        started = time.monotonic()
        found = fuzz(kind, seed, count or COUNTS[kind], jobs)
        counted = Counter(outcome.what for outcome in found)
        row = "".join(f"{counted[what]:>11}" for what in OUTCOMES)
        peak = max(outcome.megabytes for outcome in found)
        click.echo(f"{kind:<10}{len(found):>8}{row}{peak:>7}{time.monotonic() - started:>6.0f}")
        wrong = [outcome for outcome in found if outcome.what in FAULTS]
        faults += len(wrong)
        text = "".join(f"{kind} {one.number} of seed {seed}: {one.what}\n{one.why}\n\n" for one in wrong)
        (OUT / f"{kind}.txt").write_text(text)
        reasons = Counter(
            outcome.why.split(" (")[0].split(":")[-1][:70] for outcome in found if outcome.what == "refused"
        )
        (OUT / f"{kind}-refused.txt").write_text("".join(f"{n:>6} {why}\n" for why, n in reasons.most_common()))
    sys.exit(1 if faults else 0)


def fuzz(kind: str, seed: int, count: int, jobs: int) -> list[Outcome]:
    """Try so many inputs of a kind, shared between processes."""
    size = -(-count // jobs)
    parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        places = [Path(folder, str(part.start)) for part in parts]
        done = pool.map(lambda part, place: list(outcomes(kind, seed, part, place)), parts, places)
        return [outcome for part in done for outcome in part]


if __name__ == "__main__":
    main()

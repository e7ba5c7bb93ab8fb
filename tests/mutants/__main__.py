"""Which changes of the source no test notices: `make mutants`, `make mutants PATHS=models/losses.py SAMPLE=200`.

What was tried before is not tried again, unless the source or its tests have changed.
"""

import json
import math
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import click

from tests.mutants.drawing import Mutant, mutants_of
from tests.mutants.trying import (
    KILLED,
    NO_TEST,
    SURVIVED,
    TIMED_OUT,
    Trial,
    finished,
    key_of,
    load_libraries,
    nearest_tests,
)

FOLDERS = ("models", "orchestrator/stages", "orchestrator/storage", "orchestrator/export")
OUT = Path("build/mutants")
LEDGER, SURVIVORS = OUT / "tried.jsonl", OUT / "survivors.diff"
OUTCOMES = (KILLED, SURVIVED, TIMED_OUT, NO_TEST)
SLOWER = 10.0  # times as long as the tests take without a mutant, and that many seconds: then it hangs
AT_LEAST = 30.0


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--sample", type=int, help="Try that many, drawn at random.")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many at once.")
def main(paths: tuple[Path, ...], sample: int | None, seed: int, jobs: int) -> None:
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(OUT / "hypothesis")  # what fails here is no example for others
    OUT.mkdir(parents=True, exist_ok=True)
    files = [file for path in paths or map(Path, FOLDERS) for file in (path.rglob("*.py") if path.is_dir() else [path])]
    chosen = [mutant for file in sorted(set(files)) for mutant in mutants_of(file)]
    total = len(chosen)
    if sample is not None and sample < total:
        chosen = random.Random(seed).sample(chosen, sample)
        chosen.sort(key=lambda mutant: (mutant.file, mutant.line))
    tests = {mutant.file: nearest_tests(mutant.file) for mutant in chosen}
    click.echo(f"{len(chosen)} of {total} mutants of {len(tests)} files")
    tried = try_all(chosen, tests, jobs)
    report(chosen, tried, len(chosen) < total)


def try_all(chosen: list[Mutant], tests: dict[Path, list[Path]], jobs: int) -> list[str]:
    """How each mutant fares, from the ledger where it is written there."""
    keys = [key_of(mutant, tests[mutant.file]) for mutant in chosen]
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    known: dict[str, str] = {entry["key"]: entry["outcome"] for entry in map(json.loads, lines)}
    waiting = [(key, mutant) for key, mutant in zip(keys, chosen, strict=True) if key not in known]
    waiting.reverse()
    load_libraries([test for mutant in chosen for test in tests[mutant.file]])
    limits: dict[Path, float] = {}
    running: list[Trial] = []
    names: dict[int, str] = {}
    started, count = time.monotonic(), len(waiting)
    with LEDGER.open("a") as ledger:
        while waiting or running:
            while waiting and len(running) < jobs:
                key, mutant = waiting.pop()
                if mutant.file not in limits:
                    limits[mutant.file] = limit_of(tests[mutant.file])
                trial = Trial(tests[mutant.file], mutant, limits[mutant.file])
                names[trial.process] = key
                running.append(trial)
            for trial, outcome in finished(running):
                assert trial.mutant is not None
                known[names[trial.process]] = outcome
                where = f"{trial.mutant.file}:{trial.mutant.line}"
                entry = {"key": names[trial.process], "outcome": outcome, "where": where, "seconds": trial.seconds}
                ledger.write(json.dumps(entry) + "\n")
                ledger.flush()
                if sys.stderr.isatty():
                    done = count - len(waiting) - len(running)
                    left = (time.monotonic() - started) / done * (count - done)
                    click.echo(f"\r{done} of {count}, {left / 60:.0f} min left ", err=True, nl=False)
            time.sleep(0.02)
    return [known[key] for key in keys]


def limit_of(tests: list[Path]) -> float:
    """Seconds until a mutant hangs. Stops where the tests fail by themselves."""
    trial = Trial(tests, None, math.inf)
    while (outcome := trial.outcome()) is None:
        time.sleep(0.02)
    if outcome == KILLED:
        sys.exit(f"these fail without a mutant: {' '.join(map(str, tests))}")
    return SLOWER * trial.seconds + AT_LEAST


def report(chosen: list[Mutant], tried: list[str], is_sample: bool) -> None:
    folders: dict[str, Counter[str]] = {}
    for mutant, outcome in zip(chosen, tried, strict=True):
        for folder in (str(mutant.file.parent), "all"):
            folders.setdefault(folder, Counter())[outcome] += 1
    width = max(map(len, folders))
    click.echo("  ".join(["folder".ljust(width), *OUTCOMES, "noticed"]))
    for folder, counts in sorted(folders.items(), key=lambda item: (item[0] == "all", item[0])):
        cells = [str(counts[outcome]).rjust(len(outcome)) for outcome in OUTCOMES]
        click.echo("  ".join([folder.ljust(width), *cells, noticed(counts, is_sample)]))
    left = [mutant for mutant, outcome in zip(chosen, tried, strict=True) if outcome in (SURVIVED, NO_TEST)]
    SURVIVORS.write_text("\n".join(mutant.diff for mutant in left))
    click.echo(f"{len(left)} are in {SURVIVORS}")


def noticed(counts: Counter[str], is_sample: bool) -> str:
    """The share that was killed or hung, of a sample with its 95 % interval (Wilson 1927)."""
    total, hits, z = counts.total(), counts[KILLED] + counts[TIMED_OUT], 1.96
    share = hits / total
    if not is_sample:
        return f"{share:.1%}"
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return f"{share:.1%} ({middle - half:.1%} to {middle + half:.1%})"


if __name__ == "__main__":
    main()

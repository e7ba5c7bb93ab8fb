"""Table 1: the systems of a set of experiments, class by class, beside the paper's."""

from pathlib import Path

from orchestrator.report import paper
from orchestrator.report.build import environment, policy
from orchestrator.report.schema import Systems
from orchestrator.storage.runs import REPORT, RESULTS


def write_table(folder: Path) -> Path:
    """Write FOLDER/report/index.html and FOLDER/table1.csv from its results.json; return the page's path."""
    results = Systems.read(folder / RESULTS)
    rows = table_one(results)
    template = environment(autoescape=True).get_template("systems.html.j2")
    page = template.render(results=results, rows=rows, paper_size=paper.SIZE, policy=policy())
    path = folder / REPORT
    path.parent.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")
    columns = [f"{whose} {label}" for label in results.systems for whose in ("ours", "paper")]
    lines = [",".join(["class", *columns])]
    for scene, pairs in rows:
        cells = ["" if value is None else f"{value:.4f}" for pair in pairs for value in pair]
        lines.append(",".join([scene, *cells]))
    (folder / "table1.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def table_one(results: Systems) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """(class, (ours, the paper's) for each system), the average last; None where there is no such number."""
    has_paper = set(results.scenes) == set(paper.ACCURACIES)
    rows = []
    for scene in results.scenes:
        pairs = []
        for label, system in results.systems.items():
            part = system.tflite.per_class.get(scene)
            theirs = paper.accuracy(label, scene) if has_paper and label in paper.AVERAGES else None
            pairs.append((part.accuracy if part else None, theirs))
        rows.append((scene, pairs))
    averages: list[tuple[float | None, float | None]] = [
        (system.tflite.accuracy, paper.AVERAGES.get(label) if has_paper else None)
        for label, system in results.systems.items()
    ]
    return [*rows, ("Avg accuracy", averages)]

"""The summary that stands at the end of a run in the terminal."""

from orchestrator.config.experiment import Experiment
from orchestrator.monitor.view import View, duration
from orchestrator.report.advice import TITLE, advice
from orchestrator.report.formats import in_words, with_interval
from orchestrator.report.schema import TFLITE, TORCH, Results


def summarise(config: Experiment, results: Results, view: View) -> None:
    """Show what a run has come to, and what to look at next."""
    models = results.models
    view.line("")
    if models is None:
        view.line(f"Trained on everything, no clip is left to measure on; {results.refit_of} shows what to expect.")
    else:
        view.line(f"{'on the test split':<22}{'accuracy':>9}{'log loss':>10}")
        name = "distilled" if results.distilled else "student"
        rows = {f"{name}, TFLite file": models.student[TFLITE], f"{name}, torch": models.student[TORCH]}
        rows |= {"plain student": models.plain} if models.plain else {}
        rows |= {"ensemble": models.ensemble} if models.ensemble else {}
        rows |= {f"teacher {teacher}": row for teacher, row in models.teachers.items()}
        for label, row in rows.items():
            view.line(f"{label:<22}{row.accuracy:>9.3f}{row.log_loss:>10.3f}")
        compared = models.distilled_minus_plain
        if compared:
            seeds = f"{compared.seeds} seed" + "s" * (compared.seeds > 1)
            view.line(f"distilled minus plain, 95 % interval over {compared.locations} locations and {seeds}:")
            accuracy, log_loss = compared.accuracy, compared.log_loss
            view.line(f"  accuracy, points  {with_interval(accuracy, 'accuracy'):<24}{in_words(accuracy)}")
            view.line(f"  log loss          {with_interval(log_loss, 'log_loss'):<24}{in_words(log_loss)}")
    cost = results.complexity
    size = cost.file_bytes[TFLITE]
    view.line(
        f"{cost.parameters:,} parameters, {cost.bytes:,} bytes by the challenge's rule, "
        f"{size:,} bytes on disk; {duration(sum(results.seconds.values()))} in all"
    )
    limit = config.limits.bytes
    if limit is not None and size > limit:
        view.line(f"The file is larger than {limit:,} bytes on disk, its graph included: lower student.model's widths.")
    if results.corpus.generated:
        view.line("The corpus is generated: these accuracies mean nothing outside it.")
    space = config.search.model_dump(mode="json")["space"] if config.search else {}
    if lines := advice(results, space):
        view.line(f"\n{TITLE}:")
        for line in lines:
            view.line(f"  - {line}")

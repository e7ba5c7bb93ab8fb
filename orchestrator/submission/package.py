"""The package: both files for one system, made from a finished run and checked against the challenge's rules."""

from collections.abc import Callable
from pathlib import Path

from features.audio import BadAudio
from features.files import replacing
from features.taxonomy import TAU_GROUPS
from models.specs import LARGEST
from orchestrator.config.reading import read_yaml
from orchestrator.errors import UserError
from orchestrator.export.predict import Predictor
from orchestrator.export.tflite import weights_in
from orchestrator.monitor.view import View
from orchestrator.report.schema import Report, Results
from orchestrator.stages.final_actor import TFLITE
from orchestrator.storage.runs import CONFIG, MODELS, RESULTS
from orchestrator.submission.meta import build_meta, check_meta, write_meta
from orchestrator.submission.output import check_output, evaluation_files, write_output

SCENES = sorted(scene for scenes in TAU_GROUPS.values() for scene in scenes)
DEVICES = ["a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"]


def make(run: Path, evaluation: Path, facts: Path, output: Path, view: View) -> Path:
    """Run the exported file over the evaluation set and write the package; return its folder.

    Raises UserError where the run's scenes are not the challenge's, a recording cannot be used, or a rule is broken.
    """
    about = read_yaml(facts)
    if not isinstance(about, dict):
        raise UserError(f"{facts} is not a mapping; see docs/submission.md")
    results = Results.read(run / RESULTS)
    predictor = Predictor(run / MODELS / TFLITE)
    if sorted(predictor.scenes) != SCENES:
        wrong = min(set(predictor.scenes) ^ set(SCENES))
        raise UserError(f"the run's scenes are not those of the challenge; '{wrong}' is in one of them alone")
    file = run / MODELS / TFLITE
    meta = build_meta(about, results, read_yaml(run / CONFIG), development_of(run), list(weights_in(file)))
    if predictor.responses:
        view.line("The evaluation set does not name its recorders: spectrum correction is left out there.")
    order = [predictor.scenes.index(scene) for scene in SCENES]
    files, rows = evaluation_files(evaluation), {}
    with view.stage("submission") as bar:
        for done, name in enumerate(files, 1):
            try:
                scene = predictor.predict(evaluation / name).scene
            except BadAudio as error:
                raise UserError(f"{evaluation / name}: {error}; every file of the evaluation set needs a row") from None
            rows[name] = scene[order].tolist()
            bar.update(done, len(files), f"{done} of {len(files)} files")
    label = meta.submission.label
    folder = output / label
    with replacing(folder / f"{label}.output.csv") as temporary:
        write_output(temporary, rows, SCENES)
    with replacing(folder / f"{label}.meta.yaml") as temporary:
        write_meta(temporary, meta)
    problems = check_package(folder, files)
    if problems:
        raise UserError(f"{folder} breaks a rule: {problems[0]}")
    return folder


def development_of(run: Path) -> Report:
    """The report on the test split of the run's file, or where that was trained on too, of the run it is a refit of."""
    results = Results.read(run / RESULTS)
    if results.product is None:
        assert results.refit_of is not None, "only a refit is trained on everything"
        base = run.resolve().parent / results.refit_of / RESULTS
        if not base.is_file():
            raise UserError(f"{run} was trained on everything; {base}, with what was measured before, is not there")
        results = Results.read(base)
        assert results.product is not None, "a run is a refit of one that was measured"
    return results.product


def check(folder: Path, evaluation: Path, echo: Callable[[str], None]) -> int:
    """Print what is wrong with a package; returns the exit code, 2 if anything is."""
    problems = check_package(folder, evaluation_files(evaluation))
    for problem in problems:
        echo(problem)
    if not problems:
        echo(f"{folder.name}: nothing is wrong")
    return 2 if problems else 0


def check_package(folder: Path, files: list[str]) -> list[str]:
    """Every violation of the challenge's rules in a package, one line each."""
    label = folder.name
    problems = []
    for suffix in ("output.csv", "meta.yaml"):
        if not (folder / f"{label}.{suffix}").is_file():
            problems.append(f"{folder} has no {label}.{suffix}")
    if problems:
        return problems
    problems += check_output(folder / f"{label}.output.csv", files, SCENES)
    problems += check_meta(folder / f"{label}.meta.yaml", SCENES, DEVICES, LARGEST)
    return problems

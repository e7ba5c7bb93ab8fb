"""The corpus of an experiment: its table of clips, checked, and the generated corpus where there is to be one."""

from collections.abc import Iterable
from dataclasses import replace

from features.corpus import SPLITS, TRAIN, VALIDATION, Clip, CorpusError, is_located, leak_check
from features.cuts import cut_folds, cut_validation
from features.generated import generated_from, make_corpus, provenance
from features.settings import BY_RESPONSE
from features.spectrum import parallel_recordings
from models.seeding import derive
from orchestrator.config.corpus import LAYOUTS
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.context import Context
from orchestrator.stages.layouts import Layout

LEFT_OUT = "left out"  # a split that nothing is trained or judged on


def layout_of(config: Experiment) -> Layout:
    """The reader that corpus.layout names."""
    return LAYOUTS.implementation(config.corpus.layout)(config.corpus.layout)


def left_out(config: Experiment) -> list[str]:
    """What is in the corpus' folder and is not read, a line each kind."""
    return layout_of(config).left_out(config.corpus.root, config.corpus.taxonomy)


def unchecked(config: Experiment, clips: Iterable[Clip]) -> str | None:
    """Where it could not be checked that splits share no location: that, and what would make it possible."""
    used = [clip for clip in clips if clip.split in SPLITS]
    located = sum(map(is_located, used))
    hint = getattr(layout_of(config), "locations", "a location for each clip")  # of a user's own layout
    return None if located == len(used) else f"{leak_check(located, len(used))}; {hint} would tell"


def read_tables(config: Experiment) -> dict[str, list[Clip]]:
    """The table of clips by cut, each with a validation split; a refit trains on that, too. Raises CorpusError."""
    corpus, seed = config.corpus, derive(config.seed, "validation")
    clips = layout_of(config).read(corpus.root, corpus.taxonomy)
    own = cut_validation(clips, corpus.validation_fraction, seed)
    tables = {"": [replace(clip, split=TRAIN) if clip.split in corpus.fit_on else clip for clip in own]}
    folds = [cut for cut in config.search_cuts if cut]
    return tables | (dict(zip(folds, cut_folds(clips, len(folds), seed), strict=True)) if folds else {})


def tables_of(config: Experiment) -> dict[str, list[Clip]]:
    """The table of clips by cut: the run's own, which has no name, and the search's folds.

    Training clips of devices that are kept for validation are left out; a refit that trains on validation, too, trains
    on all devices: nothing is left to select. Raises CorpusError.
    """
    tables = read_tables(config)
    if VALIDATION in config.corpus.fit_on:
        return tables
    require_devices(config, tables[""])
    left_out = config.validation.leave_out_devices
    return {
        cut: [
            replace(clip, split=LEFT_OUT) if clip.split == TRAIN and clip.device in left_out else clip for clip in clips
        ]
        for cut, clips in tables.items()
    }


def require_devices(config: Experiment, clips: list[Clip]) -> None:
    """Raise CorpusError where the corpus has not the devices that validation's settings name, or need."""
    left_out = set(config.validation.leave_out_devices)
    known = {clip.device for clip in clips if clip.split == TRAIN}
    for device in sorted(left_out - known):
        names = ", ".join(sorted(known - {""})) or "no devices: set it to []"
        raise CorpusError(f"validation.leave_out_devices: no training clip is of '{device}'; the corpus has {names}")
    if known <= left_out:
        raise CorpusError("validation.leave_out_devices leaves no training clip")
    if config.validation.mean_over == "devices" and not any(clip.device for clip in clips if clip.split == VALIDATION):
        raise CorpusError("validation.mean_over is devices, but the corpus names none: set it to clips")


def check(config: Experiment) -> list[Clip]:
    """The table of clips, if nothing is wrong with the corpus; before a cluster is started. Raises CorpusError."""
    tables = tables_of(config)
    clips = tables[""]
    for cut, table in tables.items():
        require_scenes(config, table, cut)
    if needs_responses(config):
        parallel_recordings(clips, config.spectrum.reference)
    return clips


def require_scenes(config: Experiment, clips: list[Clip], cut: str) -> None:
    """Raise CorpusError where a scene has no clip to train on, or to be judged on."""
    judged = [name for name in (TRAIN, VALIDATION) if name == TRAIN or name not in config.corpus.fit_on]
    for split in judged:
        known = {clip.scene for clip in clips if clip.split == split}
        for scene in config.corpus.taxonomy.scenes:
            if scene not in known:
                raise CorpusError(f"the {split} split{f' of {cut}' if cut else ''} has no clip of scene '{scene}'")


def run_corpus(context: Context) -> None:
    """Make the generated corpus where the experiment has one. Raises UserError where the folder holds anything else."""
    corpus, seed = context.config.corpus, context.config.seed
    if corpus.generate is None:
        return
    if corpus.root.exists():
        if generated_from(corpus.root) != provenance(corpus.generate, seed):
            raise UserError(
                f"{corpus.root} is there and was not generated with these corpus.generate and seed: remove it, set "
                f"corpus.root to another folder, or corpus.generate to null to use it as it is"
            )
        context.view.reused("corpus", str(corpus.root))
        return
    with context.view.stage("corpus") as bar:
        count = make_corpus(corpus.root, corpus.generate, seed, bar.update)
        bar.about(f"{count} generated recordings in {corpus.root}")


def needs_responses(config: Experiment) -> bool:
    """Whether devices' responses are needed, hence parallel recordings."""
    return config.spectrum.correct or any(kind in BY_RESPONSE for kind in config.kinds_of_copies)

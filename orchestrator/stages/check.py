"""`stillhouse corpus check`: what a run would meet, without running."""

from collections import Counter
from collections.abc import Sequence

import torch

from features.audio import BadAudio, read
from features.corpus import SPLITS, Clip, require_distinct
from features.fingerprint import Codes, fingerprint, near_copies
from features.frontend import static_channel
from features.notes import in_short
from orchestrator.config.experiment import Experiment
from orchestrator.monitor.view import View
from orchestrator.stages import corpus
from orchestrator.stages.near_copies import warn_of


def check_corpus(config: Experiment, decode: bool, view: View) -> int:
    """Show the splits' sizes by scene; with `decode`, what is wrong with recordings. Returns the exit code.

    Raises CorpusError where a run would: also, with `decode`, where the same recording is in two splits.
    """
    clips = corpus.check(config)
    for line in corpus.left_out(config):
        view.line(line)
    counts = Counter((clip.scene, clip.split) for clip in clips)
    view.line(f"{'scene':<20}" + "".join(f"{split:>12}" for split in SPLITS))
    for scene in config.corpus.taxonomy.scenes:
        view.line(f"{scene:<20}" + "".join(f"{counts[scene, split]:>12}" for split in SPLITS))
    view.line(f"{'all':<20}" + "".join(f"{sum(clip.split == split for clip in clips):>12}" for split in SPLITS))
    unchecked = corpus.unchecked(config, clips)
    locations = "".join(f"{len({clip.location for clip in clips if clip.split == split}):>12}" for split in SPLITS)
    view.line(f"{'locations':<20}{locations}{'' if unchecked else '   none in two splits'}")
    if unchecked:
        view.line(unchecked)
    if decode:
        return check_recordings(config, clips, view)
    view.line("recordings were not read; --decode reads them, and compares their bytes across splits")
    return 0


def check_recordings(config: Experiment, clips: Sequence[Clip], view: View) -> int:
    """Decode every recording; show which cannot be used and what was done to others, gathered by the reason."""
    refused, notes = dict[str, str](), dict[str, str]()
    digests, prints = dict[str, str](), dict[str, Codes]()
    torch.set_num_threads(1)  # as where features are computed: a clip is too short for more
    with view.stage("decode") as bar:
        for done, clip in enumerate(clips):
            bar.update(done, len(clips), f"{done} of {len(clips)} recordings")
            try:
                recording = read(
                    config.corpus.root / clip.path, config.features.sample_rate, config.features.clip_seconds
                )
            except BadAudio as error:
                refused[clip.path] = str(error)
                continue
            digests[clip.path] = recording.digest
            static = static_channel(torch.from_numpy(recording.samples), config.features).half().numpy()
            prints[clip.path] = fingerprint(static)
            if recording.notes:
                notes[clip.path] = "; ".join(recording.notes)
        bar.about(f"{len(clips)} recordings, {len(refused)} of them cannot be used")
    for line in (*in_short(refused), *in_short(notes)):
        view.line(line)
    require_distinct(clips, digests)
    warn_of(near_copies(prints, clips), view.line)
    return 2 if refused else 0

"""`stillhouse corpus check`: what a run would meet, without running."""

from collections import Counter
from collections.abc import Callable

import torch

from features.audio import BadAudio, read
from features.corpus import SPLITS, require_distinct
from features.fingerprint import Codes, fingerprint, near_copies
from features.frontend import static_channel
from orchestrator.config.experiment import Experiment
from orchestrator.stages import corpus
from orchestrator.stages.near_copies import warn_of


def check_corpus(config: Experiment, decode: bool, echo: Callable[[str], None]) -> int:
    """Print the splits' sizes by scene; with `decode`, every file that cannot be used. Returns the exit code.

    Raises CorpusError where a run would: also, with `decode`, where the same recording is in two splits.
    """
    clips = corpus.check(config)
    for line in corpus.left_out(config):
        echo(line)
    counts = Counter((clip.scene, clip.split) for clip in clips)
    echo(f"{'scene':<20}" + "".join(f"{split:>12}" for split in SPLITS))
    for scene in config.corpus.taxonomy.scenes:
        echo(f"{scene:<20}" + "".join(f"{counts[scene, split]:>12}" for split in SPLITS))
    echo(f"{'all':<20}" + "".join(f"{sum(clip.split == split for clip in clips):>12}" for split in SPLITS))
    unchecked = corpus.unchecked(config, clips)
    locations = "".join(f"{len({clip.location for clip in clips if clip.split == split}):>12}" for split in SPLITS)
    echo(f"{'locations':<20}{locations}{'' if unchecked else '   none in two splits'}")
    if unchecked:
        echo(unchecked)
    if not decode:
        echo("recordings were not read; --decode reads them, and compares their bytes across splits")
    bad, digests, prints = 0, dict[str, str](), dict[str, Codes]()
    for clip in clips if decode else ():
        try:
            recording = read(config.corpus.root / clip.path, config.features.sample_rate, config.features.clip_seconds)
        except BadAudio as error:
            bad += 1
            echo(f"{clip.path}: {error}")
        else:
            digests[clip.path] = recording.digest
            static = static_channel(torch.from_numpy(recording.samples), config.features).half().numpy()
            prints[clip.path] = fingerprint(static)
            for note in recording.notes:
                echo(f"{clip.path}: {note}")
    require_distinct(clips, digests)
    warn_of(near_copies(prints, clips), echo)
    return 2 if bad else 0

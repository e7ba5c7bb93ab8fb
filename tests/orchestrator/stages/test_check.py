"""`stillhouse corpus check`: what it shows of a corpus, and how it exits."""

import io
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
import torch
from rich.console import Console

from orchestrator.config.experiment import Experiment
from orchestrator.monitor import view as view_module
from orchestrator.monitor.view import View
from orchestrator.stages.check import check_corpus
from orchestrator.stages.corpus import tables_of


def checked(config: Experiment, decode: bool) -> tuple[int, list[str]]:
    text = io.StringIO()
    code = check_corpus(config, decode, View(Console(file=text, width=400, soft_wrap=True)))
    return code, text.getvalue().splitlines()


def test_check_shows_how_far_it_is_and_what_was_done_to_recordings(small, monkeypatch):
    monkeypatch.setattr(view_module, "PLAIN_INTERVAL", -1.0)
    config = small("features.clip_seconds=0.5", "student.recipe.crop_frames=8")
    count = len(tables_of(config)[""])
    _, lines = checked(config, decode=True)
    shown = [line.partition("  ")[2].split("  ")[-1] for line in lines if line.startswith("  decode:")]
    assert shown == [f"{done} of {count} recordings" for done in range(count)]
    assert any(line.startswith(f"{count - 2} recordings: cut to ") for line in lines), lines[-5:]


def test_check_shows_what_is_not_read(small, corpus):
    (corpus / "audio" / "extra.m4a").touch()
    try:
        code, lines = checked(small(), decode=False)
    finally:
        (corpus / "audio" / "extra.m4a").unlink()
    assert code == 0 and lines[0] == "1 file in audio/ left out: meta.csv does not name them"
    assert lines[1].startswith("scene")


def test_check_shows_the_splits_and_what_cannot_be_used(small, corpus):
    config = small()
    code, lines = checked(config, decode=False)
    counts = Counter(clip.split for clip in tables_of(config)[""])
    assert code == 0 and lines[0].split() == ["scene", "train", "validation", "test"]
    assert lines[11].split() == ["all", *(str(counts[split]) for split in ("train", "validation", "test"))]
    by_scene = Counter((clip.scene, clip.split) for clip in tables_of(config)[""])
    for line, scene in zip(lines[1:11], config.corpus.taxonomy.scenes, strict=True):
        assert line.split() == [scene, *(str(by_scene[scene, split]) for split in ("train", "validation", "test"))]
    assert lines[12].split(maxsplit=4) == ["locations", "10", "10", "10", "none in two splits"]
    assert lines[13:] == ["recordings were not read; --decode reads them, and compares their bytes across splits"]
    code, lines = checked(config, decode=True)
    assert code == 2 and lines[13] == "> decode"
    assert lines[14].endswith(f"{counts.total()} recordings, 2 of them cannot be used")
    bad = [str(path.relative_to(corpus)) for path in sorted((corpus / "audio").glob("bus-*-a.wav"))[:2]]
    assert sorted(line.rpartition(": ")[2] for line in lines[15:]) == bad


def mended(corpus: Path, folder: Path) -> list[Path]:
    """A copy of the corpus in which every recording can be used; the ones that could not are noise there."""
    shutil.copytree(corpus, folder)
    files = sorted((folder / "audio").glob("bus-*-a.wav"))[:2]
    for number, file in enumerate(files):
        soundfile.write(file, np.random.default_rng(number).normal(0, 0.1, 44_100), 44_100)
    return files


def test_where_every_recording_can_be_used_check_says_so(small, corpus, tmp_path):
    mended(corpus, tmp_path / "own")
    torch.set_num_threads(2)
    code, lines = checked(small(f"corpus.root={tmp_path / 'own'}"), decode=True)
    assert code == 0 and torch.get_num_threads() == 1
    assert lines[-1].endswith(" recordings, 0 of them cannot be used")


def test_all_that_was_done_to_a_recording_is_in_one_line(small, corpus, tmp_path):
    file, _ = mended(corpus, tmp_path / "own")
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, (48_000, 2)), 48_000)
    _, lines = checked(small(f"corpus.root={tmp_path / 'own'}"), decode=True)
    path = file.relative_to(tmp_path / "own")
    assert lines[-1] == f"1 recording: mixed down from 2 channels; resampled from 48000 Hz: {path}"


def test_check_says_where_locations_could_not_be_compared(small, tmp_path):
    table = tmp_path / "table.csv"
    rows = [f"{clip.path},{clip.scene},{clip.split}" for clip in tables_of(small())[""]]
    table.write_text("\n".join(["path,scene,split", *rows]) + "\n")
    code, lines = checked(small(f"corpus.layout={{name: manifest, file: {table}}}"), decode=False)
    assert code == 0 and lines[12].split()[-1].isdigit()
    assert lines[13].startswith("whether splits share a recording location was NOT checked: the corpus names none")

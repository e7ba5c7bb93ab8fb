"""docs/recordings.md's way from ESC-50's archive to the preset's folders, executed as it stands."""

import re
from pathlib import Path

import pytest

from features.folders import Folders, read_folders
from orchestrator.config.corpus import FoldersSettings
from orchestrator.config.loading import load

PAGE = Path(__file__).parents[3] / "docs" / "recordings.md"


def test_the_snippet_arranges_esc_10_as_the_preset_reads_it(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scenes = {"dog", "rooster", "crying_baby", "sneezing", "rain", "sea_waves", "crackling_fire", "clock_tick"}
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    audio = tmp_path / "ESC-50-master" / "audio"
    audio.mkdir(parents=True)
    (tmp_path / "ESC-50-master" / "meta").mkdir()
    for target, scene in enumerate(sorted(scenes | {"helicopter", "chainsaw"})):
        for fold in (1, 2, 3, 4):
            name = f"{fold}-{100 * fold + target}-A-{target}.wav"
            rows.append(f"{name},{fold},{target},{scene},True,{100 * fold + target},A")
            (audio / name).touch()
    rows.append("1-9-A-49.wav,1,49,hand_saw,False,9,A")
    (tmp_path / "ESC-50-master" / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    config = load("esc10")
    layout = config.corpus.layout
    assert isinstance(layout, FoldersSettings)
    how = Folders(layout.matched, layout.splits)
    clips = read_folders(tmp_path / config.corpus.root, how, config.corpus.taxonomy)
    assert len(clips) == 30  # folds 1 to 3 of ten scenes
    assert {clip.split for clip in clips if clip.path.startswith("rain/3-")} == {"test"}
    assert {clip.scene for clip in clips} == set(config.corpus.taxonomy.scenes)

"""What the integration tests share: the command line as a person runs it, and an evaluation set to submit to."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml


def stillhouse(*words: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=1800, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def evaluation_set(home: Path, scene: str, label: str) -> list[str]:
    """Make HOME/evaluation in the layout of 2021 from the corpus's clips of a scene, and HOME/facts.yaml; the files."""
    root = home / "evaluation"
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    names = [f"audio/{number}.wav" for number in range(4)]
    for name, source in zip(names, sorted((home / "corpus" / "audio").glob(f"{scene}-*.wav")), strict=False):
        shutil.copy(source, root / name)
    (root / "evaluation_setup" / "fold1_test.csv").write_text("\n".join(["filename", *names]) + "\n")
    author = {"lastname": "Zhao", "firstname": "Na", "email": "na@example.org", "corresponding": True}
    author["affiliation"] = {"abbreviation": "M", "institute": "Maxvision", "location": "Wuhan"}
    about = {"label": label, "name": "Small", "abbreviation": "S", "authors": [author]}
    (home / "facts.yaml").write_text(yaml.safe_dump({"submission": about}))
    return names

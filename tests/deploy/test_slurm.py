"""The batch file of a Slurm job: what can be read of it. docs/cluster.md says on which Slurm it was executed."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "slurm" / "run.sbatch"


def test_bash_can_read_it():
    subprocess.run(["bash", "-n", FILE], check=True)


def test_a_stopped_run_has_as_long_as_a_stopped_job():
    from orchestrator.cluster.jobs import GRACE

    (saving,) = re.findall(r"^export SAVING=(\d+) ", FILE.read_text(), re.MULTILINE)
    assert int(saving) > GRACE


def test_the_page_submits_it_as_the_file_says():
    (command,) = re.findall(r"^#   (sbatch .*)$", FILE.read_text(), re.MULTILINE)
    assert f"    {command}\n" in (ROOT / "docs" / "cluster.md").read_text()

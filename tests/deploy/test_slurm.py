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

    saving, patience = (int(re.findall(rf"\b{name}=(\d+) ", FILE.read_text())[0]) for name in ("SAVING", "PATIENCE"))
    assert saving - 120 >= patience > GRACE  # Ray takes a minute to stop on several nodes


def test_the_page_submits_it_as_the_file_says():
    (command,) = re.findall(r"^#   (sbatch .*)$", FILE.read_text(), re.MULTILINE)
    assert f"    {command}\n" in (ROOT / "docs" / "cluster.md").read_text()

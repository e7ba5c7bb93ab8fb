"""Which instructions libraries take is set before they are imported, and travels to every process of a run."""

import os
import platform
import subprocess
import sys

import pytest

from orchestrator import arithmetic
from orchestrator.arithmetic import COMMON, chosen, use_common


@pytest.fixture
def bare(monkeypatch):
    for name in COMMON:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_on_a_cpu_of_this_kind_all_is_set_but_what_a_user_has_set(bare):
    bare.setattr(arithmetic.platform, "machine", lambda: "x86_64")
    bare.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    use_common()
    assert chosen() == {name: os.environ[name] for name in COMMON} == COMMON | {"ONEDNN_MAX_CPU_ISA": "ALL"}
    assert arithmetic.arithmetic() == "of the CPU"
    bare.delenv("ONEDNN_MAX_CPU_ISA")
    use_common()
    assert arithmetic.arithmetic() == "common"


def test_elsewhere_nothing_is(bare):
    bare.setattr(arithmetic.platform, "machine", lambda: "aarch64")
    use_common()
    assert (chosen(), arithmetic.arithmetic()) == ({}, "of the CPU")


LIBRARIES = """
import sys
from orchestrator.cli import main
main.cli.main = lambda **_: None
assert not {"numpy", "torch"} & set(sys.modules)
main.main()
import numpy, torch
features = numpy._core._multiarray_umath.__cpu_features__
print(torch.backends.cpu.get_cpu_capability(), [name for name in features if features[name] and "AVX512" in name])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines have other instructions")
@pytest.mark.usefixtures("bare")
def test_the_command_line_sets_it_before_libraries_look():
    done = subprocess.run([sys.executable, "-W", "error", "-c", LIBRARIES], capture_output=True, text=True, check=False)
    assert done.stdout == "AVX2 []\n", done.stderr

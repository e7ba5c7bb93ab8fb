"""Which instructions libraries take is set before they are imported, and travels to every process of a run."""

import os
import platform
import re
import subprocess
import sys

import pytest

from orchestrator import arithmetic
from orchestrator.arithmetic import COMMON, chosen, use_common


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No variable is set, on a CPU that has all that is needed."""
    for name in (*COMMON, "NPY_ENABLE_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(arithmetic.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(arithmetic, "CPU", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu sse2 avx avx2 fma\nflags\t: fpu\n")
    return monkeypatch


def test_all_is_set_but_what_a_user_has_set(bare):
    bare.setenv("ONEDNN_MAX_CPU_ISA", "DEFAULT")
    use_common()
    assert chosen() == {name: os.environ[name] for name in COMMON} == COMMON | {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}
    assert arithmetic.arithmetic() == "of the CPU"
    bare.delenv("ONEDNN_MAX_CPU_ISA")
    use_common()
    common = arithmetic.arithmetic()
    assert re.fullmatch("common [0-9a-f]{8}", common)
    bare.setitem(COMMON, "ONEDNN_MAX_CPU_ISA", "AVX")  # another choice is another arithmetic
    bare.setenv("ONEDNN_MAX_CPU_ISA", "AVX")
    assert arithmetic.arithmetic() not in (common, "of the CPU")


@pytest.mark.parametrize("where", ["another machine", "an older CPU", "no Linux", "features that a user has enabled"])
def test_elsewhere_nothing_is(bare, where):
    if where == "another machine":
        bare.setattr(arithmetic.platform, "machine", lambda: "aarch64")
    elif where == "an older CPU":
        arithmetic.CPU.write_text("flags : fpu sse2 avx fma\n")
    elif where == "no Linux":
        arithmetic.CPU.unlink()
    else:
        bare.setenv("NPY_ENABLE_CPU_FEATURES", "AVX2")
    use_common()
    assert (chosen(), arithmetic.arithmetic()) == ({}, "of the CPU")


LIBRARIES = """
import sys
from orchestrator.cli import main
main.cli.main = lambda **_: None
assert not {"numpy", "torch"} & set(sys.modules)
main.main()
import numpy, torch
from orchestrator.arithmetic import COMMON, chosen
features = numpy._core._multiarray_umath.__cpu_features__
wide = [name for name in features if features[name] and "AVX512" in name]
print(chosen() == COMMON, torch.backends.cpu.get_cpu_capability(), wide)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines have other instructions")
@pytest.mark.usefixtures("bare")  # else the process would inherit what these tests have set
def test_the_command_line_sets_it_before_libraries_look():
    done = subprocess.run([sys.executable, "-W", "error", "-c", LIBRARIES], capture_output=True, text=True, check=False)
    assert done.stdout == "True AVX2 []\n", done.stderr

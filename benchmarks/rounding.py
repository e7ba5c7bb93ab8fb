"""Whether another maker's CPU gives the same bits: digests of what a run computes, here and on emulated CPUs.

    python -m benchmarks rounding [CPU ...]       such as Haswell (Intel) or EPYC-Rome (AMD); both where none is given

Needs qemu-x86_64 (Debian: qemu-user-static), which computes as such a CPU does, about a hundred times as slowly. It has
no AVX-512. Each CPU computes twice: with the instructions that all CPUs have, as a run does, and with those that
libraries choose for it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.specs import Spec
from orchestrator.arithmetic import COMMON

CPUS = ("Haswell", "EPYC-Rome")
QEMU = ("qemu-x86_64", "qemu-x86_64-static")
COMPUTE = "import benchmarks.rounding as r; [print(name, digest, sep='|') for name, digest in r.parts().items()]"
CLIPS, BINS, FRAMES, SCENES, GROUPS = 24, 32, 60, 10, 3
MODES: dict[str, Mapping[str, str]] = {"common": COMMON, "of the CPU": {}}


def digest(*arrays: object) -> str:
    """Of the bytes of arrays, tensors and numbers."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.asarray(array).tobytes() if hasattr(array, "shape") else repr(array).encode())
    return found.hexdigest()[:12]


def parts() -> dict[str, str]:
    """What a run computes, on small random data: a digest of each."""
    import optuna
    import torch
    from optuna.distributions import BaseDistribution

    from features.frontend import static_channel
    from features.settings import FrontEnd
    from models.calibration import fit_temperature
    from models.specs import MobnetSpec, TwoPathSpec
    from orchestrator.config.search import GaussianProcessSettings, SobolSettings, TpeSettings
    from orchestrator.stages import samplers

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    draw = torch.Generator().manual_seed(0)
    waveforms = torch.randn(3, 44_100, generator=draw)
    values = torch.randn(64, 48, generator=draw)
    space: dict[str, BaseDistribution] = {
        "weight": optuna.distributions.FloatDistribution(0, 1),
        "temperature": optuna.distributions.FloatDistribution(0.5, 8, log=True),
    }
    points = torch.rand(20, 3, generator=draw).tolist()
    past = [
        optuna.trial.create_trial(params={"weight": a, "temperature": 0.5 + b}, distributions=space, value=c)
        for a, b, c in points
    ]
    return {
        "features, float32": digest(*(static_channel(waveform, FrontEnd()) for waveform in waveforms)),
        "features, as stored": digest(*(static_channel(waveform, FrontEnd()).half() for waveform in waveforms)),
        "matrix product": digest(values @ values.T),
        "exp, log": digest(values.exp(), values.abs().log()),
        "temperature": repr(fit_temperature(values[:, :SCENES], torch.arange(64) % SCENES)),
        "student, batches of 8": trained(MobnetSpec(), 8),
        "student, batches of 24": trained(MobnetSpec(), 24),
        "teacher, batches of 8": trained(TwoPathSpec(width=4), 8),
        "teacher, batches of 24": trained(TwoPathSpec(width=4), 24),
        "Sobol": digest(samplers.Sobol(SobolSettings()).propose(space, past, 5, 0)),
        "TPE": digest(samplers.Tpe(TpeSettings()).propose(space, past, 21, 0)),
        "Gaussian process": digest(samplers.GaussianProcess(GaussianProcessSettings()).propose(space, past, 21, 0)),
    }


def trained(spec: Spec, batch_size: int) -> str:
    """The weights of a model after two epochs of distillation."""
    import torch

    from features.settings import CHANNELS
    from models.batches import Clips
    from models.families import FAMILIES
    from models.fit import Fit
    from models.recipe import Recipe
    from models.seeding import seeded
    from models.static import Static
    from orchestrator.training.inputs import INPUT

    with seeded(0, "rounding"):
        model = FAMILIES.implementation(spec)(spec, channels=CHANNELS, scenes=SCENES, groups=GROUPS)
        static = Static.of(torch.rand(CLIPS, BINS, FRAMES).half())
        scene, group = (torch.eye(classes)[torch.randint(classes, (CLIPS,))] for classes in (SCENES, GROUPS))
        clips = Clips(static, scene, group, torch.randn(CLIPS, SCENES), torch.randn(CLIPS, GROUPS))
    recipe = Recipe(cycle_ends=(2,), batch_size=batch_size, crop_frames=40, soft_weight=0.5)
    for _ in Fit(model, clips, static, recipe, INPUT, seed=0):
        pass
    return digest(*model.state_dict().values())


def on(cpu: str | None, variables: Mapping[str, str]) -> dict[str, str]:
    """The digests of a process on an emulated CPU, or on this machine's own."""
    command = [sys.executable, "-c", COMPUTE]
    if cpu is not None:
        qemu = next((found for name in QEMU if (found := shutil.which(name))), None)
        if qemu is None:
            sys.exit("no qemu-x86_64 here: install qemu-user-static")
        command = [qemu, "-cpu", cpu, *command]
    bare = {name: value for name, value in os.environ.items() if name not in COMMON}
    done = subprocess.run(
        command, env=bare | dict(variables), cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{cpu or 'this machine'}: {done.stderr[-2000:]}")
    return dict(line.split("|") for line in done.stdout.splitlines())


def main(arguments: list[str]) -> None:
    cpus = [None, *(arguments or CPUS)]
    calls = [(mode, cpu) for mode in MODES for cpu in cpus]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(calls, pool.map(lambda call: on(call[1], MODES[call[0]]), calls), strict=True))
    for mode in MODES:
        print(f"instructions: {mode}")
        here = found[mode, None]
        for part, own in here.items():
            others = [f"{cpu} {'the same' if found[mode, cpu][part] == own else 'DIFFERS'}" for cpu in cpus if cpu]
            print(f"  {part:<24}{own:<22}{', '.join(others)}")

"""Trainings side by side, a process and a thread each, with the allocator's settings of a run."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from orchestrator.cluster.connection import MALLOC


def side_by_side[Key](function: Callable[..., Any], calls: Mapping[Key, tuple[Any, ...]]) -> dict[Key, Any]:
    """The results of `function` called with each of `calls`, as many at once as there are cores."""
    os.environ |= MALLOC | {"OMP_NUM_THREADS": "1"}
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {key: pool.submit(function, *arguments) for key, arguments in calls.items()}
        return {key: job.result() for key, job in jobs.items()}

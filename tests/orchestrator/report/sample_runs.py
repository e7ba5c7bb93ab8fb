"""A run's folder made up for the report's tests: 16 trials, TAU's scenes and devices, known numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.storage.files import write_json

SCENES = [
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
]
GROUPS = {
    "indoor": ["airport", "metro_station", "shopping_mall"],
    "outdoor": ["park", "public_square", "street_pedestrian", "street_traffic"],
    "transportation": ["bus", "metro", "tram"],
}
DEVICES = ["a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"]
CLIPS = 30  # of each scene in the test split
CYCLES = [2, 6, 14, 30]
FINAL_CYCLES = [2, 6, 14, 30, 62, 126]
BEST = "student-03"


def write_run(folder: Path, trials: list[dict[str, Any]] | None = None) -> Path:
    """Write a run's folder."""
    (folder / "models").mkdir(parents=True)
    rows = make_trials(16) if trials is None else trials
    write_json(folder / "results.json", make_results())
    pq.write_table(pa.Table.from_pylist(rows), folder / "trials.parquet")
    write_metrics(folder / "metrics.jsonl", rows)
    (folder / "config.yaml").write_text("name: tau-demo\nseed: 7\n# a <comment> & more\n")
    write_json(folder / "versions.json", {"python": "3.12.1", "torch": "2.11.0"})
    group_names = list(GROUPS)
    group_of = [next(i for i, name in enumerate(group_names) if scene in GROUPS[name]) for scene in SCENES]
    write_json(
        folder / "models" / "student.json",
        {
            "front_end": {
                "sample_rate": 44100,
                "clip_seconds": 10.0,
                "n_fft": 2048,
                "hop_length": 1024,
                "n_mels": 128,
                "scaling": "minmax",
            },
            "decision": "combined",
            "scenes": SCENES,
            "groups": group_names,
            "group_of_scene": group_of,
        },
    )
    return folder


def make_report(accuracy: float, seed: int) -> dict[str, Any]:
    """Metrics that agree with their confusion matrix; scenes differ by up to 20 points around `accuracy`."""
    generator = np.random.default_rng(seed)
    matrix = np.zeros((len(SCENES), len(SCENES)), int)
    for index in range(len(SCENES)):
        right = round(CLIPS * (accuracy + 0.2 * math.cos(2.1 * index)))
        weights = np.exp(-np.abs(np.arange(len(SCENES)) - index))
        weights[index] = 0
        matrix[index] = generator.multinomial(CLIPS - right, weights / weights.sum())
        matrix[index, index] = right
    shares = matrix.diagonal() / CLIPS
    part = {"log_loss": 2.4 - 2 * accuracy, "clips": CLIPS}
    return {
        "accuracy": float(shares.mean()),
        "log_loss": 2.4 - 2 * accuracy,
        "clips": CLIPS * len(SCENES),
        "per_class": {scene: {"accuracy": float(share), **part} for scene, share in zip(SCENES, shares, strict=True)},
        "per_device": {
            device: {"accuracy": accuracy + 0.08 - 0.02 * index, "log_loss": 1.1 + 0.05 * index, "clips": 33}
            for index, device in enumerate(DEVICES)
        },
        "confusion": matrix.tolist(),
    }


def make_results() -> dict[str, Any]:
    return {
        "schema": 2,
        "name": "tau-demo",
        "seed": 7,
        "decision": "combined",
        "select_by": "log_loss",
        "distilled": True,
        "label_temperatures": [1.0, 1.0],
        "refit_of": None,
        "finished": "2026-11-23T07:51:59+00:00",
        "corpus": {
            "root": "/data/TAU",
            "generated": False,
            "data_hash": "0123456789abcdef",
            "fit_on": ["train"],
            "clips": {"train": 11862, "validation": 2100, "test": CLIPS * len(SCENES)},
            "located": 11862 + 2100 + CLIPS * len(SCENES),
            "copies": [],
            "quarantine": {"audio/park-lyon-1-2-a.wav": "not a sound file", "audio/bus-x<y>.wav": "holds no samples"},
            "notes": {f"audio/tram-{i}.wav": "repeated from 400000 to 441000 samples" for i in range(12)}
            | {"audio/metro-1.wav": "mixed from 2 channels"},
            "near_copies": [
                {
                    "first": "audio/bus-1.wav",
                    "first_split": "train",
                    "second": "audio/bus-2.wav",
                    "second_split": "test",
                    "different": 0.12,
                }
            ],
        },
        "scenes": SCENES,
        "groups": GROUPS,
        "models": {
            "student": {
                "torch": make_report(0.58, 1),
                "onnx": make_report(0.58, 1),
                "tflite": make_report(0.57, 2),
            },
            "plain": make_report(0.54, 3),
            "ensemble": make_report(0.68, 4),
            "teachers": {"first": make_report(0.65, 5), "attention": make_report(0.66, 6)},
            "seeds": [
                {
                    "seed": seed,
                    "distilled": {"accuracy": 0.57 + 0.01 * seed, "log_loss": 1.2, "clips": CLIPS * len(SCENES)},
                    "plain": {"accuracy": 0.54, "log_loss": 1.35 - 0.01 * seed, "clips": CLIPS * len(SCENES)},
                }
                for seed in range(3)
            ],
            "distilled_minus_plain": {
                "accuracy": {"value": 0.042, "low": -0.003, "high": 0.081, "verdict": "no difference"},
                "log_loss": {"value": -0.15, "low": -0.22, "high": -0.07, "verdict": "better"},
                "seeds": 3,
                "locations": 84,
            },
        },
        "complexity": {
            "parameters": 59121,
            "non_zero": 59110,
            "bytes": 118220,
            "macs": 113_300_000,
            "peak_activations": 1_228_800,
            "file_bytes": {"onnx": 251392, "tflite": 148624},
            "input_shape": [3, 128, 423],
        },
        "export": {
            "largest_difference_from_torch": {
                "onnx": {"scene": 1.6e-7, "group": 2.7e-7},
                "tflite": {"scene": 2.02e-4, "group": 5.03e-4},
            },
            "seconds_per_clip": {"onnx": 0.00484, "tflite": 0.00392},
        },
        "averages": {
            name: {
                "kept": "weighted average",
                "weights": {"30": 0.8, "126": 0.9},
                "moving": False,
                "temperatures": [1.0, 1.0],
                "tried": {
                    "single, epoch 126": {"accuracy": 0.571, "log_loss": 1.193},
                    "plain average": {"accuracy": 0.579, "log_loss": 1.178},
                    "weighted average": {"accuracy": 0.583, "log_loss": 1.172},
                },
                "fp16": {"accuracy": 0.583, "log_loss": 1.173},
            }
            for name in ("distilled", "plain")
        },
        "best_trial": {
            "name": BEST,
            "settings": {"recipe.scene_weight": 0.81, "recipe.temperature": 3.4},
            "validation": {"accuracy": 0.561, "log_loss": 1.231},
        },
        "search": {
            "seeds": 3,
            "candidates": [
                candidate("student-01-default", 0.545, 1.262, None, 0.12, 0.0),
                candidate("student-02-plain", 0.521, 1.391, (0.129, 0.04, 0.21, "worse"), 0.0, 0.13),
                candidate(BEST, 0.561, 1.231, (-0.031, -0.055, -0.004, "better"), 0.88, 0.21),
            ],
            "objectives": ["log_loss"],
            "sizes": [],
        },
        "seconds": {"features": 312.4, "teachers": 20344.0, "labels": 41.0, "search": 9120.0, "final": 7411.7},
        "paths": {"tflite": "models/student.tflite", "onnx": "models/student.onnx", "report": "report/index.html"},
        "artifacts": {
            "search": "artifacts/search/09f1db39e251a01d",
            "teacher-first": "artifacts/teacher/1",
            "teacher-attention": "artifacts/teacher/2",
        },
    }


def candidate(
    trial: str, accuracy: float, log_loss: float, minus: tuple[float, float, float, str] | None, wins: float, far: float
) -> dict[str, Any]:
    """A candidate of the search as results.json has it; `minus` is the difference from the default."""
    value, low, high, verdict = minus or (0.0, 0.0, 0.0, "no difference")
    minus_default = {"value": value, "low": low, "high": high, "verdict": verdict}
    return {
        "trial": trial,
        "accuracy": accuracy,
        "log_loss": log_loss,
        "minus_default": minus_default,
        "wins": wins,
        "distance": far,
    }


def make_trials(count: int) -> list[dict[str, Any]]:
    """Trial 3 is the best; of each seven one fails, the others stop at a cycle end or finish."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        scene, soft, mix = (float(generator.uniform(low, 1)) for low in (0.5, 0.1, 0.1))
        temperature, rate = float(np.exp(generator.uniform(0, 2))), float(10 ** generator.uniform(-2.5, -0.7))
        epochs = CYCLES[-1] if index in (0, 3, 9, 12) else CYCLES[index % 3]
        loss = 1.1 + 0.6 * (1 - soft) + 1.2 / epochs + 0.1 * float(generator.normal())
        best, failed = index == min(3, count - 1), index % 7 == 5
        epochs = index % 2 if failed else epochs
        rows.append(
            {
                "trial": BEST if best else f"student-{index:02d}",
                "state": "failed" if failed else "finished" if epochs == CYCLES[-1] else "stopped",
                "epochs": epochs,
                "accuracy": math.nan if failed else 0.561 if best else 0.9 - 0.3 * loss,
                "log_loss": math.nan if failed else 1.231 if best else max(loss, 1.24),
                "seconds": 11.5 * epochs,
                "seed": 0,
                "wins": {0: 0.25, 3: 0.5, 9: 0.25}.get(index) if epochs == CYCLES[-1] else None,
                "failure": "the loss became NaN in epoch 1 <lr & T>" if failed else "",
                "recipe.scene_weight": scene,
                "recipe.soft_weight": soft,
                "recipe.temperature": temperature,
                "recipe.mixup_alpha": mix,
                "recipe.learning_rate": rate,
                "model.rows": "(32, 36, 40)" if index % 2 else "(24, 40, 48)",
            }
        )
    return rows


def write_metrics(path: Path, trials: list[dict[str, Any]]) -> None:
    """Noisy decays, in the format of the run's metrics.jsonl."""
    runs = [("teachers", f"teacher-{name}", FINAL_CYCLES, 126, 0.68) for name in ("first", "attention")]
    runs += [("search", row["trial"], CYCLES, row["epochs"], 0.57) for row in trials]
    runs += [("final", f"final-{name}", FINAL_CYCLES, 126, top) for name, top in (("distilled", 0.59), ("plain", 0.55))]
    generator = np.random.default_rng(5)
    lines = []
    for stage, name, cycles, epochs, top in runs:
        for epoch in range(1, epochs + 1):
            start = max((end for end in cycles if end < epoch), default=0)
            end = next(end for end in cycles if end >= epoch)
            rate = 1e-5 + 0.1 * (1 + math.cos(math.pi * (epoch - start - 0.5) / (end - start))) / 2
            reached = (1 - math.exp(-epoch / 18)) * (1 - 2 * rate)
            accuracy = 0.1 + (top - 0.1) * reached + 0.02 * float(generator.normal())
            broken = name.startswith("student-05")
            row = {
                "stage": stage,
                "trial": name,
                "epoch": epoch,
                "loss": math.nan if broken else 2.2 - 1.2 * reached + 0.03 * float(generator.normal()),
                "learning_rate": rate,
                "accuracy": accuracy,
                "log_loss": 2.35 - 1.9 * accuracy,
                "cycle_end": epoch in cycles,
                "clips_per_second": 850.0,
                "seconds": 11.5 * epoch,
            }
            lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))


def edit_results(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Let `change` alter what results.json holds."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    change(results)
    write_json(path, results)


def without_teachers(folder: Path) -> Path:
    """A run's folder as one without teachers, hence without soft labels, has it."""

    def change(results: dict[str, Any]) -> None:
        models, averages = results["models"], results["averages"]
        results["distilled"] = False
        models |= {"distilled_minus_plain": None, "seeds": [], "plain": None, "ensemble": None, "teachers": {}}
        averages["plain"], averages["distilled"] = averages["distilled"], None
        results["artifacts"] = {name: path for name, path in results["artifacts"].items() if "teacher" not in name}
        del results["seconds"]["teachers"], results["seconds"]["labels"]

    edit_results(folder, change)
    file = folder / "metrics.jsonl"
    kept = [line for line in file.read_text().splitlines(keepends=True) if json.loads(line)["stage"] != "teachers"]
    kept = [line for line in kept if json.loads(line)["trial"] != "final-distilled"]
    file.write_text("".join(kept))
    return folder


def without_groups(folder: Path) -> Path:
    """A run's folder as one whose scenes fall into no groups has it."""

    def change(results: dict[str, Any]) -> None:
        results |= {"decision": "scene", "groups": {}}
        for outputs in results["export"]["largest_difference_from_torch"].values():
            del outputs["group"]

    edit_results(folder, change)
    file = folder / "models" / "student.json"
    write_json(file, json.loads(file.read_text()) | {"decision": "scene", "groups": [], "group_of_scene": []})
    return folder

"""What can be said of the Dockerfile without an engine."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def copied() -> list[str]:
    return [line.split()[1] for line in LINES if line.startswith("COPY ")]


def test_it_copies_what_the_project_is_installed_from_and_nothing_else():
    top = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert sorted(copied()) == sorted([*top, "pyproject.toml", PROJECT["project"]["readme"]])


def test_the_build_sees_what_it_copies_and_nothing_else():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules == ["*", *(f"!{path}" for path in copied()), "**/__pycache__"]


def test_no_pin_is_repeated():
    packages = {re.split(r"[\[=<>~]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]}
    assert not packages & set(re.findall(r"[\w-]+", " ".join(line for line in LINES if line.startswith("RUN "))))


def test_python_is_the_projects_and_the_user_is_not_root():
    assert LINES[0] == f"FROM python:{(ROOT / '.python-version').read_text().strip()}-slim"
    assert [line for line in LINES if line.startswith("USER ")] == ["USER 1000"]
    assert LINES.index("USER 1000") > max(index for index, line in enumerate(LINES) if line.startswith("RUN "))

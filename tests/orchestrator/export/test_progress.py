"""How far `predict` is, as a terminal shows it."""

import re
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.export.predict import follow

PATHS = [Path(str(number)) for number in range(3)]


def test_without_a_terminal_nothing_is_shown(capsys):
    assert list(follow(PATHS)) == PATHS
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_terminal_shows_how_many_of_several_and_how_fast_until_the_last(capsys, monkeypatch, count):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("orchestrator.export.predict.Console", partial(Console, force_terminal=True, width=100))
    assert list(follow(PATHS[:count])) == PATHS[:count]
    out, err = capsys.readouterr()
    assert out == ""
    if count == 1:
        assert err == ""
    else:
        assert f"{count}/{count}" in err and re.search(r" \d+\.\d recordings/s ", err)
        assert err.endswith("\x1b[1A\x1b[2K")  # it goes when it is done

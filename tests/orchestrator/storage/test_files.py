"""Files of ours, one by one: what a disk refuses, and what there is where a file is not."""

import errno
import fcntl
import os
from typing import Any

import pytest
import torch

from features import caching
from orchestrator.errors import Unreadable
from orchestrator.storage import tensors
from orchestrator.storage.files import append_line, read_json, read_lines, write_json, write_lines
from orchestrator.storage.register import Register
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import SafetensorError, load_tensors, save_tensors


def test_json_is_indented_by_one_and_ends_with_a_line(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1], "b": None})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1\n ],\n "b": null\n}\n'
    assert read_json(tmp_path / "a.json") == {"a": [1], "b": None}


def test_escaped_characters_are_read_and_half_of_one_is_damage(tmp_path):
    (tmp_path / "a.json").write_text(r'{"scene": "\u00e4\ud83d\ude8b"}')
    assert read_json(tmp_path / "a.json") == {"scene": "\u00e4\U0001f68b"}
    (tmp_path / "a.json").write_text(r'{"scene": "\ud83d"}')
    with pytest.raises(Unreadable, match=r"a.json is damaged \(.*surrogates not allowed"):
        read_json(tmp_path / "a.json")


def test_lines_are_what_was_written_and_added_and_none_where_there_is_no_file(tmp_path):
    file = tmp_path / "rows.jsonl"
    assert read_lines(file) == []
    write_lines(file, [{"epoch": 1}, {"epoch": 2}])
    append_line(file, {"epoch": 3})
    assert file.read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'
    assert read_lines(file) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    file.write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(Unreadable, match="rows.jsonl is damaged"):
        read_lines(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("I/O error: No space left on device (os error 28)", errno.ENOSPC), ("(os error 5)", errno.EIO)],
)
def test_a_disk_that_takes_no_tensors_is_an_error_of_the_disk(tmp_path, monkeypatch, text, expected):
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError) as caught:
        save_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    assert (caught.value.errno, caught.value.strerror) == (expected, os.strerror(expected))
    assert caught.value.filename == str(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_library_stays_what_it_is(tmp_path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise SafetensorError("no such dtype")

    monkeypatch.setattr(tensors, "save_file", refuse)
    with pytest.raises(SafetensorError, match="no such dtype"):
        save_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})


def test_tensors_come_back_whatever_their_layout(tmp_path):
    value = torch.arange(6.0).reshape(2, 3).T
    save_tensors(tmp_path / "x.safetensors", {"x": value})
    assert torch.equal(load_tensors(tmp_path / "x.safetensors")["x"], value)


@pytest.mark.parametrize("number", caching.UNSUPPORTED)
def test_a_lease_is_written_where_the_file_system_has_no_locks(tmp_path, monkeypatch, number):
    def refuse(*_: Any) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lease = Register(Store(tmp_path), tmp_path / "work" / "lease.json")
    first = lease.write({"run": "a"}, None)
    assert lease.write({"run": "b"}, first) is not None and lease.read()[0] == {"run": "b"}


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    lease = Register(Store(tmp_path), tmp_path / "work" / "lease.json")
    first = lease.write({"run": "a"}, None)
    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="broken"):
        lease.write({"run": "b"}, first)
    assert lease.read()[0] == {"run": "a"}


def test_a_lease_is_readable_and_its_lock_is_a_hidden_file_at_the_top(tmp_path):
    lease = Register(Store(tmp_path), tmp_path / "work" / "lease.json")
    first = lease.write({"run": "a"}, None)
    assert lease.file.read_text() == '{\n "run": "a"\n}'
    assert lease.remove({"run": "a"}, first) and (tmp_path / ".lock").exists()
    assert lease.remove({}, None) and lease.read() == ({}, None)  # it is not there, as was read

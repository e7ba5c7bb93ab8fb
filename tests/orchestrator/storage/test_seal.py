"""An artifact whose files are not those that were published is made again."""

import errno
import json
import logging
from pathlib import Path

import pytest

from orchestrator.storage import seal
from orchestrator.storage.seal import damage_of, seal_of
from orchestrator.storage.store import STAGE, Store


def published(store: Store) -> Path:
    with store.publish("final", "abc") as folder:
        (folder / "student.tflite").write_bytes(b"weights" * 10)
        (folder / "trials" / "one").mkdir(parents=True)
        (folder / "trials" / "one" / "rows.jsonl").write_text("{}\n")
        (folder / ".nfs0001").write_bytes(b"x")  # of the file system's, which does not travel
        (folder / STAGE).write_text('{"seconds": 1}')
    finished = store.finished("final", "abc")
    assert finished is not None
    return finished


def test_stage_json_has_the_size_and_digest_of_every_file(store):
    about = json.loads((published(store) / STAGE).read_text())
    assert set(about) == {"seconds", "files", "seal"} and about["seconds"] == 1
    assert {name: size for name, (size, _) in about["files"].items()} == {
        "student.tflite": 70,
        "trials/one/rows.jsonl": 3,
    }


def test_another_machine_finds_it_whole_without_its_hidden_files(store, elsewhere):
    assert published(store).name == "abc"
    finished = elsewhere.finished("final", "abc")
    assert finished is not None and (finished / ".nfs0001").exists() is not store.is_remote


def test_the_order_of_values_does_not_matter_to_the_seal():
    assert seal_of({"b": 2, "a": 1}) == seal_of({"a": 1, "b": 2, "seal": "x"}) == "26c94e0c687a098c"


def test_a_number_of_stage_json_that_was_changed_is_damage(tmp_path):
    store = Store(tmp_path)
    file = published(store) / STAGE
    file.write_text(file.read_text().replace('"seconds": 1', '"seconds": 9'))
    assert damage_of(file.parent, STAGE) == "stage.json is not as it was written"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("student.tflite", b"", "student.tflite is not as it was written"),
        ("student.tflite", b"weights" * 9 + b"weightz", "student.tflite is not as it was written"),
        ("student.tflite", None, "student.tflite is missing"),
        ("trials/one/rows.jsonl", b"{", "trials/one/rows.jsonl is not as it was written"),
        (STAGE, b"", "stage.json is no JSON"),
        (STAGE, b"[]", "stage.json is no mapping"),
        (STAGE, b'{"files": []}', "stage.json has no list of files"),
        (STAGE, b'{"seconds": 1}', "stage.json has no list of files"),
        (STAGE, b'{"files": {}}', "stage.json is not as it was written"),
        (STAGE, b"[" * 100_000, "stage.json is no JSON"),
    ],
)
def test_a_damaged_artifact_is_not_finished_and_gone(store, name, content, reason):
    told: list[str] = []
    store.tell = told.append
    file = published(store) / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert damage_of(store.root / "artifacts/final/abc", STAGE) == reason
    if store.is_remote:  # the storage itself is whole: the mirror is put right
        assert store.finished("final", "abc") is not None and told == []
        if content is None:
            store.remote.delete([store.name(file)])
            file.unlink()
        else:
            store.remote.put({store.name(file): file_with(file, content)})
    assert store.finished("final", "abc") is None
    assert told == [f"  the artifact artifacts/final/abc is damaged and is made again: {reason}"]
    assert (
        not store.has(store.root / "artifacts/final/abc" / STAGE) and not (store.root / "artifacts/final/abc").exists()
    )
    assert published(store)


def file_with(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_an_error_of_the_disk_is_no_damage(tmp_path, monkeypatch):
    """Hours of training are not removed for too many open files."""
    store = Store(tmp_path)
    folder = published(store)

    def fail(file: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files", str(file))

    monkeypatch.setattr(seal, "digest_of", fail)
    with pytest.raises(OSError, match="Too many open files"):
        store.finished("final", "abc")
    assert (folder / "student.tflite").exists()


def test_an_artifact_that_another_run_removes_meanwhile_is_not_finished(tmp_path, monkeypatch):
    store = Store(tmp_path)
    published(store)
    monkeypatch.setattr(store, "pull", lambda folder: store.remove(folder))
    assert store.finished("final", "abc") is None


def test_a_file_that_goes_while_it_is_read_is_missing(tmp_path, monkeypatch):
    folder = published(Store(tmp_path))

    def gone(file: Path) -> str:
        raise FileNotFoundError(errno.ENOENT, "gone", str(file))

    monkeypatch.setattr(seal, "digest_of", gone)
    assert damage_of(folder, STAGE) == "student.tflite is missing"


def test_damage_is_told_to_the_log_where_there_is_no_terminal(tmp_path, caplog):
    store = Store(tmp_path)
    (published(store) / "student.tflite").unlink()
    assert store.finished("final", "abc") is None
    line = "  the artifact artifacts/final/abc is damaged and is made again: student.tflite is missing"
    assert caplog.record_tuples == [("stillhouse", logging.WARNING, line)]

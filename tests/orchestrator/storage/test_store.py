"""Results are published whole or not at all."""

import errno
import os
import pickle
import threading
import time
from pathlib import Path

import obstore
import pytest
import torch
from moto.s3.models import s3_backends
from obstore.exceptions import GenericError
from werkzeug.serving import WSGIRequestHandler

from models.fit import Snapshot
from orchestrator.errors import UserError
from orchestrator.storage.address import region_of, shared_credentials
from orchestrator.storage.files import read_json, read_lines, write_json
from orchestrator.storage.remote import LARGE, LARGE_ONES, hurried, patiently
from orchestrator.storage.store import STAGE, Store
from orchestrator.storage.tensors import (
    load_arrays,
    load_snapshot,
    load_tensors,
    load_training,
    save_snapshot,
    snapshots_in,
)


def test_an_artifact_appears_only_when_it_is_finished(store, elsewhere):
    with pytest.raises(RuntimeError), store.publish("teacher", "abc") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert store.finished("teacher", "abc") is elsewhere.finished("teacher", "abc") is None
    assert list((store.root / "artifacts" / "teacher").iterdir()) == []
    with store.publish("teacher", "abc") as folder:
        (folder / "trials").mkdir()
        (folder / "trials" / "whole").write_text("x")
        (folder / STAGE).write_text("{}")
        assert store.finished("teacher", "abc") is elsewhere.finished("teacher", "abc") is None
    for other in (store, elsewhere):
        finished = other.finished("teacher", "abc")
        assert finished is not None and (finished / "trials" / "whole").read_text() == "x"


def test_an_artifact_that_did_not_get_into_the_storage_whole_is_not_finished(store, elsewhere):
    with store.publish("labels", "abc") as folder:
        (folder / "labels").write_text("first")
        (folder / STAGE).write_text("{}")
    if store.is_remote:  # as after a kill between two objects
        store.remote.delete(["artifacts/labels/abc/stage.json"])
        assert store.finished("labels", "abc") is elsewhere.finished("labels", "abc") is None
        with store.publish("labels", "abc") as folder:
            (folder / "labels").write_text("second")
            (folder / STAGE).write_text("{}")
        finished = elsewhere.finished("labels", "abc")
        assert finished is not None and (finished / "labels").read_text() == "second"
        assert [path.name for path in (store.root / "artifacts" / "labels").iterdir()] == ["abc"]


def test_a_half_pulled_artifact_is_completed(store, elsewhere):
    with store.publish("labels", "abc") as folder:
        (folder / "labels").write_text("all")
        (folder / STAGE).write_text("{}")
    finished = elsewhere.finished("labels", "abc")
    assert finished is not None
    if store.is_remote:  # a kill between two objects
        (finished / "labels").unlink()
        assert elsewhere.finished("labels", "abc") == finished
    assert (finished / "labels").read_text() == "all"


def test_what_another_run_has_published_meanwhile_stays(store):
    with store.publish("labels", "abc") as ours:
        (ours / STAGE).write_text('{"of": "us"}')
        with store.publish("labels", "abc") as theirs:
            (theirs / STAGE).write_text('{"of": "them"}')
    finished = store.finished("labels", "abc")
    assert finished is not None and read_json(finished / STAGE)["of"] == "them"


def test_a_mirror_forgets_what_the_storage_has_not(store, elsewhere):
    file = store.root / "work" / "a" / "latest"
    file.parent.mkdir(parents=True)
    file.write_text("old")
    store.push(file)
    elsewhere.pull(elsewhere.root / "work")
    store.remove(file)
    elsewhere.pull(elsewhere.root / "work", exactly=True)
    assert not (elsewhere.root / "work" / "a" / "latest").exists()


def test_what_one_machine_pushes_another_pulls_and_removes(store, elsewhere):
    file, theirs = store.root / "work" / "a" / "rows", elsewhere.root / "work" / "a" / "rows"
    file.parent.mkdir(parents=True)
    for text in ("one", "two lines"):
        file.write_text(text)
        store.push(file.parent)
        elsewhere.pull(elsewhere.root / "work")
        assert theirs.read_text() == text
    assert elsewhere.has(theirs) and elsewhere.name(theirs) == "work/a/rows"
    if store.is_remote:
        theirs.unlink()
        elsewhere.pull(elsewhere.root)
        assert theirs.exists()
    elsewhere.remove(theirs.parent)
    assert not store.has(file) and not theirs.exists()


def test_a_store_travels_to_workers(store):
    store.check_writable()
    copy = pickle.loads(pickle.dumps(store))
    copy.check_writable()
    assert (copy.uri, copy.root) == (store.uri, store.root)
    store.tell = lambda line: None  # of a terminal, which stays where it is
    assert "tell" not in vars(pickle.loads(pickle.dumps(store)))


def test_damaged_weights_are_one_line_with_their_name(tmp_path):
    path = tmp_path / "labels.safetensors"
    path.write_bytes(b"")
    for read in (load_tensors, load_arrays):
        with pytest.raises(
            UserError, match=f"^{path} is damaged .*; give the same `stillhouse run` again, which makes it anew$"
        ):
            read(path)


def test_a_storage_out_of_reach_is_waited_for(monkeypatch):
    tries = []

    def action() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(5, "connection refused")
        return "done"

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert patiently(action, "writing x") == "done"
    tries.clear()
    with hurried(), pytest.raises(OSError, match="connection refused"):
        patiently(action, "writing x")
    assert len(tries) == 1


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOSPC])
def test_what_this_machines_disk_refuses_is_not_tried_again(number):
    tries: list[int] = []

    def action() -> None:
        tries.append(number)
        raise OSError(number, "refused")

    with pytest.raises(OSError, match="refused"):
        patiently(action, "reading x")
    assert tries == [number]


def test_a_snapshot_comes_back_to_the_bit(tmp_path):
    weights = {"a.weight": torch.randn(3, 4), "a/b.weight": torch.randn(2), "n": torch.tensor(5)}
    snapshot = Snapshot(7, weights, {"a.weight": torch.randn(3, 4)}, {"a.weight": torch.randn(3, 4)})
    rows = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": None} for epoch in range(1, 8)]
    save_snapshot(tmp_path / "epoch-0007.safetensors", snapshot, rows)
    read = load_snapshot(tmp_path / "epoch-0007.safetensors")
    assert load_training(tmp_path / "epoch-0007.safetensors")[1] == rows
    assert read.epoch == 7
    pairs = ((snapshot.model, read.model), (snapshot.optimiser, read.optimiser), (snapshot.moving, read.moving))
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert list(snapshots_in(tmp_path)) == [7]


def test_a_torn_snapshot_is_one_clear_line(tmp_path):
    path = tmp_path / "latest.safetensors"
    save_snapshot(path, Snapshot(1, {"a": torch.ones(100)}, {}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"latest\.safetensors cannot be read .*give the same `stillhouse run` again"):
        load_snapshot(path)


def test_json_is_replaced_not_rewritten(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_unwritable_storage_is_told_at_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*--storage"):
        Store(blocked / "runs").check_writable()


def test_an_object_that_would_be_written_outside_the_mirror_is_refused(store):
    if not store.is_remote:
        pytest.skip("a folder has no objects")
    bucket, prefix = store.remote.bucket, store.remote.prefix
    # Straight into the server, which runs in this process: clients make such a name another one.
    (backend,) = s3_backends.values()
    backend["aws"].put_object(bucket, f"{prefix}/runs/../../outside.json", b"{}")
    with pytest.raises(UserError, match="whose name leads out of it"):
        store.pull(store.root / "runs")
    backend["aws"].delete_object(bucket, f"{prefix}/runs/../../outside.json")


def test_a_damaged_file_of_ours_is_one_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(UserError, match=r"rows.jsonl is damaged .*; give the same `stillhouse run` again"):
        read_lines(tmp_path / "rows.jsonl")


@pytest.fixture
def requests(monkeypatch) -> list[tuple[str, str]]:
    """Method and object's name of each request, in the order in which the S3 server has answered them."""
    seen: list[tuple[str, str]] = []

    def note(handler: WSGIRequestHandler, *_: object) -> None:
        seen.append((handler.command, handler.path.partition("?")[0].rpartition("/")[2]))

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    return seen


def test_what_says_finished_is_uploaded_last_downloaded_last_and_removed_first(store, elsewhere, requests):
    """So that whatever is cut off between two objects does not look finished."""
    if not store.is_remote:
        pytest.skip("a folder is renamed in one step")
    with store.publish("labels", "abc") as folder:
        for number in range(30):
            (folder / f"{number}.txt").write_text(str(number))
        (folder / STAGE).write_text("{}")
        requests.clear()
    writes = [name for method, name in requests if method == "PUT"]
    assert len(writes) == 31 and set(writes[:-1]) == {f"{number}.txt" for number in range(30)}
    assert writes[-1] == STAGE
    requests.clear()
    assert elsewhere.finished("labels", "abc") is not None
    reads = [name for method, name in requests if method == "GET" and name.endswith((".txt", ".json"))]
    assert len(reads) == 31 and reads[-1] == STAGE
    requests.clear()
    store.remove(store.root / "artifacts" / "labels" / "abc")
    removals = [request for request in requests if request[0] != "GET"]
    assert removals == [("DELETE", STAGE), ("POST", "bucket")]  # all others in one request
    assert store.remote is not None and store.remote.listed("") == {}


def test_a_small_object_is_one_request_and_is_not_fetched_again(store, elsewhere, requests):
    if not store.is_remote:
        pytest.skip("a folder has no requests")
    file, theirs = store.root / "a.json", elsewhere.root / "a.json"
    write_json(file, {"a": 1})
    requests.clear()
    store.push(file)
    assert requests == [("PUT", "a.json")]
    requests.clear()
    store.pull(file)
    assert requests == [("HEAD", "a.json")]
    requests.clear()
    for _ in range(2):
        elsewhere.pull(theirs)
    assert requests == [("HEAD", "a.json"), ("GET", "a.json"), ("HEAD", "a.json")]
    write_json(file, {"a": 2})  # of the same length, in the same second
    store.push(file)
    elsewhere.pull(theirs)
    assert read_json(theirs) == {"a": 2}


def test_shards_are_in_one_folder_at_the_top_and_folders_are_listed(store, elsewhere):
    assert store.shards == store.root / "shards" and store.folders() == []
    for name in ("demo-1/status.json", "shards/a.parquet", "artifacts/search/x/stage.json", "top.txt"):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_text("1")
    store.push(store.root)
    assert elsewhere.folders() == ["artifacts", "demo-1", "shards"]
    assert elsewhere.read(elsewhere.root / "top.txt") == b"1" and elsewhere.read(elsewhere.root / "none") is None


@pytest.mark.parametrize(
    ("name", "files", "asked"),
    [
        ("student-01-T2.4-mix0.30", ("trial.json",), [("GET", "bucket"), ("GET", "trial.json")]),
        ("a.folder", ("trial.json",), [("HEAD", "a.folder"), ("GET", "bucket"), ("GET", "trial.json")]),
        ("without-an-ending", (), [("GET", "bucket"), ("HEAD", "without-an-ending"), ("GET", "without-an-ending")]),
    ],
)
def test_files_and_folders_of_any_name_are_found_most_of_them_at_the_first_request(
    store, elsewhere, requests, name, files, asked
):
    if not store.is_remote:
        pytest.skip("a folder has no requests")
    for file in [store.root / name / part for part in files] or [store.root / name]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        store.push(file)
    requests.clear()
    elsewhere.pull(elsewhere.root / name)
    assert requests == asked
    assert [file.read_text() for file in elsewhere.root.rglob("*") if file.is_file()] == ["x"]


def test_what_is_not_wanted_is_neither_uploaded_nor_downloaded(store, elsewhere):
    work, theirs = store.root / "work", elsewhere.root / "work"
    for name in ("a/rows.jsonl", "a/latest.safetensors", "b/rows.jsonl"):
        write_json(work / name, name)
    store.push(work, lambda file: file.parent.name != "b")
    elsewhere.pull(theirs, wanted=lambda file: file.suffix == ".jsonl")
    if not store.is_remote:
        pytest.skip("a folder has no transfers")
    assert names_below(theirs) == ["a/rows.jsonl"]
    (theirs / "a" / "gone.json").write_text("1")
    elsewhere.pull(theirs, exactly=True, wanted=lambda file: file.suffix != ".jsonl")
    assert names_below(theirs) == ["a/latest.safetensors", "a/rows.jsonl"]


def names_below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
def test_large_objects_are_few_at_once(store, elsewhere, monkeypatch, size):
    """Each holds several parts in memory."""
    if not store.is_remote:
        pytest.skip("a folder has no transfers")
    files = {f"{number}.bin": store.root / f"{number}.bin" for number in range(LARGE_ONES + 2)}
    store.root.mkdir(parents=True)
    for file in files.values():
        file.write_bytes(bytes(size))
    under_way, most, put, lock = [0], [0], obstore.put, threading.Lock()
    expected = LARGE_ONES if size > LARGE else len(files)
    full = threading.Event()

    def counted(client: object, name: str, *arguments: object, **options: object) -> object:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            if most[0] == expected:
                full.set()
        assert full.wait(60.0)
        result = put(client, name, *arguments, **options)  # pyright: ignore
        with lock:
            under_way[0] -= 1
        return result

    monkeypatch.setattr(obstore, "put", counted)
    store.remote.put(files)
    assert most == [expected]
    elsewhere.pull(elsewhere.root)
    assert {file.stat().st_size for file in elsewhere.root.glob("*.bin")} == {size}


def test_a_transfer_that_fails_on_the_way_goes_on_with_what_is_left(store, monkeypatch, requests):
    if not store.is_remote:
        pytest.skip("a folder has no transfers")
    store.root.mkdir(parents=True)
    files = {f"{number}": store.root / f"{number}" for number in range(20)}
    for name, file in files.items():
        file.write_text(name)
    put, failures = obstore.put, []

    def failing(client: object, name: str, *arguments: object, **options: object) -> object:
        if name == "7" and len(failures) < 2:
            failures.append(name)
            raise GenericError("connection reset")
        return put(client, name, *arguments, **options)  # pyright: ignore

    monkeypatch.setattr(obstore, "put", failing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    store.remote.put(files)
    assert sorted(name for _, name in requests) == sorted(files) and len(failures) == 2
    failures.clear()
    with hurried(), pytest.raises(OSError, match="connection reset"):
        store.remote.put(files)
    assert len(failures) == 1


def test_a_server_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match=r"^storage s3://.* cannot be written: .*; choose another --storage$") as error:
        Store("s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http").check_writable()
    assert "\n" not in str(error.value)


def test_a_bucket_that_is_not_there_is_told_in_the_servers_words(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match="cannot be written: The specified bucket does not exist; choose"):
        Store(s3.format("runs").replace("//bucket", "//nobody-s-bucket")).check_writable()


def test_a_server_without_conditional_writes_is_refused(store, monkeypatch):
    if not store.is_remote:
        pytest.skip("a folder has locks")
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda client, name, data, mode=None, **options: put(client, name, data))
    with pytest.raises(UserError, match="overwrites an object that was to be created only where there is none"):
        store.check_writable()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gs://bucket/runs", "give a folder or s3://bucket/prefix"),
        ("s3:///runs", "give a folder or s3://bucket/prefix"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(uri, reason):
    with pytest.raises(UserError, match=f"cannot be opened: {reason}"):
        Store(uri).check_writable()


def test_a_buckets_region_is_what_its_server_says(s3):
    server = "http://" + s3.partition("endpoint_override=")[2].partition("&")[0]
    assert region_of("bucket", server) == "us-east-1"
    assert region_of("nobody-s-bucket", server) is None


def test_keys_come_from_the_environment_or_else_from_the_profile(tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = a\n[team]\naws_access_key_id = b\naws_secret_access_key = c%d\n"
        "aws_session_token = d\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert shared_credentials() == {"access_key_id": "a"}
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert shared_credentials() == {"access_key_id": "b", "secret_access_key": "c%d", "session_token": "d"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "e")
    assert shared_credentials() == {}


def test_folder_marks_of_other_clients_are_no_files(store):
    if not store.is_remote:
        pytest.skip("a folder has no objects")
    (backend,) = s3_backends.values()
    for name in ("", "work/", "work/search/"):
        backend["aws"].put_object(store.remote.bucket, f"{store.remote.prefix}/{name}", b"")
    backend["aws"].put_object(store.remote.bucket, f"{store.remote.prefix}/work/search/log.txt", b"")
    assert store.sizes() == {"work/search/log.txt": 0}
    store.pull(store.root)
    assert (store.root / "work" / "search" / "log.txt").read_bytes() == b""


def test_sizes_beside_a_writer(tmp_path):
    store, done = Store(tmp_path), threading.Event()

    def write() -> None:
        while not done.is_set():
            write_json(tmp_path / "status.json", {})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            store.sizes()
    finally:
        done.set()
        writer.join()
    assert "status.json" in store.sizes()


def test_a_damaged_copy_gives_way_to_the_storage_s_where_that_has_another(store, elsewhere):
    file, theirs = store.root / "shards" / "x", elsewhere.root / "shards" / "x"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"good")
    store.push(file)
    if not store.is_remote:
        assert store.pull_again(file) is False and file.read_bytes() == b"good"
        return
    elsewhere.pull(theirs)
    at = theirs.stat()
    theirs.write_bytes(b"bads")
    os.utime(theirs, ns=(at.st_atime_ns, at.st_mtime_ns))  # as a disk damages it
    assert elsewhere.pull_again(theirs) is True and theirs.read_bytes() == b"good"
    theirs.unlink()
    assert elsewhere.pull_again(theirs) is True and theirs.read_bytes() == b"good"
    store.remove(file)
    assert elsewhere.pull_again(theirs) is False and not theirs.exists()


def test_a_person_finds_a_path_at_its_address(store):
    place, _, query = store.uri.partition("?")
    expected = f"{place}/small-1/report?{query}" if store.is_remote else str(store.root / "small-1" / "report")
    assert store.address(store.root / "small-1" / "report") == expected

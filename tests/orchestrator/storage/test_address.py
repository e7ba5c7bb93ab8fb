"""Addresses of storages: what cannot be one is refused, and no message shows a secret."""

import http.server
import threading
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.storage import address
from orchestrator.storage.address import parse, presentable, require_no_credentials, shared_credentials, way_to
from orchestrator.storage.remote import Remote, hurried
from orchestrator.storage.store import Store


def test_a_folder_may_have_a_name_like_an_address(tmp_path):
    require_no_credentials(f"{tmp_path}/jane@example.org/runs")


def test_credentials_do_not_belong_into_an_address():
    for uri in (
        "s3://key:secret@bucket/runs",
        "s3://bucket/x?access_key=key&secret_key=secret",
        "s3://bucket/x?endpoint_override=key:secret@minio:9000",
    ):
        with pytest.raises(UserError, match="must not hold credentials|the unknown parameter access_key;") as caught:
            Store(uri).check_writable()
        assert "secret" not in str(caught.value).replace("secret_key", "")
    require_no_credentials("s3://bucket/jane@example.org/runs?scheme=http")


WORDS = st.text("abcxyz019-_.", min_size=1, max_size=8)


SECRETS = st.dictionaries(WORDS, st.just("SECRET"), max_size=3)


@given(st.sampled_from(["s3", "ray", "http"]), WORDS, WORDS, WORDS, SECRETS)
def test_no_secret_of_an_address_is_shown(scheme, user, host, path, parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items() if name not in ("scheme", "region"))
    shown = presentable(f"{scheme}://{user}:SECRET@{host}/{path}" + (f"?{query}" if query else ""))
    assert "SECRET" not in shown and shown.startswith(f"{scheme}://{host}/{path}")
    plain = f"{scheme}://{host}/{path}?scheme=http&region=eu"
    assert presentable(plain) == plain and presentable(path) == path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jane:SECRET@127.0.0.1:1", "127.0.0.1:1"),
        ("//jane:SECRET@host", "//host"),
        ("ray:/jane:SECRET@host", "ray:/host"),
        ("http://127.0.0.1:1#SECRET", "http://127.0.0.1:1..."),
        ("http://host/#token=SECRET", "http://host/..."),
        ("http://host/;token=SECRET", "http://host/..."),
        ("ray://jane:SEC?RET@host", "ray://jane:...?..."),
        ("s3://key:se/cret@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x?SECRET", "s3://bucket/x?..."),
        ("http://host:8265/jane@x", "http://host:8265/jane@x"),
        ("ray://[::1]:10001", "ray://[::1]:10001"),
        ("/data/jane@example.org/run#1", "/data/jane@example.org/run#1"),
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        ("s3://bucket/x?endpoint_override=http://a:SECRET@c", "s3://bucket/x?endpoint_override=..."),
        ("s3://bucket/x?scheme=http&secret_key=SECRET", "s3://bucket/x?scheme=http&secret_key=..."),
        ("s3://key:SEC@RET@bucket/x", "s3://bucket/x"),
        ("http://jane:SECRET@host:80/a/b", "http://host:80/a/b"),
        ("ray://jane:SEC/RET@host", "ray://host"),
        ("http://[::1]/x", "http://[::1]/x"),
        ("s3://bucket/a;b", "s3://bucket/a;b"),
    ],
)
def test_addresses_of_every_kind(text, shown):
    assert presentable(text) == shown


@pytest.mark.parametrize("storage", ["", "s3:/bucket/x", "s3:", "gs:/x"])
def test_what_is_nearly_an_address_is_no_folder(storage):
    with pytest.raises(UserError, match="give a folder or s3://bucket/prefix"):
        Store(storage)


def test_a_word_behind_the_question_mark_is_not_shown():
    with pytest.raises(UserError, match=r"x\?\.\.\. has the unknown parameter \.\.\.;"):
        require_no_credentials("s3://bucket/x?SECRET")


def test_a_strange_parameter_is_told_which_are_known_and_where_keys_belong():
    with pytest.raises(UserError) as caught:
        require_no_credentials("s3://bucket/x?access_key=SECRET")
    assert str(caught.value) == (
        "--storage s3://bucket/x?access_key=... has the unknown parameter access_key; known are endpoint_override, "
        "scheme, region; keys belong into the environment of the nodes (AWS_ACCESS_KEY_ID, ...)"
    )


STRANGE = ["s3://[b/p", "s3://my bucket/p", "s3://b\u00fccket/p", "s3://bucket/run#1", "gs://bucket/runs", "s3:///runs"]
STRANGE += ["s3://bucket/a//b", "s3://bucket/./b", "s3://bucket/../b", "s3://bucket/a\0b", "s3://bucket/a\nb"]


@pytest.mark.parametrize("uri", [*STRANGE, f"s3://bucket/{'x' * 300}"])
def test_an_address_that_cannot_be_one_is_refused_at_once(uri):
    with pytest.raises(UserError, match="cannot be opened"):
        Store(uri).check_writable()


def test_a_name_that_no_object_has_is_named():
    with pytest.raises(UserError, match="^storage 's3://bucket/a//b' cannot be opened: no name of an object is ''$"):
        parse("s3://bucket/a//b")


def test_a_part_of_a_name_has_at_most_two_hundred_bytes():
    assert not address.is_strange(200 * "x") and not address.is_strange(100 * "\u00e4")
    assert address.is_strange(201 * "x") and address.is_strange(101 * "\u00e4")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("endpoint_override=127.0.0.1:9&scheme=http/demo-1", "endpoint is no address of a server"),
        ("endpoint_override=http://127.0.0.1:9", "endpoint is no address of a server"),
        ("endpoint_override=host&scheme=gopher", "endpoint is no address of a server"),
        ("endpoint_override=host name", "endpoint is no address of a server"),
        ("endpoint_override=host:port", "endpoint is no address of a server"),
        ("region=eu west", "region is none"),
    ],
)
def test_a_server_or_region_that_is_none_is_one_line(query, wrong):
    with pytest.raises(UserError, match=f"cannot be opened: its {wrong}"):
        parse(f"s3://bucket/p?{query}")


def test_an_endpoint_of_the_environment_that_is_none_is_one_line_without_its_password(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "user:SECRET@host")
    with pytest.raises(UserError, match="its endpoint is no address of a server") as caught:
        parse("s3://bucket/p")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "minio.example", "[::1]:9000", "a_b-c.example:1"])
def test_hosts_with_and_without_a_port_are_endpoints(host):
    assert parse(f"s3://bucket/p?endpoint_override={host}&scheme=http")[2]["endpoint"] == f"http://{host}"


@pytest.mark.parametrize("query", ["region=eu&", "region=eu&&scheme=http", "&"])
def test_a_parameter_without_a_name_is_one_line(query):
    with pytest.raises(UserError, match="has the unknown parameter ;"):
        require_no_credentials(f"s3://bucket/p?{query}")


def test_a_file_of_keys_that_cannot_be_read_shows_none_of_them(tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text("aws_secret_access_key SECRET\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(UserError, match="it is no file of profiles") as caught:
        shared_credentials()
    assert "SECRET" not in str(caught.value)


def test_keys_are_the_home_folder_s_where_no_other_file_is_named(tmp_path, monkeypatch):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = a\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    assert shared_credentials() == {"access_key_id": "a"}


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("variables", "endpoint", "way"),
    [
        ({}, "http://minio:9000", ""),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://minio:9000", " by way of the proxy http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, None, " by way of the proxy http://proxy:3128"),
        ({"HTTPS_PROXY": "http://jane:secret@proxy:3128"}, None, " by way of the proxy http://proxy:3128"),
        ({"HTTPS_PROXY": "jane:secret@proxy:3128"}, None, " by way of the proxy http://proxy:3128"),
        ({"ALL_PROXY": "socks5://proxy:1080"}, "https://minio", " by way of the proxy socks5://proxy:1080"),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://minio", ""),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "minio,localhost"}, "http://minio:9000", ""),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "http://minio:9000", ""),
    ],
)
def test_the_environments_proxy_is_named_where_requests_take_its_way(monkeypatch, variables, endpoint, way):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert way_to(endpoint) == way


class Refusing(http.server.BaseHTTPRequestHandler):
    """A proxy that wants a password."""

    def do_GET(self) -> None:
        self.send_error(407)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_that_answers_in_the_storages_stead_is_named(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    proxy = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HTTP_PROXY", f"http://jane:secret@{proxy}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    try:
        with hurried(), pytest.raises(OSError, match="407") as caught:
            Remote("s3://bucket/x?endpoint_override=storage.example:9000&scheme=http").read("a/b")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert caught.value.filename == f"reading a/b by way of the proxy http://{proxy}"
    assert "secret" not in str(caught.value)


def test_the_region_is_the_address_s_or_the_bucket_s_unless_a_server_is_named(monkeypatch, tmp_path):
    asked: list[str] = []
    monkeypatch.setattr(address, "region_of", lambda bucket: asked.append(bucket) or "eu-north-1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert parse("s3://team/a/b/") == ("team", "a/b", {"region": "eu-north-1"})
    assert asked == ["team"]
    assert parse("s3://team/X/a/X?region=eu") == ("team", "X/a/X", {"region": "eu"})
    assert parse("s3://team?region=us-east-2") == ("team", "", {"region": "us-east-2"})
    here = {"endpoint": "http://127.0.0.1:9000"}
    assert parse("s3://team/a?endpoint_override=127.0.0.1:9000&scheme=http") == ("team", "a", here)
    assert parse("s3://team/a?endpoint_override=minio:9000") == ("team", "a", {"endpoint": "https://minio:9000"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert parse("s3://team/a") == ("team", "a", here)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9001")
    assert parse("s3://team/a")[2] == {"endpoint": "http://127.0.0.1:9001"}
    assert asked == ["team"]


def test_the_region_is_waited_for_ten_seconds(monkeypatch):
    given: list[object] = []

    def refuse(request: urllib.request.Request, timeout: object = None) -> None:
        given.append((request.full_url, timeout))
        raise OSError("no answer")

    monkeypatch.setattr(address.urllib.request, "urlopen", refuse)
    with pytest.raises(OSError, match="no answer"):
        address.region_of("bucket")
    assert given == [("https://s3.amazonaws.com/bucket", 10)]


@pytest.mark.parametrize(
    ("storage", "held"),
    [
        ("s3://a:b@c/x?y=http://z", True),
        ("s3://bucket/x?endpoint_override=http://a:b@c", False),
        ("ray://host:10001/a@b", False),
        ("s3://bucket:x/a@b", True),
        ("s3://bucket?endpoint_override=a@b", False),
        ("s3://key:123/4@bucket/x", True),
    ],
)
def test_credentials_stand_before_the_host(storage, held):
    assert address.has_credentials(storage) is held

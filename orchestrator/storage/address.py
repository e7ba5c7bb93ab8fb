"""Addresses on S3, and what a client needs beside them: the bucket's region, a profile's keys."""

import configparser
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from orchestrator.errors import UserError

PARAMETERS = ("endpoint_override", "scheme", "region")
LONGEST = 200  # bytes of a part of a name: the mirror's files are named after it, and temporary ones are longer
KNOWN = ", ".join(PARAMETERS)
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
PASSWORD = re.compile(r"[^/:@\s]*:[^/@\s]+@")  # with the name before it, where no scheme says where they stand
PORT = re.compile(r":\d{1,5}$")
REGION = re.compile(r"[A-Za-z0-9-]+")
AWS = "https://s3.amazonaws.com"
KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


def presentable(address: str) -> str:
    """An address as messages and files may hold it: without name, password and the values of strange parameters."""
    scheme, found, rest = address.partition("://")
    if not found:
        return PASSWORD.sub("", address)
    place, mark, query = rest.partition("#")[0].partition("?")
    first, slash, path = place.partition("/")
    if has_credentials(address):
        first, slash, path = place.rpartition("@")[2].partition("/")
    host, colon, port = first.rpartition(":")
    if colon and not port.isdecimal() and not first.endswith("]"):
        first = f"{host}:..."  # what stands before a "?" in a password
    path, semicolon, _ = path.partition(";") if scheme != "s3" else (path, "", "")
    shown = "&".join(map(plain, query.split("&")))
    hidden = "..." if semicolon or "#" in rest else ""
    return f"{scheme}://{first}{slash}{path}{mark}{shown}{hidden}"


def plain(pair: str) -> str:
    """A parameter "name=value", its value where it is one of ours and holds no password itself."""
    name, equals, value = pair.partition("=")
    if not equals:
        return "..." if name else ""
    return pair if not value or (name in PARAMETERS and "@" not in value) else f"{name}=..."


def has_credentials(address: str) -> bool:
    """Whether a name and a password stand before the host; a password may have slashes, a prefix may have an "@"."""
    scheme, _, rest = address.partition("://")
    place = rest.partition("?")[0]
    first = place.partition("/")[0]
    has_port = scheme != "s3" and bool(PORT.search(first))  # a bucket has none
    return "@" in first or (":" in first and "@" in place and not has_port)


def require_no_credentials(storage: str) -> None:
    """Raises UserError where an address holds a name, a password or a key, which logs and dashboards would show."""
    shown = presentable(storage)
    keys = "keys belong into the environment of the nodes (AWS_ACCESS_KEY_ID, ...)"
    if "://" in storage and "#" in storage:
        raise UserError(f"storage {shown!r} cannot be opened: no name of an object has a '#'")
    if has_credentials(storage):
        raise UserError(f"--storage {shown} must not hold credentials, which logs and dashboards would show: {keys}")
    pairs = storage.partition("?")[2].split("&") if "?" in storage else []
    names = [name if equals or not name else "..." for name, equals, _ in (pair.partition("=") for pair in pairs)]
    strange = next((name for name in names if name not in PARAMETERS), None)
    if "://" in storage and strange is not None:
        raise UserError(f"--storage {shown} has the unknown parameter {strange}; known are {KNOWN}; {keys}")
    if shown != storage:
        raise UserError(f"--storage {shown} must not hold credentials, which logs and dashboards would show: {keys}")


def parse(uri: str) -> tuple[str, str, dict[str, Any]]:
    """Bucket, prefix and the client's settings of s3://bucket/prefix?endpoint_override=host:port&scheme=http.

    Raises UserError where it is no such address.
    """
    require_no_credentials(uri)
    scheme, _, rest = uri.partition("://")
    place, _, text = rest.partition("?")
    bucket, _, path = place.partition("/")
    query, prefix = dict(parse_qsl(text)), path.strip("/")
    strange = [part for part in prefix.split("/") if is_strange(part)] if prefix else []
    if scheme != "s3" or not BUCKET.fullmatch(bucket) or strange or not uri.isprintable():
        reason = f"no name of an object is {strange[0]!r}" if strange else "give a folder or s3://bucket/prefix"
        raise UserError(f"storage {presentable(uri)!r} cannot be opened: {reason}")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in query:
        endpoint = f"{query.get('scheme', 'https')}://{query['endpoint_override']}"
    if endpoint and not ENDPOINT.fullmatch(endpoint):  # not shown: that of the environment may hold a password
        raise UserError(
            f"storage {presentable(uri)!r} cannot be opened: its endpoint is no address of a server; give "
            f"endpoint_override=host:9000&scheme=http, or AWS_ENDPOINT_URL=http://host:9000"
        )
    if not REGION.fullmatch(query.get("region", "none")):
        raise UserError(f"storage {presentable(uri)!r} cannot be opened: its region is none, as eu-central-1 is one")
    config: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    region = query.get("region") or (None if endpoint else region_of(bucket))
    config |= {"region": region} if region else {}
    return bucket, prefix, config | shared_credentials()


def way_to(endpoint: str | None) -> str:
    """Words for the environment's proxy, where requests to a server take that way: it may be it that answers."""
    url = urlsplit(endpoint or AWS)
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.hostname or ""):
        return ""
    return f" by way of the proxy {presentable(proxy if '://' in proxy else f'http://{proxy}')}"


def is_strange(part: str) -> bool:
    """Whether a part of an object's name would be another one on the way, or none that the mirror's disk takes."""
    return part in ("", ".", "..") or "#" in part or len(part.encode()) > LONGEST


def region_of(bucket: str, service: str = AWS) -> str | None:
    """The region a bucket is in; S3 names it to anybody. Raises OSError where S3 does not answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{service}/{bucket}", method="HEAD"), timeout=10) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as refusal:  # of a request without permission, or to the wrong region
        headers = refusal.headers
    return headers.get("x-amz-bucket-region")


def shared_credentials() -> dict[str, str]:
    """Keys of AWS_PROFILE in ~/.aws/credentials. Those of the environment go first; obstore reads them by itself."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    file = configparser.ConfigParser(interpolation=None)
    kept = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    try:
        file.read(kept)
    except (configparser.Error, UnicodeDecodeError):  # its text would show a line of the file
        raise UserError(f"{kept} cannot be read: it is no file of profiles with their keys") from None
    profile = os.environ.get("AWS_PROFILE", "default")
    keys = dict(file[profile]) if profile in file else {}
    return {ours: keys[theirs] for theirs, ours in KEYS.items() if theirs in keys}

"""Addresses on S3, and what a client needs beside them: the bucket's region, a profile's keys."""

import configparser
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from orchestrator.errors import UserError

PARAMETERS = ("endpoint_override", "scheme", "region")
AWS = "https://s3.amazonaws.com"
KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


def parse(uri: str) -> tuple[str, str, dict[str, Any]]:
    """Bucket, prefix and the client's settings of s3://bucket/prefix?endpoint_override=host:port&scheme=http.

    Raises UserError where it is no such address.
    """
    place, query = urlsplit(uri), dict(parse_qsl(urlsplit(uri).query))
    unknown = sorted(query.keys() - set(PARAMETERS))
    if place.scheme != "s3" or not place.netloc or unknown:
        reason = f"unknown parameter {unknown[0]}" if unknown else "give a folder or s3://bucket/prefix"
        raise UserError(f"storage {uri} cannot be opened: {reason}")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in query:
        endpoint = f"{query.get('scheme', 'https')}://{query['endpoint_override']}"
    config: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    region = query.get("region") or (None if endpoint else region_of(place.netloc))
    config |= {"region": region} if region else {}
    return place.netloc, place.path.strip("/"), config | shared_credentials()


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
    file.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    profile = os.environ.get("AWS_PROFILE", "default")
    keys = dict(file[profile]) if profile in file else {}
    return {ours: keys[theirs] for theirs, ours in KEYS.items() if theirs in keys}

"""A real S3 protocol server (moto's, in this process) and buckets on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Bucket:
    """One bucket. `url` is how Outlast is told of it; `environment` is what has to be set for that."""

    endpoint: str
    name: str
    environment: Mapping[str, str] = field(default_factory=lambda: CREDENTIALS)

    @property
    def url(self) -> str:
        return self.url_of("vault")

    def url_of(self, prefix: str) -> str:
        return f"s3://{self.name}/{prefix}?endpoint={self.endpoint}&region=us-east-1&allow_http=1"

    def client(self) -> Any:  # boto3 has no types
        """A boto3 client, to look at or harm what is stored behind Outlast's back."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )


@contextmanager
def s3_server() -> Iterator[str]:
    """A running server's endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> Bucket:
    bucket = Bucket(endpoint, f"bucket-{uuid.uuid4().hex[:12]}")
    bucket.client().create_bucket(Bucket=bucket.name)
    return bucket

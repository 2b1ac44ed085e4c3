"""A real S3 protocol server (moto's, in this process) and buckets on it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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
    server = make_server(
        "127.0.0.1",
        0,
        _OneWriteAtATime(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class _OneWriteAtATime:
    """S3 decides a conditional write in one step; moto looks first and writes then, and another write gets between."""

    application: WSGIApplication
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return self.application(environ, start_response)
        with self.turn:
            return self.application(environ, start_response)


def new_bucket(endpoint: str) -> Bucket:
    bucket = Bucket(endpoint, f"bucket-{uuid.uuid4().hex[:12]}")
    bucket.client().create_bucket(Bucket=bucket.name)
    return bucket

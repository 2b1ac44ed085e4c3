"""Buckets by URL: S3 and what speaks its protocol, Google Cloud Storage, Azure; for the vault and the status page."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from outlast.core.errors import UsageError

RETRIES_MAX = 4
RETRY_TIMEOUT_S = 60


def open_bucket(url: str, what: str) -> ObjectStore:
    """`s3://bucket/prefix?endpoint=…&region=…&allow_http=1`, `gs://…` or `az://container/prefix?account=…`.

    Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*), never from the URL. `what` names the URL in
    errors. Nothing is asked of it yet. Raises UsageError for a URL that cannot be one.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UsageError(
            f"{what} holds a user or password",
            hint="Give credentials by the environment (AWS_ACCESS_KEY_ID …) or the machine's role.",
        )
    if parts.scheme not in _REMOTE:
        raise UsageError(
            f"{what} cannot begin with {parts.scheme}://", hint="Use a folder, or a URL of s3://, gs:// or az://."
        )
    return _REMOTE[parts.scheme](parts.netloc, parts.path.strip("/"), dict(parse_qsl(parts.query)))


def _s3(bucket: str, prefix: str, options: dict[str, str]) -> ObjectStore:
    allowed = {"endpoint", "region", "allow_http", "virtual_hosted"}
    _check_options(options, allowed)
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={  # type: ignore[arg-type]
            "aws_region": options.get("region", os.environ.get("AWS_REGION", "us-east-1")),
            "aws_conditional_put": "etag",
            **({"aws_endpoint": options["endpoint"]} if "endpoint" in options else {}),
            **({"aws_virtual_hosted_style_request": True} if options.get("virtual_hosted") else {}),
        },
        client_options={"allow_http": bool(options.get("allow_http")), "timeout": "120s"},
        retry_config=_retry(),
    )


def _gcs(bucket: str, prefix: str, options: dict[str, str]) -> ObjectStore:
    _check_options(options, set())
    return GCSStore(bucket, prefix=prefix or None, retry_config=_retry())


def _azure(container: str, prefix: str, options: dict[str, str]) -> ObjectStore:
    _check_options(options, {"account"})
    account = {"account_name": options["account"]} if "account" in options else {}
    return AzureStore(container, prefix=prefix or None, config=account, retry_config=_retry())  # type: ignore[arg-type]


def _check_options(options: dict[str, str], allowed: set[str]) -> None:
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UsageError(
            f"a bucket's URL has an option that is not known: {unknown[0]}",
            hint=f"Known there: {', '.join(sorted(allowed)) or 'none'}.",
        )


def _retry() -> Any:
    return {"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S)}


_REMOTE: dict[str, Callable[[str, str, dict[str, str]], ObjectStore]] = {"s3": _s3, "gs": _gcs, "az": _azure}

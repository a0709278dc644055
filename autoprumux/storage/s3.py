"""Artifacts in a bucket of an S3-compatible store, `s3://BUCKET/PREFIX`.

Credentials, region and address are boto3's own business: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_PROFILE, AWS_REGION, and AWS_ENDPOINT_URL for a store that is not Amazon's.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from autoprumux.errors import StorageError, UsageError

if TYPE_CHECKING:
    from optuna.artifacts import Boto3ArtifactStore

SCHEME = "s3://"

_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+[a-z0-9])(?:/(?P<prefix>.*))?")
_TIMEOUT_S, _ATTEMPTS = 10, 3
"""Of a request, so that a store that is down costs a search half a minute per file and no more."""


class S3Store:
    """Optuna's store for S3 under a prefix, with errors in sentences."""

    def __init__(self, place: str) -> None:
        """Open the bucket; it must be there.

        Raises:
            UsageError: If `place` is none, boto3 is missing or the bucket cannot be used.
        """
        found = _PLACE.fullmatch(place)
        if found is None:
            raise UsageError(
                f"`--artifacts` must look like `s3://BUCKET/PREFIX` for a store, got {place!r}."
            )
        prefix = (found["prefix"] or "").strip("/")
        self.place = f"s3://{found['bucket']}" + (f"/{prefix}" if prefix else "")
        self._prefix = f"{prefix}/" if prefix else ""
        self._store = _open_bucket(found["bucket"])
        try:
            with self._errors_in_sentences():
                self._store.client.head_bucket(Bucket=found["bucket"])
        except StorageError as error:
            raise UsageError(
                f"`--artifacts` {place} cannot be used: {error} Check its name, the credentials "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and AWS_ENDPOINT_URL."
            ) from error

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """See `optuna.artifacts._protocol.ArtifactStore`."""
        with self._errors_in_sentences():
            return self._store.open_reader(self._prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """See `optuna.artifacts._protocol.ArtifactStore`."""
        with self._errors_in_sentences():
            self._store.write(self._prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """See `optuna.artifacts._protocol.ArtifactStore`."""
        with self._errors_in_sentences():
            self._store.remove(self._prefix + artifact_id)

    @contextmanager
    def _errors_in_sentences(self) -> Iterator[None]:
        """Turn boto3's errors into ours; what is not there stays Optuna's `ArtifactNotFound`."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise StorageError(f"The store {self.place} does not answer: {reason}.") from error


def _open_bucket(bucket: str) -> "Boto3ArtifactStore":
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise UsageError(
            f"`--artifacts` {SCHEME}{bucket} needs boto3, which is not installed: run "
            '`pip install "autoprumux[s3]"`.'
        ) from error
    from optuna.artifacts import Boto3ArtifactStore

    config = Config(
        connect_timeout=_TIMEOUT_S,
        read_timeout=_TIMEOUT_S,
        retries={"total_max_attempts": _ATTEMPTS},
    )
    try:
        client = boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(f"`--artifacts` {SCHEME}{bucket} cannot be used: {error}.") from error
    # Not copied to memory first: a model may be half a gigabyte.
    return Boto3ArtifactStore(bucket, client, avoid_buf_copy=True)

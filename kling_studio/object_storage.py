"""S3 as the studio uses it. Loaded only where STORAGE_URL names it, as boto3 takes a while to load."""

from typing import Any

from boto3.s3.transfer import TransferConfig
from storages.backends.s3 import S3Storage

# What is read whole (a picture) stays in memory up to here; the rest goes to the disk.
MAX_MEMORY_BYTES = 8_000_000


class S3(S3Storage):
    """Uploads in the thread of whoever stores, part by part: one part is in memory, and each read can renew a lease."""

    def get_default_settings(self) -> dict[str, Any]:
        defaults: dict[str, Any] = super().get_default_settings()
        return defaults | {"transfer_config": TransferConfig(use_threads=False), "max_memory_size": MAX_MEMORY_BYTES}

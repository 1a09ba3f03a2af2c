"""The child process that is the GCS emulator: `python -m … FOLDER PORT BUCKET`.

gcp-storage-emulator as it comes writes objects, and the list of them, in place: killed while it
does so, it has half an object under the old one's checksum, or a list that it cannot read when it
starts again. Here both are replaced at once, so SIGTERM can keep its default action.
"""

import json
import logging
import shutil
import sys
from functools import partial
from hashlib import sha256
from http.server import HTTPServer
from pathlib import Path
from typing import Any

from gcp_storage_emulator.exceptions import BadRequest, NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.settings import STORAGE_DIR
from gcp_storage_emulator.storage import RESUMABLE_DIR, Storage

_LIST = ".meta"


class WholeObjects(Storage):
    """Keeps the bytes of each generation of an object in a file of their own.

    An object is what the list says, and the list is replaced by renaming.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / STORAGE_DIR
        super().__init__(data_dir=str(folder))
        self._drop_leftovers()

    def create_file(
        self,
        bucket_name: str,
        file_name: str,
        content: bytes,
        file_obj: dict[str, Any],
        file_id: str | None = None,
    ) -> None:
        """Writes the new generation, names it in the list, and removes the old one."""
        if bucket_name not in self.buckets:
            raise NotFound
        old = self._object_path(bucket_name, file_name)
        new = _generation_path(bucket_name, file_name, file_obj)
        self._store.write_bytes(new, content)
        self.objects.setdefault(bucket_name, {})[file_name] = file_obj
        if file_id:
            self.delete_resumable_file_obj(file_id)
        self._write_config_to_file()
        if file_id:
            self._part(file_id).unlink(missing_ok=True)
        if old != new:
            (self._root / old).unlink(missing_ok=True)

    def get_resumable_byte_count(self, file_id: str) -> int:
        """Bytes of an upload that have arrived."""
        part = self._part(file_id)
        return part.stat().st_size if part.exists() else 0

    def add_to_resumable_upload(
        self,
        file_id: str,
        content: bytes,
        total_size: int | None = None,
        expected_start: int | None = None,
    ) -> bytes | None:
        """Appends to an upload; the whole of it once all has arrived.

        The emulator's own way reads and writes all that is there, for each chunk.
        """
        start = self.get_resumable_byte_count(file_id)
        if expected_start not in (None, start):
            raise BadRequest(f"Invalid Content-Range start: expected {start}, got {expected_start}")
        part = self._part(file_id)
        part.parent.mkdir(exist_ok=True)
        with part.open("ab") as file:
            file.write(content)
        if total_size is None or start + len(content) < total_size:
            return None
        return part.read_bytes()[:total_size]

    def _part(self, file_id: str) -> Path:
        return self._root / RESUMABLE_DIR / self.safe_id(file_id)

    def _object_path(self, bucket_name: str, file_name: str) -> str:
        current = self.objects.get(bucket_name, {}).get(file_name)
        if current is None:
            return str(super()._object_path(bucket_name, file_name))
        return _generation_path(bucket_name, file_name, current)

    def _write_config_to_file(self) -> None:
        names = ("buckets", "objects", "resumable", "bucket_iam_policies", "soft_deleted")
        draft = self._root / f"{_LIST}.tmp"
        draft.write_text(json.dumps({name: getattr(self, name) for name in names}))
        draft.replace(self._root / _LIST)

    def _drop_leftovers(self) -> None:
        """Removes what no list names, and uploads that were under way when the server ended."""
        self.resumable.clear()
        shutil.rmtree(self._root / RESUMABLE_DIR, ignore_errors=True)
        for bucket in self.buckets:
            named = {
                Path(self._object_path(bucket, name)).name for name in self.objects.get(bucket, {})
            }
            for file in (self._root / bucket).iterdir():
                if file.name not in named:
                    file.unlink()


class _Handler(RequestHandler):
    # One request is served at a time, so a client that stands still must not hold up the others.
    timeout = 30


def serve(folder: Path, port: int, bucket: str) -> None:
    """Serves the folder on 127.0.0.1 until the process is ended."""
    storage = WholeObjects(folder)
    create_bucket(bucket, storage)
    HTTPServer(("127.0.0.1", port), partial(_Handler, storage)).serve_forever()


def _generation_path(bucket: str, name: str, resource: dict[str, Any]) -> str:
    # Hashed, since one object's name may be another's folder, and names are longer than files'.
    return f"{bucket}/{sha256(name.encode()).hexdigest()}-{resource['generation']}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

"""Rows of official data files: from the folder BOOSTLIB_DATA, checked by SHA-256, or, if that is not set, from the hub
at a pinned revision, checked by their number. Not covered: what a row means (gsm8k, mbpp)."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Official:
    """Where to get a data set: ``files`` by split ("" for one that holds all), with SHA-256 and number of rows."""

    name: str
    home: str  # of the files
    repository: str  # on the hub
    config: str
    revision: str
    files: Mapping[str, tuple[str, str, int]]

    def rows(self, split: str = "") -> list[dict]:
        """Raises ValueError, one sentence with both ways to get them, where neither has the official rows."""
        file, sha256, count = self.files[split]
        if folder := os.environ.get("BOOSTLIB_DATA"):
            path = Path(folder) / file
            try:
                content = path.read_bytes()
            except OSError as error:
                raise self._failed(f"{path} cannot be read ({error.strerror})") from None
            if hashlib.sha256(content).hexdigest() != sha256:
                raise self._failed(f"{path} is not the official file (its SHA-256 differs)")
            return [json.loads(line) for line in content.decode().splitlines()]
        from datasets import load_dataset

        try:
            data = load_dataset(self.repository, self.config, split=split or None, revision=self.revision)
        except Exception as error:  # of many kinds: no network, no such revision, a broken cache
            raise self._failed(f"BOOSTLIB_DATA is not set and the hub gave nothing ({type(error).__name__})") from error
        rows = list(data) if split else [row for part in data.values() for row in part]
        if len(rows) != count:
            raise self._failed(f"the hub gave {len(rows):,} rows, not {count:,}")
        return rows

    def _failed(self, what: str) -> ValueError:
        files = " and ".join(file for file, _, _ in self.files.values())
        ways = f"a folder with {files}, of {self.home}, or unset it and have the hub's {self.repository} in reach"
        return ValueError(f"{self.name}: {what}. Either set BOOSTLIB_DATA to {ways}.")

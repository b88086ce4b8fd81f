"""Run folders: what an execution leaves on disk, who works there, where it was made. The room's face.

Not covered: what the artefacts mean (boosting), executing notebooks (runner), removing old runs (runner.status).
"""

# ruff: noqa: F401, I001
from boostlib.runs.files import (
    check_folder, context, digest, manifest, open_run, project_root, read_json, read_rows, rounds, seal_folder,
    whole_folder, write_bytes, write_json, write_rows, write_text,
)  # fmt: skip
from boostlib.runs.processes import BUSY, end_with_parent, held, locked
from boostlib.runs.provenance import environment, git_commit
from boostlib.runs.tables import read_table, write_table

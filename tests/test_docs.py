"""Every Python block of the README and the docs runs as it stands, file by file, top to bottom."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN_ELSEWHERE = {"models.md", "scale.md"}  # with a model of its own, in tests/learners; on the table of a sweep
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if "```python" in page.read_text() and page.name not in RUN_ELSEWHERE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_run(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    assert all(len(block.splitlines()) < 15 for block in blocks), "a snippet is short enough to be read"
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def texts(page: Path) -> str:
    """The prose of a page or a notebook."""
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_every_link_of_a_page_or_a_notebook_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("notebooks/*.ipynb")]
    lost = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in [*pages, *ROOT.glob("papermill_runs/*/*.ipynb")]
        for link in re.findall(r"\]\(([^)#\s]+)", texts(page))
        if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert not lost


def test_the_tables_of_the_pages_are_as_recorded():
    done = subprocess.run([sys.executable, ROOT / "tools" / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: python tools/results.py writes them"


def test_the_readme_is_read_in_a_minute():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 90 and len(text.partition("## Two commands")[0].split()) <= 450

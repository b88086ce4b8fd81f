"""Build the static site from what is recorded: README, docs, executed notebooks, a gallery of figures. Offline, in runs/site.

    python tools/site.py

Not covered: executing notebooks (boostlib run), publishing. Needs the extra `site`.
"""

import html
import json
import re
import shutil
import sys
from pathlib import Path

from PIL import Image
from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).parents[1]
SOURCE, SITE = ROOT / "runs" / "site-source", ROOT / "runs" / "site"
PROFILES = ("study", "mini", "mini_all_arms", "mini_all_policies", "laptop", "laptop_gsm_symbolic")


def mapped(text: str, here: Path) -> str:
    """The text of a page at ``here`` (in the checkout), with links that work in the site: to pages that it has, and to files
    of figures; any other link becomes its words."""

    def one(match: re.Match) -> str:
        words, link, tail = match["words"], match["link"], match["tail"] or ""
        if link.startswith(("http", "#", "data:")):
            return match[0]
        there = (here.parent / link).resolve()
        path = there.relative_to(ROOT) if there.is_relative_to(ROOT) else there
        if path.parent == Path("notebooks"):
            path = next(
                (p for p in (Path("papermill_runs", x, path.name) for x in PROFILES) if (ROOT / p).exists()), path
            )
        page = "index.md" if path == Path("README.md") else str(path)
        if not (SOURCE / page).exists():
            return words if match["kind"] == "" else match[0]
        return f"{match['kind']}[{words}](/{page}{tail})"

    return re.sub(
        r"(?P<kind>!?)\[(?P<words>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<link>[^)#\s]+)(?P<tail>#[^)\s]*)?\)", one, text
    )


def gallery() -> str:
    """Every figure with its caption, the numbers behind it, and the command that draws it."""
    lines = [
        "# Gallery",
        "",
        "Each picture is drawn from the CSV beside it, by notebook 06 from the recorded tables.",
        "",
    ]
    for png in sorted((ROOT / "figures").glob("*.png")):
        caption = Image.open(png).text.get("Description") or png.stem.replace("_", " ")
        lines += [
            f"## {png.stem.replace('_', ' ')}",
            "",
            f"![{html.escape(caption)}](/figures/{png.name})",
            "",
            caption,
            "",
        ]
        files = ", ".join(f"{{download}}`{end.upper()} </figures/{png.stem}.{end}>`" for end in ("csv", "pdf"))
        lines += [f"{files} · `make figures NOTEBOOK=06`", ""]
    return "\n".join(lines)


def build() -> int:
    shutil.rmtree(SOURCE, ignore_errors=True)
    copied = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "figures").glob("*.*")]
    records = [r for profile in PROFILES for r in sorted((ROOT / "papermill_runs" / profile).glob("*.ipynb"))]
    start = ROOT / "notebooks" / "00_start_here.ipynb"
    records = records if (ROOT / "papermill_runs" / "mini" / start.name).exists() else [start, *records]
    for path in [*copied, *records]:
        to = SOURCE / ("index.md" if path.name == "README.md" else path.relative_to(ROOT))
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    (SOURCE / "gallery.md").write_text(gallery())
    for path in [p for p in [*copied, *records] if p.suffix in (".md", ".ipynb")]:
        to = SOURCE / ("index.md" if path.name == "README.md" else path.relative_to(ROOT))
        text = to.read_text()  # links of an older record are those of its notebook
        older = path in records and "](../../" not in text
        to.write_text(mapped(text, ROOT / "notebooks" / path.name if older else path))
    shown = []
    for path in records:
        title = "".join(json.loads(path.read_text())["cells"][0]["source"]).splitlines()[0].removeprefix("# ")
        shown.append(f"{title} ({path.parent.name}) <{path.relative_to(ROOT).with_suffix('')}>")
    pages = [
        "docs/results",
        "gallery",
        *shown,
        "docs/architecture",
        "docs/models",
        "docs/scale",
        "docs/performance",
        "docs/plans",
        "docs/prediction_plan",
        "CHANGELOG",
    ]
    index = SOURCE / "index.md"
    index.write_text(index.read_text() + "\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n")
    return sphinx(["-q", "-c", str(ROOT / "docs" / "site"), "-d", str(SOURCE / ".doctrees"), str(SOURCE), str(SITE)])


if __name__ == "__main__":
    sys.exit(build())

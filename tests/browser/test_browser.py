"""The suite as its reader meets it: JupyterLab, and the site, in a headless browser. Skipped where there is none.

Screenshots are kept in runs/browser/. Not covered: other browsers, hosted Jupyter, how a page looks (look at the screenshots).
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "runs" / "browser"
CHROME = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT = 90_000 * float(os.environ.get("BROWSER_SLOW", 1))  # milliseconds, on a busy machine

pytestmark = pytest.mark.skipif(CHROME is None, reason="no chromium: apt-get install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# JavaScript that speaks to JupyterLab itself: cells that are scrolled away are not in the page, in the model they are
NOW = "window.jupyterapp.shell.currentWidget"
CELLS = f"""() => {NOW}.content.widgets.map((c, i) => ({{i, type: c.model.type, source: c.model.sharedModel.getSource(),
  count: c.model.executionCount ?? null, outputs: c.model.type === 'code' ? c.model.outputs.toJSON().map(o => ({{
    type: o.output_type, name: o.name, mimes: Object.keys(o.data ?? {{}}), text: String(o.text ?? o.evalue ?? '').slice(0, 200)}})) : []}}))"""
SHOW = f"""async i => {{ const n = {NOW}.content; n.activeCellIndex = i; await n.scrollToItem(i, 'start'); }}"""
IDLE = f"""() => {NOW}.sessionContext.session?.kernel?.status === 'idle' && !{NOW}.content.widgets.some(
  c => c.model.executionState === 'running' || c.promptNode?.textContent?.includes('*'))"""


class Lab:
    """A page of JupyterLab, and what its console said."""

    def __init__(self, page, address: str) -> None:
        self.page, self.console = page, []
        page.on("console", lambda m: self.console.append(m.text[:200]) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.console.append(f"pageerror {e}"[:200]))
        page.goto(address)
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")

    def wait_open(self, path: str) -> None:
        there = f"p => {NOW}?.context?.path === p && {NOW}.context.isReady"
        self.page.wait_for_function(there, arg=path)
        self.page.wait_for_function(IDLE)

    def open(self, path: str) -> None:
        self.page.evaluate("p => window.jupyterapp.commands.execute('docmanager:open', {path: p}).then(() => 0)", path)
        self.wait_open(path)

    def run_all(self, limit: float) -> list[dict]:
        """The cells, all executed. An error output, or a red box of stderr, fails the test."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); return 0 }")
        time.sleep(1)
        self.page.wait_for_function(IDLE, timeout=limit * WAIT / 90, polling=300)
        cells = self.page.evaluate(CELLS)
        bad = [
            (c["i"], o["text"]) for c in cells for o in c["outputs"] if o["type"] == "error" or o["name"] == "stderr"
        ]
        assert not bad, bad
        assert all(c["count"] for c in cells if c["type"] == "code" and c["source"]), "every code cell was executed"
        return cells

    def show(self, cells: list[dict], text: str, shot: str) -> None:
        self.page.evaluate(SHOW, next(c["i"] for c in cells if text in c["source"]))
        time.sleep(1)
        self.page.screenshot(path=SHOTS / f"{shot}.png")


@pytest.fixture(scope="module")
def chrome():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(chrome, tmp_path_factory):
    """JupyterLab on a copy of the notebooks, so that the checkout stays clean."""
    home, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(8)
    for name in ("notebooks", "papermill_runs", "docs"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, home)
    theory = home / "notebooks" / "01_theory.ipynb"  # to its end, with smoke's values
    notebook = json.loads(theory.read_text())
    cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ()))
    values = yaml.safe_load((ROOT / "notebooks" / "profiles" / "smoke" / "01_theory.yaml").read_text())
    cell["source"] = "".join(cell["source"]) + "".join(f"\n{name} = {value!r}" for name, value in values.items())
    theory.write_text(json.dumps(notebook))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER{name}": str(home / ".jupyter") for name in ("_CONFIG_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / ".jupyter" / "w"), "IPYTHONDIR": str(home / ".ipython")}
    how = [f"--ServerApp.root_dir={home}", "--no-browser", f"--port={port}", f"--IdentityProvider.token={token}"]
    how += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--allow-root",
    ]
    with open(SHOTS / "server.log", "w") as log:
        command, env = [sys.executable, "-m", "jupyter", "lab", *how], os.environ | own
        server = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=2)
                    break
                except OSError:
                    time.sleep(0.5)
            page = chrome.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(WAIT)
            lab = Lab(page, f"http://127.0.0.1:{port}/lab/tree/notebooks/00_start_here.ipynb?token={token}")
            lab.wait_open("notebooks/00_start_here.ipynb")
            yield lab
        finally:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def test_the_start_page_boosts_and_its_browser_shows_samples(lab):
    lab.page.screenshot(path=SHOTS / "1_start.png")
    cells = lab.run_all(300)
    assert sum("image/png" in o["mimes"] for c in cells for o in c["outputs"]) == 1, "one curve, that grew"
    lab.show(cells, "curve = display", "2_first_boost")
    lab.show(cells, "panel = browse", "3_samples")
    menus = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .widget-dropdown select")
    table = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .widget-html-content table")
    assert "kept" in table.inner_text() and menus.count() == 5
    before = table.inner_text()
    menus.nth(3).select_option("2")
    lab.page.wait_for_function("b => document.querySelector('.widget-html-content table').innerText !== b", arg=before)
    lab.page.screenshot(path=SHOTS / "4_samples_of_round_2.png")


def test_a_link_of_the_start_page_opens_a_notebook_which_runs_as_it_stands(lab):
    lab.page.evaluate(SHOW, 0)
    lab.page.locator(".jp-RenderedMarkdown a:has-text('02 Boosting')").first.click()
    lab.wait_open("notebooks/02_gsm8k_boosting.ipynb")
    cells = lab.run_all(300)
    assert sum("image/png" in o["mimes"] for c in cells for o in c["outputs"]) >= 2
    lab.show(cells, "table = bl.boost(", "5_notebook_02")


def test_the_theory_runs_to_its_end_and_a_slider_redraws_its_picture(lab):
    lab.open("notebooks/01_theory.ipynb")
    cells = lab.run_all(500)
    lab.show(cells, "explorer.panel()", "6_explorer")
    image = "() => document.querySelector('.widget-image').src"
    lab.page.wait_for_selector(".widget-image")
    first, start = lab.page.evaluate(image), time.time()
    lab.page.locator(".noUi-handle").nth(2).focus()
    lab.page.keyboard.press("ArrowRight")
    lab.page.wait_for_function(f"f => ({image})() !== f", arg=first, polling=20)
    assert time.time() - start < 3, "a slider's step redraws at once"
    lab.page.screenshot(path=SHOTS / "7_explorer_moved.png")


def test_nothing_of_ours_went_wrong_in_the_console(lab):
    assert not lab.console, list(dict.fromkeys(lab.console))[:5]


def test_the_site_works_from_its_files(chrome):
    site = ROOT / "runs" / "site" / "index.html"
    if not site.exists():
        pytest.skip("no site: make site")
    page, console = chrome.new_page(viewport={"width": 1280, "height": 800}), []
    page.on("console", lambda m: console.append(m.text[:200]) if m.type == "error" else None)
    page.goto(site.as_uri())
    page.screenshot(path=SHOTS / "8_site.png")
    page.goto(site.with_name("gallery.html").as_uri())
    assert page.locator("img").count() > 10 and not page.locator("img:not([alt]), img[alt='']").count()
    lost = page.evaluate("() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
    assert not lost
    page.screenshot(path=SHOTS / "9_gallery.png")
    page.goto(site.with_name("search.html").as_uri() + "?q=labeler")
    page.wait_for_selector("#search-results li")
    assert re.search(r"\d", page.locator("#search-results").inner_text()) and not console, console

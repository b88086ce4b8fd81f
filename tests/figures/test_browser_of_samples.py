"""The sample browser: what was kept of a prompt's responses, in any round of any arm, also of runs found on disk."""

import boostlib as bl
from boostlib.figures.browser import browse, look, on_disk


def test_every_choice_shows_the_responses_of_its_round(chains, tabular, tmp_path, monkeypatch):
    task, test = chains
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    table = bl.boost(task, test, tabular, ["filter_only", "boosting"], rounds=2, k=2, shots=0, show=False)
    panel = browse({"this": table} | on_disk(), [task])
    menus, shown = {box.description: box for box in panel.children[0].children}, panel.children[1]
    assert [menus[name].value for name in ("run", "arm", "seed", "round")] == ["this", "boosting", 0, 0]
    assert menus["prompt"].options[0][0].endswith("(0 kept)"), "those of which nothing was kept come first"
    first = shown.value
    assert ">label<" in first
    menus["round"].value = 2
    assert shown.value != first and ">label<" not in shown.value, "the last round asks nobody"
    menus["run"].value = menus["run"].options[1][0]
    assert menus["arm"].value.startswith("boosting-") and "sample" in shown.value


def test_what_a_model_wrote_is_shown_and_never_becomes_part_of_the_page():
    import pandas as pd

    row = {
        "id": "a<b",
        "source": "sample",
        "response": "<script>alert(1)</script>",
        "status": "fail",
        "accepted": False,
    }
    assert "<script>" not in look(pd.DataFrame([row])) and "a&lt;b" in look(pd.DataFrame([row]))

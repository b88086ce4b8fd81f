"""Parameters are what was written, of the type that the notebook declares, and told before anything starts."""

import contextlib
import math
import re
import subprocess
import sys
import time

import pytest
import small_project
from hypothesis import given
from hypothesis import strategies as st

from boostlib.runner.parameters import choose, read_yaml, resolve, use_profile, written

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=6,
)
ARMS = """arms: list[str] = ["filter_only", "boosting"]
baseline: str = "filter_only"
seeds: list[int] = [0]
budget: int | None = None
lr: float = 0.001
sizes: dict[str, int] = {}
model: str = "tiny"
note = "free"  # of any type"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook that declares more than names of types."""
    small_project.project(tmp_path)
    monkeypatch.setattr(small_project, "PARAMETERS", ARMS)
    small_project.write(tmp_path, "03_mbpp_boosting", "1 + 1")
    monkeypatch.chdir(tmp_path)
    return choose(["03"], tmp_path)[0]


@given(PLAIN)
def test_the_recorded_command_gives_the_same_values_back(value):
    assert read_yaml(written(value), "here") == value


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e-5, 1e22, "010", "1:30", "~", "null", "😀 é\n", "- a", "#"])
def test_values_that_yaml_or_json_bend_come_back_as_they_are(value):
    assert read_yaml(written(value), "here") == value
    assert math.isnan(read_yaml(written(math.nan), "here"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", "010"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("no", "no"), ("1_000", "1_000"), ("0x10", "0x10")]
    + [
        ("1e-5", 1e-5),
        (".inf", math.inf),
        ("-3", -3),
        ("true", True),
        ("~", None),
        ("~/x", "~/x"),
        ("{2: 0.5}", {2: 0.5}),
    ],
)
def test_what_is_written_is_what_is_meant(text, value):
    found = read_yaml(text, "here")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["!!set {a, b}", "!!timestamp 2024-01-01", "{a: 1, a: 2}", "{2: 1, '2': 1}", "[", "*a", "{[1]: 2}"]
)
def test_what_is_no_plain_data_is_refused_with_its_place(text):
    with pytest.raises(ValueError, match="^-p x is not YAML of plain values"):
        read_yaml(text, "-p x")


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [(1, "int", True), (True, "int", False), (1, "float", True), (True, "float", False), (math.inf, "float", True)]
    + [("1", "int", False), (None, "int | None", True), (1.5, "int | None", False), ([1, 2], "list[int]", True)]
    + [([1.5], "list[int]", False), ([True], "list[int]", False), (["0"], "list[int]", False)]
    + [("[0, 1]", "list[int]", False), ({"a": 1}, "dict[str, int]", True), ({"a": "b"}, "dict[str, int]", False)],
)
def test_types_reach_into_lists_mappings_and_unions(notebook, monkeypatch, value, kind, right):
    monkeypatch.setattr(small_project, "PARAMETERS", f"x: {kind} = None")
    small_project.write(notebook.parents[1], notebook.stem, "1 + 1")
    with contextlib.nullcontext() if right else pytest.raises(ValueError, match=re.escape(f"must be of type {kind}")):
        assert resolve(notebook, "mini", {"x": value}).parameters["x"] is value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seeds", [1.5], "seeds = [1.5] is not possible (profile mini): it must be of type list[int]"),
        ("seeds", [True], "seeds = [True] is not possible"),
        ("seeds", "[0, 1]", "seeds = '[0, 1]' is not possible"),
        ("budget", "010", "budget = '010' is not possible (profile mini): it must be of type int | None"),
        ("arms", ["boosting", "bosting"], "unknown arm 'bosting': there are do_nothing, filter_only"),
        ("baseline", "none", "baseline = 'none' is none of the arms: filter_only, boosting"),
        ("lr", -1.0, "lr = -1.0 is not possible: it must be"),
    ],
)
def test_a_wrong_value_names_notebook_parameter_and_what_would_be_right(notebook, name, value, message):
    with pytest.raises(ValueError) as told:
        resolve(notebook, "mini", {name: value})
    assert message in str(told.value) and str(told.value).startswith("03_mbpp_boosting.ipynb: ")


def test_a_wrong_value_is_told_within_a_second(notebook):
    words = [sys.executable, "-m", "boostlib", "run", "03", "-p", "arms", "[bosting]"]
    took = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True)
        took.append(time.perf_counter() - start)
    assert done.returncode == 2 and "unknown arm 'bosting'" in done.stderr and len(done.stderr.splitlines()) == 1
    assert min(took) < 1


def test_none_whole_numbers_for_floats_and_the_home_folder_are_taken(notebook, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    job = resolve(notebook, "mini", {"budget": None, "lr": 1, "model": "~/models/x", "note": [1]})
    assert job.parameters["model"] == "/home/someone/models/x" and job.parameters["note"] == [1]


def test_what_differs_from_the_profile_is_in_the_label_and_what_does_not_is_not(notebook):
    assert resolve(notebook, "mini", {"lr": 0.001, "seeds": [0]}).label == "mini"
    assert resolve(notebook, "mini", {"lr": 0.1}).label == "mini+lr=0.1"
    odd = [resolve(notebook, "mini", {"model": text}).label for text in ("../../x", "..x", "a/b", "ab", "a" * 300)]
    assert len(set(odd)) == 5 and all("/" not in label and len(label) < 100 for label in odd)


def test_a_notebook_is_read_again_when_it_was_changed(notebook, tmp_path, monkeypatch):
    resolve(notebook, "mini", {"lr": 0.1})
    monkeypatch.setattr(small_project, "PARAMETERS", "rate: float = 0.5")
    small_project.write(tmp_path, "03_mbpp_boosting", "1 + 1")
    with pytest.raises(ValueError, match="has no parameter 'lr'"):
        resolve(notebook, "mini", {"lr": 0.1})


def test_a_profile_is_taken_over_in_jupyter_and_leaves_what_papermill_gave(notebook, capsys):
    (notebook.parent / "profiles" / "mini" / f"{notebook.stem}.yaml").write_text("lr: 0.5\nseeds: [0, 1]\n")
    for cell, lr in {"lr: float = 0.001": 0.5, "# Parameters\nlr = 0.2": 0.001}.items():
        names = {"lr": 0.001, "seeds": [0], "_ih": ["", cell]}
        use_profile("03", "mini", names)
        assert (names["lr"], names["seeds"]) == (lr, [0, 1] if lr == 0.5 else [0])
    assert capsys.readouterr().out == "profile mini: lr = 0.5, seeds = [0, 1]\n"
    names = {"lr": 0.1}
    use_profile("03", "smoke", names)
    with pytest.raises(ValueError, match="unknown profile 'big': there are mini, smoke"):
        use_profile("03", "big", names)
    assert names == {"lr": 0.1}

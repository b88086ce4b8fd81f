"""Figures: the same bytes for the same data, names that do not overlap, colours that stay apart."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation
from PIL import Image

from boostlib import figures
from boostlib.analysis import intervals


def round_table(arms=tuple(figures.ARMS), seeds=3, rounds=4, ends=None):
    rng, rows = np.random.default_rng(0), []
    for arm, seed, r in itertools.product(arms, range(seeds), range(rounds)):
        end = (ends or {}).get(arm, 0.3 + 0.02 * list(figures.ARMS).index(arm))
        accuracy = 0.2 + (end - 0.2) * r / (rounds - 1) + rng.normal(0, 0.005)
        row = {"arm": arm, "seed": seed, "round": r, "test_accuracy": accuracy, "n_test": 200, "k": 8}
        train = accuracy if r else np.nan  # round 0 has sampled nothing yet
        rows.append(row | {"train_accuracy": train, "train_accuracy_at_k": 1.5 * train, "n_train": 500})
    return pd.DataFrame(rows)


def level_table():
    rows = [
        {"arm": arm, "seed": seed, "round": r, "level": level, "accuracy": 0.9 - 0.1 * level + 0.01 * r, "n": 40}
        for arm, seed, r, level in itertools.product(["filter_only", "boosting"], range(2), range(3), range(1, 6))
    ]
    return pd.DataFrame(rows)


def names_at_ends(fig):
    fig.draw_without_rendering()
    notes = [a for ax in fig.axes for a in ax.texts if isinstance(a, Annotation) and a.get_text()]
    return notes, [note.get_window_extent() for note in notes]


@pytest.fixture(autouse=True, scope="module")
def project_style():
    figures.style()


def test_saving_twice_gives_the_same_bytes_with_the_manifest_hash_inside(tmp_path):
    table = round_table(arms=["filter_only", "boosting"])
    first = figures.save(figures.by_round(table), "curve", table, "f00d" * 16, tmp_path / "a")
    second = figures.save(figures.by_round(table), "curve", table, "f00d" * 16, tmp_path / "b")
    assert [p.name for p in first] == ["curve.png", "curve.pdf", "curve.csv"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    png, pdf, csv = first
    assert Image.open(png).text == {"Manifest": "f00d" * 16}
    assert b"f00d" * 16 in pdf.read_bytes() and b"CreationDate" not in pdf.read_bytes()
    back = pd.read_csv(csv)
    assert (back.pop("manifest") == "f00d" * 16).all()
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in first}  # no temporary file stays


def test_a_notebook_shows_the_picture_of_a_figure_not_its_name():
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "from boostlib import figures; figures.style()",
        "from matplotlib.figure import Figure; fig = Figure((1, 1)); fig.subplots(); fig",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert "image/png" in notebook.cells[1].outputs[0].data


def test_saving_without_a_manifest_hash_is_refused(tmp_path):
    with pytest.raises(ValueError, match="manifest"):
        figures.save(figures.by_round(round_table()), "curve", round_table(), "", tmp_path)


@pytest.mark.parametrize(
    "ends",
    [
        None,
        dict.fromkeys(figures.ARMS, 0.35),  # all at one point
        dict.fromkeys(figures.ARMS, 0.35) | {"do_nothing": 0.02},  # a pile at the top edge
        {"do_nothing": 0.01, "filter_only": 0.011, "self_labeled": 0.9},
    ],
)
def test_names_at_line_ends_never_overlap(ends):
    notes, boxes = names_at_ends(figures.by_round(round_table(ends=ends)))
    assert {note.get_text() for note in notes} == set(figures.ARMS.values())
    for (a, one), (b, other) in itertools.combinations(zip(notes, boxes, strict=True), 2):
        assert not one.shrunk(1, 0.9).overlaps(other.shrunk(1, 0.9)), (a.get_text(), b.get_text())


def test_names_at_line_ends_stay_inside_the_figure_in_the_order_of_the_lines():
    fig = figures.by_round(round_table())
    notes, boxes = names_at_ends(fig)
    assert all(box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1 and box.y0 >= 0 for box in boxes)
    heights = {note.get_text(): box.y0 for note, box in zip(notes, boxes, strict=True)}
    assert list(heights) == sorted(heights, key=heights.get) == list(figures.ARMS.values())


def test_the_drawn_band_is_the_t_interval_over_seeds():
    table = round_table(arms=["boosting"])
    drawn = figures.summarise(table, "test_accuracy", ["arm", "round"], "n_test").set_index("round")
    expected = intervals.mean_interval(table.loc[table["round"] == 3, "test_accuracy"])
    assert drawn.loc[3, ["mean", "low", "high"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high]
    )


def test_one_seed_gets_the_interval_over_prompts_and_the_figure_says_so():
    table = round_table(arms=["boosting"], seeds=1)
    drawn = figures.summarise(table, "test_accuracy", ["arm", "round"], "n_test").set_index("round")
    share = table.loc[table["round"] == 3, "test_accuracy"].item()  # of k samples a prompt: no whole number of prompts
    assert drawn.loc[3, "mean"] == share and drawn.loc[3, "low"] == pytest.approx(
        intervals.proportion(share * 200, 200).low
    )
    assert "one seed" in figures.by_round(table).get_supxlabel()
    assert "3 seeds" in figures.by_round(round_table(arms=["boosting"])).get_supxlabel()


def test_levels_get_a_panel_each_and_arms_one_colour():
    fig = figures.accuracy_by_level(level_table())
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left")[:7] for ax in shown] == [f"level {i}" for i in range(1, 6)]
    colours = {line.get_color() for ax in shown for line in ax.lines}
    assert colours == {figures.ARM_COLOURS[arm] for arm in ("filter_only", "boosting")}


def test_arms_of_the_users_own_are_drawn_in_spare_colours_after_the_known():
    table = pd.concat([round_table(arms=["boosting"]).assign(arm="mine_too"), round_table(arms=["boosting"])])
    assert list(figures.colours_of(table["arm"])) == ["boosting", "mine_too"]
    notes, _ = names_at_ends(figures.by_round(table))
    assert {note.get_text(): note.get_color() for note in notes} == {
        "boosting": figures.ARM_COLOURS["boosting"],
        "mine too": figures.SPARE[0],
    }
    with pytest.raises(ValueError, match="can be told apart"):
        figures.colours_of([f"arm {i}" for i in range(20)])


def test_known_arms_and_policies_all_have_a_colour():
    from boostlib.allocation import POLICIES
    from boostlib.boosting.settings import ARMS

    assert list(figures.ARMS) == list(ARMS) and set(figures.COLOURS) >= set(ARMS) | set(POLICIES)


# linear RGB as a dichromat sees it (Viénot, Brettel and Mollon 1999)
DICHROMAT = {
    "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    "none": np.eye(3),
}


def lab(colour, matrix):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", DICHROMAT)
def test_arm_colours_stay_apart_for_colour_blind_readers(sight):
    for a, b in itertools.combinations(figures.ARM_COLOURS, 2):
        one, other = (lab(figures.ARM_COLOURS[arm], DICHROMAT[sight]) for arm in (a, b))
        assert np.linalg.norm(one - other) > 20, (a, b, sight)  # 2.3 is just noticeable

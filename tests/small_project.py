"""A project of small notebooks for the tests of the command line: no model, a kernel that starts in a second."""

from pathlib import Path

import nbformat

PARAMETERS = """profile: str = "none"  # its profile
x: int = 1  # a number
rate: float = 0.5  # another
seeds: list = [0]  # a list
switch: str = ""  # a file that mends what fails"""

WORK = """from pathlib import Path
from boostlib import experiment
from boostlib import runs
class Table:
    def to_csv(self, **how):
        return f"round,value\\n0,{27720 / (x or Path(switch).exists()):.10g}\\n1,{rate}\\n"
print(experiment.save_tables("01_small", profile, {"rounds": Table()}, {"x": x}).relative_to(runs.project_root()))"""

LOOP = """import boostlib as bl
from boostlib.learners.tabular import TabularLearner
task, test = bl.load_task("arithmetic", "train", n=4), bl.load_task("arithmetic", "test", n=2)
table = {p.prompt: {p.reference: 0.5, "0#0.5": 0.5} for t in (task, test) for p in t.problems}
bl.boost(task, test, TabularLearner(table), arms=["filter_only", "boosting"], seeds=seeds, rounds=x, k=2, steps=1,
         batch_size=2, shots=0, show=False).test_accuracy.tolist()"""


def write(folder: Path, name: str, *cells: str) -> Path:
    made = [nbformat.v4.new_markdown_cell("# A title")]
    made.append(nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    made += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nb = nbformat.v4.new_notebook(cells=made)
    nb.metadata["kernelspec"] = {"name": "boostlib", "display_name": "boostlib", "language": "python"}
    path = folder / "notebooks" / f"{name}.ipynb"
    nbformat.write(nb, path)
    return path


def project(folder: Path) -> Path:
    """01 leaves a table (x = 0 fails), 02 runs loops, 05 needs 02."""
    (folder / "pyproject.toml").touch()
    (folder / "notebooks" / "profiles" / "mini").mkdir(parents=True)
    (folder / "notebooks" / "profiles" / "smoke").mkdir(parents=True)
    write(folder, "01_small", WORK)
    write(folder, "02_gsm8k_boosting", LOOP)
    write(folder, "05_theory_meets_runs", "print('read')")
    return folder

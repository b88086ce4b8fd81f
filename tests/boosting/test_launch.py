"""Two processes of `accelerate launch` share out the batches of a fine-tuning: the same training as one process."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from boostlib.learners import Example, training
from boostlib.learners.load import load_learner

seen, loss = 0, training.response_loss
def counted(model, rows, *others):
    global seen
    seen += len(rows)
    return loss(model, rows, *others)
training.response_loss = counted
learner = load_learner("tiny", hidden=16, layers=1, device="cpu", threads=1)
examples = [Example(f"{a}+{b}=", str(a + b) * (1 + a), 1.0 + a) for a in range(4) for b in range(4)]
result = learner.fine_tune(examples, steps=6, batch_size=5, lr=1e-2, seed=0)
told = {"rows": seen, "weights": learner.fingerprint()} | {k: result[k] for k in ("loss_first", "loss_last", "tokens")}
print(json.dumps(told), file=open(f"{sys.argv[1]}-{training.processes(learner.device)[0]}.json", "w"))
"""
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]


def test_two_processes_train_as_one_does_each_on_its_share(tmp_path):
    (tmp_path / "tune.py").write_text(SCRIPT)
    for name, launcher in (("one", []), ("two", LAUNCH)):
        words = [sys.executable, *launcher, str(tmp_path / "tune.py"), str(tmp_path / name)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1"))
    assert one["rows"] == 6 * 5 and (first["rows"], second["rows"]) == (6 * 3, 6 * 2)
    assert first["weights"] == second["weights"] and first["tokens"] == one["tokens"]
    for name in ("loss_first", "loss_last"):
        assert first[name] == second[name] == pytest.approx(one[name], rel=1e-5)
    assert one["loss_last"] < one["loss_first"]

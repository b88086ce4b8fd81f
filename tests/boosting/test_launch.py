"""Two processes of `accelerate launch` share out weights and batches of a fine-tuning: the same training as one process."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from boostlib.learners import Example, training
from boostlib.learners.load import load_learner

held, sharded = [], training.sharded
def watched(*given):
    made = sharded(*given)
    held.append(sum(p.to_local().numel() for p in made.parameters()) / sum(p.numel() for p in made.parameters()))
    return made
training.sharded, told = watched, []
examples = [Example(f"{a}+{b}=", str(a + b) * (1 + a), 1.0 + a) for a in range(4) for b in range(4)]
for rank in 0, 2:
    learner = load_learner("tiny", hidden=16, layers=2, device="cpu", threads=1, lora_rank=rank, micro_tokens=16)
    result = learner.fine_tune(examples, steps=6, batch_size=5, lr=1e-2, seed=0)
    (sample,), = learner.sample(["1+2="], 1, keys=[(0,)])
    told.append([result["loss_first"], result["loss_last"], result["tokens"], sample.text, learner.fingerprint()])
print(json.dumps([told, held]), file=open(f"{sys.argv[1]}-{training.processes(learner.device)[0]}.json", "w"))
"""
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]


def test_two_processes_train_as_one_does_each_on_its_share(tmp_path):
    (tmp_path / "tune.py").write_text(SCRIPT)
    for name, launcher in (("one", []), ("two", LAUNCH)):
        words = [sys.executable, *launcher, str(tmp_path / "tune.py"), str(tmp_path / name)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    (one, whole), (first, held), (second, rest) = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1")
    )
    assert not whole and all(0.4 < share < 0.6 for share in held + rest) and len(held) == len(rest) == 2
    assert first == second
    for alone, shared in zip(one, first, strict=True):
        assert alone[:3] == pytest.approx(shared[:3], rel=1e-5) and alone[3] == shared[3]
        assert alone[1] < alone[0]

"""The paper's own profile, rehearsed with a tiny Gemma 2; and what a rehearsal must not miss."""

import os
import subprocess
import sys

import pytest

from benchmarks import rehearse as r


def test_the_paper_profile_is_rehearsed_as_it_stands():
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    script = "from benchmarks.rehearse import rehearse; rehearse(['paper'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILS" not in done.stdout
    for line in (
        "sampled: the tokenizer's own tokens in 4 of 4 texts, start token '<bos>'",
        "trained: the tokenizer's own tokens in 8 of 8 texts",
        "goes on with micro_tokens 8192: 0 of",
        "8,688,029 responses: 168,000 of f_0, 5,040,000 of later models, 3,360,000 labels, 120,029 greedy",
        "20 checkpoints of 10.5 GB",
    ):
        assert line in done.stdout, f"{line}\n{done.stdout}"


def test_lost_tokens_and_long_prompts_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from benchmarks.shapes import shaped
    from boostlib.learners.load import load_learner
    from boostlib.tasks import load_task

    task, p = load_task("gsm_symbolic", "train", n=8, seed=0), {"shots": 1}
    config, tokenizer, told = r.model_of("google/gemma-2-2b", [q.prompt + q.reference for q in task.problems])
    assert "out of reach" in told
    tiny = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=16)
    learner = load_learner(r.saved(shaped(config, vocab_size=len(tokenizer), **tiny), tokenizer, tmp_path / "gemma"))
    assert [ok for ok, _ in r.check_tokens(learner, task, p)] == [True, True]
    learner.tokens.start = []
    assert [ok for ok, _ in r.check_tokens(learner, task, p)] == [False, False]
    fits, line, at = r.check_lengths(learner, task, p, 8192)
    most = at.shared + at.longest + task.max_new_tokens
    assert fits and line.endswith(f"{most} of 8192 positions")
    assert r.check_lengths(learner, task, p, most)[0] and not r.check_lengths(learner, task, p, most - 1)[0]


def test_memory_is_that_of_the_true_sizes():
    from transformers import AutoConfig

    from benchmarks.shapes import activations, size

    config = AutoConfig.for_model(**r.KNOWN["google/gemma-2-2b"])
    assert size(config) == 2_614_341_888, "as published"
    at = r.Lengths(shared=300, prompt=70, response=107, longest=250)
    p, paper = {"k": 8, "max_new_tokens": 256}, {"dtype": "bfloat16", "gradient_checkpointing": True, "slots": 256}
    assert r.check_memory(config, paper | {"micro_tokens": 16384}, p, at)[0]
    fits, line = r.check_memory(config, paper | {"micro_tokens": 16384, "gradient_checkpointing": False}, p, at)
    assert not fits and line.endswith("lower micro_tokens or slots, or set gradient_checkpointing")
    small = dict(vocab_size=64, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)
    small = AutoConfig.for_model("llama", num_key_value_heads=1, **small)
    twice = [activations(small, 64, 64, n, {}) for n in (4096, 8192)]
    assert twice[1] == pytest.approx(2 * twice[0], rel=0.05)

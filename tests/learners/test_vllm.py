"""The vLLM engine: a child process, the same prompts, seeds by key. vLLM itself is played by a stand-in."""

import sys

import pytest

from boostlib.learners import Sampling
from boostlib.learners.load import load_learner

STAND_IN = '''
"""Answers each request with its seed, so that a test sees what arrived."""
import json, os
from types import SimpleNamespace as N

class SamplingParams:
    def __init__(self, **options): self.options = options

class LLM:
    def __init__(self, **options):
        assert os.path.isfile(options["model"] + "/config.json") and options["enable_prefix_caching"]
        assert not os.environ.get("VLLM_BROKEN"), "out of memory"
    def generate(self, prompts, settings):
        def one(p, s):
            text = json.dumps([p["prompt_token_ids"], s.options])
            return N(outputs=[N(text=text, token_ids=[5, 6, 1], finish_reason="stop" if s.options["seed"] % 2 else "length")])
        return [one(p, s) for p, s in zip(prompts, settings, strict=True)]
'''
SMALL = dict(hidden=32, layers=2, heads=2, engine="vllm")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "vllm.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield
    sys.modules.pop("vllm", None)


def test_a_missing_vllm_is_named():
    with pytest.raises(ValueError, match=r"engine 'vllm' needs the package vllm: pip install 'boostlib\[vllm\]'"):
        load_learner("tiny", **SMALL)
    with pytest.raises(ValueError, match="unknown engine 'tgi': one of transformers, vllm"):
        load_learner("tiny", engine="tgi")


def test_prompts_and_seeds_reach_the_child(stand_in):
    import json

    learner, seen = load_learner("tiny", **SMALL), []
    options = dict(sampling=Sampling(temperature=0.5, max_new_tokens=7, prefix="1+1=2;", stop=(";",)))
    prompts, keys = ["2+2=", "3+3="], [(0, 1), (0, 2)]
    out = learner.sample(prompts, 3, keys=keys, progress=lambda s, t: seen.append((s, t)), **options)
    sent = [[json.loads(r.text) for r in group] for group in out]
    assert [[p for p, _ in group] for group in sent] == [[learner.tokens.ids(["1+1=2;" + p])[0]] * 3 for p in prompts]
    seeds = [[s["seed"] for _, s in group] for group in sent]
    assert len({s for group in seeds for s in group}) == 6
    assert all(
        r.finished == bool(s % 2) and r.tokens == 3
        for g, h in zip(out, seeds, strict=True)
        for r, s in zip(g, h, strict=True)
    )
    assert sent[0][0][1] | {"seed": 0} == {
        "temperature": 0.5, "top_p": 1.0, "max_tokens": 7, "stop": [";"], "stop_token_ids": [1], "seed": 0
    }  # fmt: skip
    assert seen == [(6, 18)]
    swapped = learner.sample(prompts[::-1], 3, keys=keys[::-1], **options)
    assert swapped == out[::-1], "a sample depends on its key alone"


def test_a_failing_child_is_one_sentence(stand_in, monkeypatch):
    monkeypatch.setenv("VLLM_BROKEN", "1")
    learner = load_learner("tiny", **SMALL)
    with pytest.raises(RuntimeError, match="status 1: AssertionError: out of memory"):
        learner.sample(["2+2="], 1, keys=[(0,)])

"""The engine samples what the model says, whatever the batch, the order and the shard."""

import numpy as np
import pytest
import torch
from scipy import stats

from boostlib.learners import Sampling, lm, tiny
from boostlib.learners import engine as sampling
from boostlib.learners.drawing import draw, uniforms
from boostlib.learners.engine import Engine
from boostlib.learners.lm import LMLearner

torch.set_num_threads(1)
PROMPTS = ["12+3=", "9=", "12+3-4*5=", "7*7=", "1-1=", "(3+4)*2=", "88=", "5+5+5+5="]
KEYS = [(0, 1, 2, n) for n in range(len(PROMPTS))]


def small(family="llama", tie=True, seed=3, **shape):
    """A random model with sharpened weights, so that its distributions are far from uniform."""
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

    tokenizer = tiny.tokenizer()
    config = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "gemma2": Gemma2Config}[family]
    sizes = dict(
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        head_dim=8, intermediate_size=64, max_position_embeddings=256, tie_word_embeddings=tie,
        pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(**{**sizes, **shape}))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(3.0) if p.ndim > 1 else p.add_(0.1 * torch.randn_like(p))
    return LMLearner("tiny", model, tokenizer, slots=16)


def greedy_by_generate(learner, prompt, n):
    ids = torch.tensor(learner.tokens.ids([prompt]))
    out = learner.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, pad_token_id=0
    )
    return out[0, ids.shape[1] :].tolist()


def tokens(learner, prompts, k=1, keys=None, temperature=0.0, n=24, prefix="", slots=16):
    keys = keys or KEYS[: len(prompts)]
    ids, shared = learner.tokens.ids(prompts), learner.tokens.ids([prefix])[0] if prefix else []
    engine = Engine(learner.model, slots)
    out = engine.sample(ids, k, keys, Sampling(temperature, n), shared, lambda t: t[-1] == 1)
    return [[s.tokens for s in group] for group in out]


@pytest.mark.parametrize(
    ("family", "tie"), [("llama", True), ("llama", False), ("mistral", False), ("qwen2", True), ("gemma2", True)]
)
@pytest.mark.parametrize("prefix", ["", "1+1=2;3+4=7;2*8=16;"])
def test_greedy_equals_generate(family, tie, prefix):
    learner = small(family, tie)
    ours = tokens(learner, PROMPTS, prefix=prefix)
    assert [group[0] for group in ours] == [greedy_by_generate(learner, prefix + p, 24) for p in PROMPTS]


def test_sampled_tokens_follow_the_softmax():
    learner, prompt, k = small(seed=5), "12+3=", 4000
    samples = tokens(learner, [prompt], k=k, temperature=0.7, n=2, prefix="7=7;", slots=512)[0]
    ids = torch.tensor(learner.tokens.ids(["7=7;" + prompt]))
    with torch.inference_mode():
        first = (learner.model(ids).logits[0, -1].double() / 0.7).softmax(-1).numpy()
    seen = np.bincount([s[0] for s in samples], minlength=len(first))
    likely = first * k >= 5
    assert likely.sum() >= 3
    pooled = np.append(seen[likely], seen[~likely].sum()), np.append(first[likely], first[~likely].sum()) * k
    keep = pooled[1] > 0
    assert stats.chisquare(pooled[0][keep], pooled[1][keep] * k / pooled[1][keep].sum()).pvalue > 1e-3
    # the second token, given the most frequent first one
    top = int(seen.argmax())
    with torch.inference_mode():
        second = learner.model(torch.cat((ids, torch.tensor([[top]])), 1)).logits[0, -1].double() / 0.7
    second = second.softmax(-1).numpy()
    seen = np.bincount([s[1] for s in samples if s[0] == top], minlength=len(second))
    likely = second * seen.sum() >= 5
    pooled = np.append(seen[likely], seen[~likely].sum()), np.append(second[likely], second[~likely].sum()) * seen.sum()
    keep = pooled[1] > 0
    assert stats.chisquare(pooled[0][keep], pooled[1][keep] * seen.sum() / pooled[1][keep].sum()).pvalue > 1e-3


def test_order_shards_and_slots_do_not_change_samples():
    learner = small()
    whole = tokens(learner, PROMPTS, k=3, temperature=1.0, prefix="1+1=2;")
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    shuffled = tokens(
        learner, [PROMPTS[i] for i in order], k=3, keys=[KEYS[i] for i in order], temperature=1.0, prefix="1+1=2;"
    )
    assert [shuffled[order.index(i)] for i in range(len(PROMPTS))] == whole
    halves = [tokens(learner, PROMPTS[s], 3, KEYS[s], 1.0, prefix="1+1=2;") for s in (slice(0, 3), slice(3, None))]
    assert halves[0] + halves[1] == whole
    for slots in (3, 7, 64):
        assert tokens(learner, PROMPTS, k=3, temperature=1.0, prefix="1+1=2;", slots=slots) == whole
    assert tokens(learner, PROMPTS, k=5, temperature=1.0, prefix="1+1=2;")[2][:3] == whole[2]
    lengths = {len(t) for group in whole for t in group}
    assert len(lengths) > 3, "the samples should end at different times, or nothing was retired"


def test_a_sample_may_end_at_its_first_token():
    learner = small()
    out = tokens(learner, PROMPTS, k=20, temperature=2.0, n=6)
    assert any(t == [1] for group in out for t in group)
    assert all(1 not in t[:-1] for group in out for t in group)
    assert {len(t) for group in tokens(learner, PROMPTS, k=2, temperature=1.0, n=1) for t in group} == {1}


def test_draw_inverts_the_distribution_function():
    logits = torch.tensor([[0.0, 1.0, 2.0, -30.0]]).repeat(6, 1)
    p = logits[0].softmax(-1)
    edges = p.cumsum(-1)
    u = torch.tensor([0.0, edges[0] - 1e-4, edges[0] + 1e-4, edges[1] - 1e-4, edges[1] + 1e-4, 0.9999999])
    assert draw(logits, u, 1.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_draw_agrees_over_blocks_of_a_large_vocabulary():
    torch.manual_seed(0)
    logits, u = torch.randn(200, 2000) * 3, torch.rand(200)
    p = logits.double().softmax(-1).cumsum(-1)
    assert draw(logits.clone(), u, 1.0).tolist() == (p <= u[:, None]).sum(-1).tolist()


def test_top_p_keeps_the_likeliest_tokens_and_their_ratios():
    p = torch.tensor([0.1, 0.4, 0.3, 0.15, 0.05])
    n = 20_000
    drawn = draw(p.log().repeat(n, 1), torch.rand(n, generator=torch.Generator().manual_seed(0)), 1.0, top_p=0.7)
    share = np.bincount(drawn, minlength=5) / n
    assert share == pytest.approx([0, 4 / 7, 3 / 7, 0, 0], abs=0.02)
    drawn = draw(p.log().repeat(n, 1), torch.rand(n, generator=torch.Generator().manual_seed(0)), 1.0, top_p=0.71)
    assert set(drawn.tolist()) == {1, 2, 3}
    assert draw(p.log()[None], torch.tensor([0.999]), 1.0, top_p=1e-6).tolist() == [1]


def test_top_p_reaches_both_samplers(monkeypatch):
    asked = dict(keys=KEYS[:2], sampling=Sampling(max_new_tokens=12, top_p=1e-9))
    greedy = dict(keys=KEYS[:2], sampling=Sampling(temperature=0.0, max_new_tokens=12))
    for drives in (True, False):
        monkeypatch.setattr(lm, "drives", lambda _, drives=drives: drives)
        learner = small()
        assert learner.sample(PROMPTS[:2], 2, **asked) == learner.sample(PROMPTS[:2], 2, **greedy)
    with pytest.raises(ValueError, match="top_p"):
        Sampling(top_p=0.0)


def test_uniforms_depend_on_key_and_sample_alone():
    assert np.array_equal(uniforms((1, 2), 3, 5), uniforms((1, 2), 3, 9)[:5])
    assert not np.array_equal(uniforms((1, 2), 3, 5), uniforms((1, 3), 2, 5))


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="prompt 1 and its response may take 259 tokens, the model has 256 positions"):
        small().sample(["1=", "1+1+1="], 1, keys=[(0,), (1,)], sampling=Sampling(max_new_tokens=250, prefix="1+1"))


def test_progress_adds_up():
    learner, seen = small(), []
    out = learner.sample(
        PROMPTS, 3, keys=KEYS, progress=lambda s, t: seen.append((s, t)), sampling=Sampling(max_new_tokens=12)
    )
    assert sum(s for s, _ in seen) == 24
    assert sum(t for _, t in seen) == sum(r.tokens for group in out for r in group)


def test_one_long_prompt_does_not_make_every_store_long(monkeypatch):
    """One test problem of MBPP has 3,730 tokens, the others some 120: stores for all as long as that took 22 GB."""
    monkeypatch.setattr(sampling, "BAND", 16)
    sizes = []
    make = sampling._Run.__init__
    monkeypatch.setattr(sampling._Run, "__init__", lambda run, *a: (make(run, *a), sizes.append(run.shared.shape))[0])
    learner, prompts = small(), [*PROMPTS[:4], "1+" * 40 + "1=", *PROMPTS[4:]]
    keys = [(0, 1, 2, n) for n in range(len(prompts))]
    ours = tokens(learner, prompts, keys=keys)
    assert [group[0] for group in ours] == [greedy_by_generate(learner, p, 24) for p in prompts]
    assert [(shape[2], shape[4]) for shape in sizes] == [(8, 9), (1, 82)]  # prompts side by side, their longest


def test_prompts_about_as_long_as_the_longest_run_together(monkeypatch):
    """The borders halve from the longest prompt: lengths that straddle BAND are no reason for two half-filled runs."""
    monkeypatch.setattr(sampling, "BAND", 8)
    lengths = []
    make = sampling._Run.__init__
    monkeypatch.setattr(sampling._Run, "__init__", lambda run, *a: (make(run, *a), lengths.append(len(a[2])))[0])
    learner, prompts = small(), ["1+2+3=", "1+2+33=", "1+22+33=", "11+22+33=", "11+22+333="]
    ours = tokens(learner, prompts)
    assert lengths == [5]
    assert [group[0] for group in ours] == [greedy_by_generate(learner, p, 24) for p in prompts]

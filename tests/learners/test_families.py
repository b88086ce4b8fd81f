"""Any decoder of transformers: what the engine samples is what `generate` says, what is trained is the plain padded step."""

import pytest
import torch
from family_tokenizers import TEXTS, tokenizer
from plain_step import plain_loss
from transformers import AutoConfig, AutoModelForCausalLM

from boostlib.learners import Example, Sampling, training
from boostlib.learners.drawing import by_generate
from boostlib.learners.engine import Engine
from boostlib.learners.lm import LMLearner

torch.set_num_threads(1)
LLAMA = dict(
    hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, intermediate_size=64,
    max_position_embeddings=512, head_dim=8,
)  # fmt: skip
WINDOW = 9  # shorter than every prompt
ROPE = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES = {  # model type -> its own settings; layers enough for each kind of attention
    "llama": dict(**LLAMA, rope_parameters=ROPE),
    "mistral": dict(**LLAMA, sliding_window=WINDOW),
    "qwen2": dict(LLAMA, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    "qwen3": dict(**LLAMA),
    "gemma": dict(**LLAMA),
    "gemma2": dict(**LLAMA, sliding_window=WINDOW, query_pre_attn_scalar=8),
    "gemma3_text": dict(LLAMA, num_hidden_layers=3, sliding_window=WINDOW, layer_types=["sliding_attention"] * 2 + ["full_attention"]),
    "phi3": dict(LLAMA, sliding_window=WINDOW, pad_token_id=0),
    "olmo2": dict(**LLAMA),
    "smollm3": dict(LLAMA, num_hidden_layers=4),
    "granite": dict(**LLAMA, logits_scaling=3.0, embedding_multiplier=2.0, attention_multiplier=0.3, residual_multiplier=0.7),
    "cohere2": dict(LLAMA, num_hidden_layers=4, sliding_window=WINDOW, logit_scale=0.25),
    "gpt2": dict(n_embd=48, n_layer=2, n_head=4, n_positions=512),
    "gpt_neox": dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=512),
    "mixtral": dict(**LLAMA, num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW),
}  # fmt: skip
BY_GENERATE = {  # other memory than keys and values, sinks, or rotations that depend on the longest text
    "bloom": dict(hidden_size=48, n_layer=2, n_head=4),
    "mamba": dict(hidden_size=48, num_hidden_layers=2, state_size=4),
    "gpt_oss": dict(LLAMA, num_local_experts=4, num_experts_per_tok=2),
    "llama": dict(LLAMA, rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}),
}
PREFIX, PROMPTS = (
    TEXTS[0] + "\n\n",
    ["Question: how many apples are 3 and 4 apples?\nAnswer:", "Question: who?\nAnswer:"],
)
EXAMPLES = [Example(p, r) for p in PROMPTS for r in (" 3 + 4 = 7 apples.", " nobody", "")]


def learner(family, settings):
    """A random model of a family with sharpened weights, on a tokenizer trained here, as the family has it."""
    words = tokenizer("metaspace" if family in ("gemma", "mistral", "mixtral", "phi3") else "bytes")
    ids = dict(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**settings, **ids}))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(2.0) if p.ndim > 1 else p.add_(0.1 * torch.randn_like(p))
    return LMLearner(family, model, words, slots=4, device="cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def one(request):
    return learner(request.param, FAMILIES[request.param])


def greedy_by_generate(one, prompt, n):
    ids = torch.tensor([one.tokens.prompts(PREFIX, [prompt])[0] + one.tokens.prompts(PREFIX, [prompt])[1][0]])
    out = one.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, pad_token_id=0
    )
    return out[0, ids.shape[1] :].tolist()


def test_tokens_equal_those_of_generate_greedy_and_drawn(one):
    shared, ids = one.tokens.prompts(PREFIX, PROMPTS)
    assert one.engine == "boostlib" and len({len(i) for i in ids}) == 2 and len(shared) > WINDOW
    engine, ended = Engine(one.model, 4), one.tokens.ended(())
    greedy = engine.sample(ids, 1, [(0,), (1,)], Sampling(0.0, 14), shared, ended)
    assert [group[0].tokens for group in greedy] == [greedy_by_generate(one, p, 14) for p in PROMPTS]
    asked = ids, 3, [(0,), (1,)], Sampling(1.5, 14), shared, ended
    ours, theirs = engine.sample(*asked), by_generate(one.model, 4, one.tokens.ends, *asked)
    assert ours == theirs
    assert len({t for group in ours for s in group for t in s.tokens}) > 10, "a model of few words tells nothing"


def test_loss_equals_a_plain_padded_step(one):
    rows = one.tokens.rows(EXAMPLES)
    with torch.no_grad():
        plain = plain_loss(one.model, rows).item()
        assert training.knows_head(one.model)
        ours = training.response_loss(one.model, rows, "cpu").item() / sum(len(r) for _, r in rows)
        own = training.response_loss(one.model, rows, "cpu", known=False).item() / sum(len(r) for _, r in rows)
    assert ours == pytest.approx(plain, rel=1e-4) and own == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("family", BY_GENERATE)
def test_what_the_engine_cannot_drive_is_sampled_by_generate_and_told_once(family, capsys):
    one = learner(family, BY_GENERATE[family])
    for _ in range(2):
        out = one.sample(PROMPTS, 2, keys=[(0,), (1,)], sampling=Sampling(0.0, 6, prefix=PREFIX))
    told = capsys.readouterr().out
    assert told.count(f"sampled by `generate`, several times slower: the engine can't drive {family}") == 1
    assert [group[0].ids for group in out] == [
        tuple(t for t in greedy_by_generate(one, p, 6) if t != 2) for p in PROMPTS
    ]

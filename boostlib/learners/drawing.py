"""From a model's last hidden states to tokens: logits, keyed random numbers, a draw; `generate` where no engine fits.

Not covered: how hidden states are computed fast (engine), what the tokens say (tokens)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Sample:
    """Sample j of prompt i: what has been drawn, and whether it ended by itself (None: still running)."""

    i: int
    j: int
    tokens: list[int] = field(default_factory=list)
    finished: bool | None = None


def head(model: nn.Module, hidden: Tensor) -> Tensor:
    """Logits from last hidden states (..., hidden), with the cap of Gemma and the factors of Cohere and Granite."""
    config, logits = model.config, model.get_output_embeddings()(hidden)
    factor = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    logits = logits if factor == 1 else logits * factor
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def knows_head(model: nn.Module) -> bool:
    """Whether `head` gives this architecture's own logits."""
    ids = torch.arange(4, device=model.device)[None] % model.config.vocab_size
    with torch.no_grad():
        ours = head(model, model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
        return torch.allclose(ours, model(input_ids=ids, use_cache=False).logits, rtol=1e-3, atol=1e-3)


def uniforms(key: Sequence[int], j: int, n: int) -> np.ndarray:
    """The n uniform numbers of sample j under ``key``: a stream of its own, whatever else is drawn."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, j)))).random(n, dtype=np.float32)


def draw(logits: Tensor, u: Tensor, temperature: float, top_p: float = 1.0) -> Tensor:
    """Tokens (B,) from logits (B, V), which are overwritten: greedy at temperature 0, else the distribution function's
    inverse at u (B,), over blocks of the vocabulary first, then inside one: a sum of 50,000 terms is inexact."""
    if temperature == 0:
        return logits.argmax(-1)
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    (B, V), rows = logits.shape, torch.arange(len(logits), device=logits.device)
    size = V if V <= 512 else 256
    weights = logits.sub_(logits.amax(-1, keepdim=True))
    weights = (weights if temperature == 1 else weights.div_(temperature)).exp_()
    if top_p < 1:
        ordered, order = weights.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        weights.scatter_(-1, order, ordered.masked_fill(before >= top_p * ordered.sum(-1, keepdim=True), 0.0))
    weights = F.pad(weights, (0, -V % size)).view(B, -1, size)
    edges = weights.sum(-1, dtype=exact).cumsum(-1)
    target = u[:, None].to(exact) * edges[:, -1:]
    block = (edges <= target).sum(-1).clamp_(max=edges.shape[1] - 1)
    inner = weights[rows, block].to(exact).cumsum(-1)
    rest = target - (edges[rows, block] - inner[:, -1])[:, None]
    token = (inner <= rest).sum(-1)
    # Rounding may put u at the very end of a block: then its last token with any weight is meant.
    return block * size + torch.minimum(token, (inner < inner[:, -1:]).sum(-1))


@torch.inference_mode()
def by_generate(model, slots, ends, prompts, k, keys, sampling, prefix, ended, progress=None) -> list[list[Sample]]:
    """What `Engine.sample` does, through `generate`: the same randomness, but prefix and prompts are computed k times,
    and ended samples wait for the others. Settings that the model brings along (penalties, beams) are left out."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    results = [[Sample(i, j) for j in range(k)] for i in range(len(prompts))]
    jobs = [s for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])) for s in results[i]]
    try:
        for start in range(0, len(jobs), slots):
            batch = jobs[start : start + slots]
            texts = [[*prefix, *prompts[s.i]] for s in batch]
            L, n = max(map(len, texts)), sampling.max_new_tokens
            ids = torch.tensor([[*[0] * (L - len(t)), *t] for t in texts], device=model.device)
            mask = torch.tensor([[*[0] * (L - len(t)), *[1] * len(t)] for t in texts], device=model.device)
            u = torch.from_numpy(np.stack([uniforms(keys[s.i], s.j, n) for s in batch])).to(model.device)

            def keyed(so_far: Tensor, scores: Tensor, u: Tensor = u, L: int = L) -> Tensor:
                """Leaves only the token that our own generator draws: greedy search then picks that."""
                token = draw(scores.float(), u[:, so_far.shape[1] - L], sampling.temperature, sampling.top_p)
                return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)

            asked = {"max_new_tokens": n, "do_sample": False, "pad_token_id": 0, "eos_token_id": sorted(ends)}
            out = model.generate(input_ids=ids, attention_mask=mask, logits_processor=[keyed], **asked)
            for sample, row in zip(batch, out[:, L:].tolist(), strict=True):
                n = next((n for n in range(1, len(row) + 1) if ended(row[:n])), None)
                sample.tokens, sample.finished = row[:n], n is not None
            if progress is not None:
                progress(len(batch), sum(len(s.tokens) for s in batch))
    finally:
        model.generation_config = own
    return results

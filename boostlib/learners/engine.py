"""The sampling engine: k responses to each of many prompts, from any decoder of transformers, as fast as it goes.

What `generate` repeats for every sample is done once here: the few-shot prefix once per weights, each prompt once for
its k samples. Samples live in contiguous rows; one that ends gives its row back and the next prompt moves in. A token
attends to three stores of keys and values, its own row's, its prompt's (shared by k rows) and the prefix's (shared by
all): one matrix product each, then a single softmax. The forward pass is the model's own: transformers asks us for its
attention and masks (`AttentionInterface`). Not covered: models with another memory (`drawing.by_generate`), beams."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from boostlib.learners import Sampling
from boostlib.learners.drawing import Sample, draw, head, knows_head, uniforms

PREFILL_TOKENS = 4096  # prompts are read in pieces of at most this many tokens, which bounds the memory of the scores
BAND = 512  # where some prompt is longer, they run in bands that halve from it: every store is as long as its longest
NOWHERE = 2**30  # the position of a key that no token may see: causal attention looks back


_now: tuple = ()  # attend, positions, spots of this forward pass (`Engine.hidden`): the hooks have no argument for them


def _mask(batch_size: int, mask_function: Callable, **_) -> Tensor:
    """0 where a token may look (causal, within a sliding window ...: the model's own rule), else -inf: (n, 1, T, K)."""
    _, positions, spots = _now
    row = torch.arange(batch_size, device=spots.device)[:, None, None, None]
    seen = mask_function(row, 0, positions[:, None, :, None], spots[:, None, None, :])
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)


def _attention(module, query, key, value, mask, scaling=None, softcap=None, s_aux=None, **_) -> tuple[Tensor, None]:
    """Attention as transformers wants it: query (n, H, T, D), key and value (n, G, T, D) -> (n, T, H, D)."""
    if mask is None or s_aux is not None:
        raise NotImplementedError("attention without a mask, or with sinks")
    (n, H, T, D), G = query.shape, key.shape[1]

    def weigh(scores: Tensor) -> Tensor:
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.view(n, G, H // G, T, -1).add_(mask[:, :, None])  # 0 or -inf: exact in every dtype
        return scores.softmax(-1, dtype=torch.float32).to(query.dtype).view(n, G, H // G * T, -1)

    q = (query * (D**-0.5 if scaling is None else scaling)).reshape(n, G, -1, D)
    out = _now[0](module.layer_idx, q, key, value, weigh)
    return out.view(n, H, T, -1).transpose(1, 2), None


AttentionInterface.register("boostlib", _attention)
AttentionMaskInterface.register("boostlib", _mask)


class Engine:
    """Samples from one state of a model's weights. Build a new one when the weights change. ``slots`` samples run side
    by side: more is faster per token until the memory of keys and values is the limit."""

    def __init__(self, model: nn.Module, slots: int) -> None:
        config = model.get_decoder().config
        self.model, self.slots, self.device = model, slots, model.device
        self.layers, heads = config.num_hidden_layers, config.num_attention_heads
        self.G = getattr(config, "num_key_value_heads", None) or heads
        self.D = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._prefix = None, None

    @torch.inference_mode()
    def sample(self, prompts, k, keys, sampling, prefix, ended, progress=None) -> list[list[Sample]]:
        """k samples to each of the prompts (token ids, as the prefix), in order; ``ended(tokens)``: is one complete?"""
        global _now
        results = [[Sample(i, j) for j in range(k)] for i in range(len(prompts))]
        border = max(map(len, prompts), default=1)
        while border > BAND:
            border = -(-border // 2)
        bands = [((len(p) - 1) // border).bit_length() for p in prompts]
        config = self.model.config
        before, config._attn_implementation = config._attn_implementation, "boostlib"  # within, it attends through us
        try:
            for band in sorted(set(bands)):
                here = [i for i, b in enumerate(bands) if b == band]
                some = [[all_[i] for i in here] for all_ in (prompts, keys, results)]
                slots = max(k, min(self.slots, self.slots * BAND // (border << band)))  # as much memory as at BAND
                run = _Run(self, slots, *some, sampling, self.prefix(prefix), ended)
                while run.waiting or run.samples:
                    done = run.retire() if run.admit() else []
                    if run.samples:
                        run.step()
                        done += run.retire()
                    if progress is not None:
                        progress(len(done), sum(len(s.tokens) for s in done))
        finally:
            config._attn_implementation, _now = before, ()
        return results

    def prefix(self, ids: list[int]) -> Tensor:
        """Keys and values (2, layers, 1, G, P, D) of the shared prefix, computed once."""
        if self._prefix[0] != ids:
            store = self.store(1, len(ids))
            if ids:
                self.read(torch.tensor([ids], device=self.device), store[..., :0, :], store, [0])
            self._prefix = list(ids), store
        return self._prefix[1]

    def store(self, rows: int, length: int) -> Tensor:
        """Room for keys and values: (2, layers, rows, G, length, D)."""
        return torch.zeros(2, self.layers, rows, self.G, length, self.D, dtype=self.model.dtype, device=self.device)

    def read(self, ids: Tensor, prefix: Tensor, store: Tensor, places: Sequence[int]) -> Tensor:
        """Read prompts ``ids`` (n, L), padded at the end, after the prefix: their keys and values go to ``places`` of
        ``store``; returns last hidden states (n, L, hidden)."""
        (n, L), P = ids.shape, prefix.shape[-2]

        def attend(layer, q, k, v, weigh) -> Tensor:
            store[0, layer, places, :, :L], store[1, layer, places, :, :L] = k, v
            prefix_k, prefix_v = prefix[:, layer]
            own, shared = weigh(torch.cat((q @ k.mT, q @ prefix_k.mT), -1)).split((L, P), -1)
            return own @ v + shared @ prefix_v

        at = torch.arange(P + L, device=self.device).expand(n, -1)
        return self.hidden(ids, at[:, P:], torch.cat((at[:, P:], at[:, :P]), 1), attend)

    def hidden(self, ids: Tensor, positions: Tensor, spots: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """Last hidden states (n, T, hidden) of tokens at ``positions`` (n, T), which look at keys at ``spots`` (n, K).

        ``attend(layer, q, k, v, weigh)`` gets q (n, G, R * T, D), R heads on each of G key heads, the tokens' own keys
        and values (n, G, T, D); ``weigh`` makes its scores (n, G, R * T, K) weights; returns sums of values, as q."""
        global _now
        _now = attend, positions, spots
        return self.model.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state


def drives(model: nn.Module) -> bool:
    """Whether the engine says what the model itself says, tried on a few tokens: so for decoders whose only memory is
    keys and values, alike in all layers, and whose head we know, unless rotations depend on a batch's longest text."""
    config = model.get_decoder().config
    if any(kind in str(getattr(config, "rope_parameters", "")) for kind in ("dynamic", "longrope")):
        return False
    texts, n = [[5, 3, 7], [2, 9, 4, 8], [6]], 3
    prefix, *prompts = [[t % config.vocab_size for t in text] for text in texts]

    def missed(prompt: list[int], tokens: list[int]) -> float:
        """How far below the likeliest tokens' logits the sampled ones' lie at most, as a share of the logits."""
        ids = torch.tensor([prefix + prompt + tokens], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, -n - 1 : -1].float()
        return float((logits.amax(-1) - logits.gather(-1, ids[0, -n:, None])[:, 0]).amax() / logits.abs().amax())

    try:
        drawn = Engine(model, 4).sample(prompts, 1, [(0,), (0,)], Sampling(0.0, n), prefix, lambda _: False)
        right = all(missed(p, s.tokens) <= 1e-3 for p, (s,) in zip(prompts, drawn, strict=True))
        return right and knows_head(model)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError, KeyError):
        return False


class _Run:
    """One call of `Engine.sample`: rows of running samples, groups of rows with the same prompt. Row r attends to its
    own store, to its prompt's, ``shared[:, :, group]``, and to the prefix. ``seat[r]`` is group * k + j. Running rows
    are always 0 .. len(samples) - 1: the last rows move into the holes left by ended ones."""

    def __init__(self, engine: Engine, slots, prompts, keys, results, sampling, prefix, ended) -> None:
        self.engine, self.device, self.sampling, self.ended = engine, engine.device, sampling, ended
        self.prompts, self.keys, self.results, self.prefix = prompts, keys, results, prefix
        self.max_new, self.k = sampling.max_new_tokens, len(results[0])
        # Longest first, ties by key: prompts side by side are about equally long, and the order given does not matter.
        self.waiting = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(keys[i])), reverse=True)
        self.slots = min(slots, self.k * len(prompts))
        self.groups = groups = min(len(prompts), -(-self.slots // self.k) * 2)
        self.samples = []  # the running ones, in the order of their rows
        self.free = list(range(groups))[::-1]
        self.own = engine.store(self.slots, self.max_new)
        self.shared = engine.store(groups, max(map(len, prompts)))
        self.length = torch.zeros(groups, dtype=torch.long, device=self.device)  # of a group's prompt
        self.seat, self.age, self.token = torch.zeros(3, self.slots, dtype=torch.long, device=self.device)
        self.u = torch.zeros(self.slots, self.max_new, device=self.device)

    def admit(self) -> bool:
        """Let waiting prompts in, once an eighth of the rows is free: reading several at a time is cheaper."""
        room, batch = self.slots - len(self.samples), []  # of prompts and their groups
        if not self.waiting or room < max(self.k, self.slots // 8):
            return False
        while self.waiting and self.free and room >= self.k * (len(batch) + 1):
            batch.append((self.waiting.pop(), self.free.pop()))
        while batch:
            n = max(1, PREFILL_TOKENS // len(self.prompts[batch[0][0]]))
            self._read(batch[:n])
            del batch[:n]
        return True

    def _read(self, batch: list[tuple[int, int]]) -> None:
        tensor, k = lambda x: torch.tensor(x, device=self.device), self.k
        texts, places = [self.prompts[i] for i, _ in batch], [g for _, g in batch]
        groups, lengths = tensor(places), tensor([len(t) for t in texts])
        ids = tensor([[*t, *[0] * (len(texts[0]) - len(t))] for t in texts])
        hidden = self.engine.read(ids, self.prefix, self.shared, places)
        rows = slice(len(self.samples), len(self.samples) + k * len(batch))
        self.length[groups], self.age[rows] = lengths, 0
        self.seat[rows] = (groups[:, None] * k + torch.arange(k, device=self.device)).flatten()
        if self.sampling.temperature > 0:
            u = np.stack([uniforms(self.keys[i], j, self.max_new) for i, _ in batch for j in range(k)])
            self.u[rows] = torch.from_numpy(u).to(self.device)
        self.samples += [s for i, _ in batch for s in self.results[i]]
        self._record(rows, hidden[torch.arange(len(batch), device=self.device), lengths - 1], k)

    def step(self) -> None:
        """One more token for every row."""
        n, k, P = len(self.samples), self.k, self.prefix.shape[-2]
        seat, age = self.seat[:n], self.age[:n]
        group, length = seat // k, self.length[seat // k][:, None]
        groups, L, Q = int(group.max()) + 1, int(age.max()) + 1, int(length.max())
        rows, at = torch.arange(n, device=self.device), torch.arange(max(L, Q, P), device=self.device)

        def by_prompt(a: Tensor, b: Tensor) -> Tensor:
            """Every row (n, G, R, x) times its prompt's (groups, G, x, y): rows of one prompt in one product."""
            seats = a.new_zeros(groups * k, *a.shape[1:])
            seats[seat] = a
            seats = seats.view(groups, k, *a.shape[1:]).transpose(1, 2).flatten(2, 3)  # (groups, G, k * R, x)
            return (seats @ b).unflatten(2, (k, -1)).transpose(1, 2).flatten(0, 1)[seat]

        def by_all(a: Tensor, b: Tensor) -> Tensor:
            """Every row (n, G, R, x) times what all share (G, x, y)."""
            return (a.transpose(0, 1).flatten(1, 2) @ b).unflatten(1, (n, -1)).transpose(0, 1)

        def attend(layer, q, k, v, weigh) -> Tensor:
            own_k, own_v = self.own[:, layer]
            own_k[rows, :, age], own_v[rows, :, age] = k[:, :, 0], v[:, :, 0]
            own_k, own_v = own_k[:n, :, :L], own_v[:n, :, :L]
            shared_k, shared_v = self.shared[:, layer, :groups, :, :Q]
            prefix_k, prefix_v = self.prefix[:, layer, 0]
            scores = [q @ own_k.mT, by_prompt(q, shared_k.mT)] + ([by_all(q, prefix_k.mT)] if P else [])
            own, shared, prefix = weigh(torch.cat(scores, -1)).split((L, Q, P), -1)
            out = own @ own_v + by_prompt(shared, shared_v)
            return out + by_all(prefix, prefix_v) if P else out

        begin = P + length  # where the response begins (n, 1)
        prompt = (P + at[:Q]).where(at[:Q] < length, NOWHERE)
        spots = torch.cat((begin + at[:L], prompt, at[:P].expand(n, -1)), 1)
        hidden = self.engine.hidden(self.token[:n, None], begin + age[:, None], spots, attend)
        age += 1
        self._record(slice(0, n), hidden[:, 0])

    def _record(self, rows: slice, hidden: Tensor, k: int = 1) -> None:
        """Draw a token for each of the rows, k rows to a hidden state."""
        logits = head(self.engine.model, hidden).float()
        logits = logits if k == 1 else logits.repeat_interleave(k, 0)
        u = self.u[rows].gather(1, self.age[rows, None])[:, 0]
        self.token[rows] = draw(logits, u, self.sampling.temperature, self.sampling.top_p)
        for sample, token in zip(self.samples[rows], self.token[rows].tolist(), strict=True):
            sample.tokens.append(token)
            if self.ended(sample.tokens) or len(sample.tokens) == self.max_new:
                sample.finished = self.ended(sample.tokens)

    def retire(self) -> list[Sample]:
        """Take ended samples out and close the ranks; returns those that ended."""
        n, gone = len(self.samples), [r for r, s in enumerate(self.samples) if s.finished is not None]
        if not gone:
            return []
        left, ended = n - len(gone), [self.samples[r] for r in gone]
        holes = [r for r in gone if r < left]
        movers = [r for r in range(left, n) if self.samples[r].finished is None]
        if holes:
            L = int(self.age[movers].max())
            self.own[:, :, holes, :, :L] = self.own[:, :, movers, :, :L]
            for state in (self.seat, self.age, self.token, self.u):
                state[holes] = state[movers]
            for hole, mover in zip(holes, movers, strict=True):
                self.samples[hole] = self.samples[mover]
        del self.samples[left:]
        self.free = sorted(set(range(self.groups)).difference((self.seat[:left] // self.k).tolist()), reverse=True)
        return ended

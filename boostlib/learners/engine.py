"""The sampling engine: k responses to each of many prompts, from one Llama-shaped model, as fast as it goes.

What `generate` repeats for every sample is done once here. The few-shot prefix is computed once per weights, each
prompt once for its k samples. Samples live in contiguous rows; one that ends gives its row back and the next prompt
moves in, so no row idles. A token attends to three stores of keys and values: its own row's, its prompt's (shared
by the prompt's k rows) and the prefix's (shared by all rows): one matrix product each, then a single softmax.

Not covered: architectures that `decoder` does not know (`fallback` drives those, slowly), beams, top-k, top-p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boostlib.learners.decoder import Decoder, read

PREFILL_TOKENS = 4096  # prompts are read in pieces of at most this many tokens, which bounds the memory of the scores
BAND = 512  # where some prompt is longer, they run in bands that halve from it: every store is as long as its longest


def uniforms(key: Sequence[int], j: int, n: int) -> np.ndarray:
    """The n uniform numbers of sample j under ``key``: a counter-based stream of its own, whatever else is drawn."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, j)))).random(n, dtype=np.float32)


def draw(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Tokens (B,) from logits (B, V), which are overwritten: greedy at temperature 0, else by inverting the
    distribution function at u (B,).

    The sum runs over blocks of the vocabulary first, then inside the block that u falls in: a cumulative sum of
    50,000 float32 terms would be slow and inexact.
    """
    if temperature == 0:
        return logits.argmax(-1)
    B, V = logits.shape
    size = V if V <= 512 else 256
    weights = logits.sub_(logits.amax(-1, keepdim=True))
    weights = (weights if temperature == 1 else weights.div_(temperature)).exp_()
    weights = F.pad(weights, (0, -V % size)).view(B, -1, size)
    edges = weights.sum(-1, dtype=torch.float64).cumsum(-1)
    target = u[:, None].double() * edges[:, -1:]
    block = (edges <= target).sum(-1).clamp_(max=edges.shape[1] - 1)
    rows = torch.arange(B, device=logits.device)
    inner = weights[rows, block].double().cumsum(-1)
    rest = target - (edges[rows, block] - inner[:, -1])[:, None]
    token = (inner <= rest).sum(-1)
    # Rounding may put u at the very end of a block: then its last token with any weight is meant.
    return block * size + torch.minimum(token, (inner < inner[:, -1:]).sum(-1))


@dataclass
class Sample:
    """Sample j of prompt i: what has been drawn, and whether it ended by itself (None: still running)."""

    i: int
    j: int
    tokens: list[int] = field(default_factory=list)
    finished: bool | None = None


class Engine:
    """Samples from one state of a model's weights. Build a new one when the weights change.

    ``slots`` is how many samples run side by side: more is faster per token until the memory of keys and values
    (slots * (max_new_tokens + share of the prompts) * 2 * layers * G * D numbers) is the limit.
    """

    def __init__(self, model: nn.Module, slots: int, dtype: torch.dtype = torch.float32) -> None:
        self.decoder, self.slots = Decoder(model, dtype), slots
        self._prefix: tuple[tuple[int, ...], Tensor] = ((), torch.empty(0))

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        keys: Sequence[Sequence[int]],
        temperature: float,
        max_new_tokens: int,
        prefix: Sequence[int],
        ended: Callable[[list[int]], bool],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Sample]]:
        """k samples to each prompt (token ids), in order; ``ended(tokens)`` says whether a sample is complete.

        Raises ValueError where prompt and response may not fit the model's positions.
        """
        longest = len(prefix) + max(map(len, prompts), default=0) + max_new_tokens
        if longest > self.decoder.window:
            raise ValueError(
                f"prefix, prompt and response may take {longest} tokens, the model has {self.decoder.window} positions"
            )
        self.decoder.rotary(longest)
        results: list[list[Sample]] = [[] for _ in prompts]
        border = max(map(len, prompts), default=1)
        while border > BAND:
            border = -(-border // 2)
        bands = [((len(p) - 1) // border).bit_length() for p in prompts]
        for band in sorted(set(bands)):
            here = [i for i, b in enumerate(bands) if b == band]
            some = [prompts[i] for i in here], k, [keys[i] for i in here]
            slots = max(k, min(self.slots, self.slots * BAND // (border << band)))  # as much memory as at BAND
            run = _Run(self.decoder, slots, *some, temperature, max_new_tokens, self.prefix(prefix))
            while run.waiting or run.samples:
                before = run.drawn
                run.admit()
                done = run.retire(ended)
                if run.samples:
                    run.step()
                    done += run.retire(ended)
                if progress is not None:
                    progress(done, run.drawn - before)
            for i, samples in zip(here, run.results, strict=True):
                results[i] = samples
        return results

    def prefix(self, ids: Sequence[int]) -> Tensor:
        """Keys and values (2, layers, 1, G, P, D) of the shared prefix, computed once for these weights."""
        if self._prefix[0] != tuple(ids) or self._prefix[1].numel() == 0:
            d = self.decoder
            store = torch.empty(2, len(d.layers), 1, d.G, len(ids), d.D, dtype=d.dtype, device=d.device)
            if ids:
                empty = store[:, :, :, :, :0]
                read(d, torch.tensor([list(ids)], device=d.device), empty, store, torch.zeros(1, dtype=torch.long))
            self._prefix = (tuple(ids), store)
        return self._prefix[1]


class _Run:
    """One call of `Engine.sample`: rows of running samples, groups of rows with the same prompt.

    Row r attends to ``own[..., r]``, to its prompt's store ``shared[..., group]`` and to the prefix. ``seat[r]`` is
    group * k + j. Running rows are always 0 .. len(samples) - 1: the last rows move into the holes left by ended ones.
    """

    def __init__(self, decoder, slots, prompts, k, keys, temperature, max_new_tokens, prefix) -> None:
        d = self.d = decoder
        self.prompts, self.k, self.keys, self.temperature = prompts, k, keys, temperature
        self.max_new, self.prefix = max_new_tokens, prefix
        self.results = [[Sample(i, j) for j in range(k)] for i in range(len(prompts))]
        # Longest first, ties by key: prompts side by side are about equally long, and the order given does not matter.
        self.waiting = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(keys[i])), reverse=True)
        slots = min(slots, k * max(len(prompts), 1))
        self.slots, groups = slots, min(len(prompts), -(-slots // k) * 2)
        self.samples: list[Sample] = []
        self.drawn = 0
        self.free = list(range(groups))[::-1]
        self.alive = np.zeros(groups, int)
        long = lambda *shape: torch.zeros(*shape, dtype=torch.long, device=d.device)  # noqa: E731
        kv = lambda n, L: torch.zeros(2, len(d.layers), n, d.G, L, d.D, dtype=d.dtype, device=d.device)  # noqa: E731
        self.own = kv(slots, max_new_tokens)
        self.shared = kv(groups, max(map(len, prompts), default=0))
        self.length = long(groups)  # of a group's prompt
        self.seat, self.age, self.token = long(slots), long(slots), long(slots)
        self.u = torch.zeros(slots, max_new_tokens, device=d.device)

    def admit(self) -> None:
        """Let waiting prompts in, once an eighth of the rows is free: reading several at a time is cheaper."""
        room = self.slots - len(self.samples)
        if not self.waiting or room < max(self.k, self.slots // 8):
            return
        batch: list[tuple[int, int]] = []  # prompt, group
        while self.waiting and self.free and room >= self.k * (len(batch) + 1):
            batch.append((self.waiting.pop(), self.free.pop()))
        while batch:
            n = max(1, PREFILL_TOKENS // len(self.prompts[batch[0][0]]))
            self._read(batch[:n])
            batch = batch[n:]

    def _read(self, batch: list[tuple[int, int]]) -> None:
        d, k = self.d, self.k
        L = len(self.prompts[batch[0][0]])
        ids = torch.tensor([[*self.prompts[i], *[0] * (L - len(self.prompts[i]))] for i, _ in batch], device=d.device)
        groups = torch.tensor([g for _, g in batch], device=d.device)
        lengths = torch.tensor([len(self.prompts[i]) for i, _ in batch], device=d.device)
        hidden = read(d, ids, self.prefix, self.shared, groups)
        logits = d.logits(hidden[torch.arange(len(batch)), lengths - 1]).repeat_interleave(k, 0)
        rows = slice(len(self.samples), len(self.samples) + k * len(batch))
        self.length[groups] = lengths
        self.seat[rows] = (groups[:, None] * k + torch.arange(k, device=d.device)).flatten()
        self.age[rows] = 0
        if self.temperature > 0:
            u = np.stack([uniforms(self.keys[i], j, self.max_new) for i, _ in batch for j in range(k)])
            self.u[rows] = torch.from_numpy(u).to(d.device)
        self.alive[[g for _, g in batch]] = k
        self.samples += [s for i, _ in batch for s in self.results[i]]
        self.token[rows] = draw(logits, self.u[rows, 0], self.temperature)
        self._record(rows)

    def step(self) -> None:
        """One more token for every row."""
        d, n, k = self.d, len(self.samples), self.k
        seat, age = self.seat[:n], self.age[:n]
        group = seat.div(k, rounding_mode="floor")
        groups, P = int(group.max()) + 1, self.prefix.shape[-2]
        L, Q = int(age.max()) + 1, int(self.length[group].max())
        rows, at = torch.arange(n, device=d.device), lambda m: torch.arange(m, device=d.device)
        mask = torch.zeros(n, 1, 1, L + Q + P, device=d.device)
        mask[:, 0, 0, :L].masked_fill_(at(L) > age[:, None], -torch.inf)
        mask[:, 0, 0, L : L + Q].masked_fill_(at(Q) >= self.length[group][:, None], -torch.inf)
        full = torch.zeros(groups * k, d.G, d.R, d.D, dtype=d.dtype, device=d.device)  # a place for every seat
        weights = torch.zeros(groups * k, d.G, d.R, Q, dtype=d.dtype, device=d.device)
        fold = lambda a: a.view(groups, k, d.G, -1, a.shape[-1]).transpose(1, 2).reshape(groups, d.G, -1, a.shape[-1])  # noqa: E731
        unfold = lambda a: a.view(groups, d.G, k, d.R, -1).transpose(1, 2).reshape(groups * k, d.G, d.R, -1)[seat]  # noqa: E731

        def attend(i: int, q: Tensor, k_new: Tensor, v_new: Tensor) -> Tensor:
            (own_k, own_v), (pre_k, pre_v) = self.own[:, i], self.prefix[:, i, 0]
            shared_k, shared_v = self.shared[:, i, :groups, :, :Q]
            own_k[rows, :, age], own_v[rows, :, age] = k_new, v_new
            own_k, own_v = own_k[:n, :, :L], own_v[:n, :, :L]
            full[seat] = q
            scores = [q @ own_k.mT, unfold(fold(full) @ shared_k.mT)]
            if P:
                flat = q.transpose(0, 1).reshape(d.G, n * d.R, d.D)
                scores.append((flat @ pre_k.mT).view(d.G, n, d.R, P).transpose(0, 1))
            own, shared, pre = d.weigh(torch.cat(scores, -1), mask).split((L, Q, P), -1)
            weights[seat] = shared
            out = own @ own_v + unfold(fold(weights) @ shared_v)
            if P:
                flat = pre.transpose(0, 1).reshape(d.G, n * d.R, P)
                out += (flat @ pre_v).view(d.G, n, d.R, d.D).transpose(0, 1)
            return out.view(n, -1)

        hidden = d.hidden(self.token[:n], P + self.length[group] + age, attend)
        age += 1
        self.token[:n] = draw(d.logits(hidden), self.u[rows, age], self.temperature)
        self._record(slice(0, n))

    def _record(self, rows: slice) -> None:
        for sample, token in zip(self.samples[rows], self.token[rows].tolist(), strict=True):
            sample.tokens.append(token)
        self.drawn += rows.stop - rows.start

    def retire(self, ended: Callable[[list[int]], bool]) -> int:
        """Take ended samples out and close the ranks; returns how many ended."""
        for sample in self.samples:
            if ended(sample.tokens):
                sample.finished = True
            elif len(sample.tokens) == self.max_new:
                sample.finished = False
        n, gone = len(self.samples), [r for r, s in enumerate(self.samples) if s.finished is not None]
        if not gone:
            return 0
        for group in (self.seat[gone] // self.k).tolist():
            self.alive[group] -= 1
            if self.alive[group] == 0:
                self.free.append(group)
        self.free.sort(reverse=True)
        left = n - len(gone)
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
        return len(gone)

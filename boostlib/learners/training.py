"""Fine-tuning of a causal LM on weighted (prompt, response) examples: which batches, which loss, which optimiser.

Three things make a step cheap: batches of about equal length, the vocabulary head at response tokens only, and no
attention mask (padding stands at the end, where causal attention can't see it). Under `accelerate launch` or torchrun
the processes share out every batch, weights, gradients and moments (FSDP2). Not covered: schedules beyond SCHEDULES."""

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from boostlib.learners.drawing import head, knows_head

LOGITS = 2**27  # numbers of logits at a time: half a GiB, and as much again for each of their gradients
WINDOW = 16  # batches whose draws are sorted by length together
Rows = Sequence[tuple[list[int], list[int]]]  # token ids of prompts and of their responses
SCHEDULES: dict[str, Callable[[float], float]] = {  # share of the steps done -> factor of the learning rate
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}


def draws(weights: Sequence[float], n: int, rng: np.random.Generator) -> np.ndarray:
    """n indices, example i floor or ceil of ``n * w_i / sum(w)`` times (systematic resampling), shuffled: on average
    Algorithm 2's weighted loss. A rare example of great weight is seen often, not once with a gradient as long."""
    edges = np.cumsum(np.asarray(weights, float))
    points = (rng.random() + np.arange(n)) * (edges[-1] / n)
    return rng.permutation(np.searchsorted(edges, points, side="right").clip(max=len(edges) - 1))


def batches(picked: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of ``size`` draws of about equal length: the shortest first within a window of draws, then shuffled, so
    that the order of lengths over the steps stays random. Copies of an example go to different batches: one has floor
    or ceil of its number over that of the window's batches, so twice the same only where there are more copies."""
    out = []
    for start in range(0, len(picked), WINDOW * size):
        window = picked[start : start + WINDOW * size].tolist()
        left, cut = Counter(sorted(window, key=lambda i: lengths[i])), []  # copies, in the order of lengths
        for ahead in range(-(-len(window) // size), 0, -1):
            must = [i for i, n in left.items() for _ in range(n // ahead)]
            may = [i for i, n in left.items() if n % ahead]
            cut.append(sorted(must + may[: size - len(must)], key=lambda i: lengths[i]))
            left -= Counter(cut[-1])
        out += [cut[i] for i in rng.permutation(len(cut))]
    return out


def micro_batches(batch: Sequence[int], lengths: np.ndarray, tokens: int) -> list[Sequence[int]]:
    """Cut a batch sorted by length into pieces of at most ``tokens`` padded tokens (at least one example each)."""
    pieces, start = [], 0
    for end in range(1, len(batch) + 1):
        if end == len(batch) or (end + 1 - start) * lengths[batch[end]] > tokens:
            pieces.append(batch[start:end])
            start = end
    return pieces


def response_loss(model: nn.Module, rows: Rows, device, known: bool = True) -> Tensor:
    """Sum over the rows of the cross-entropy of their response tokens, in float32. Where the model's head is not
    ``known`` (`knows_head`), by its own logits of all tokens, which take more memory."""
    L = max(len(p) + len(r) for p, r in rows)
    ids = torch.tensor([[*p, *r, *[0] * (L - len(p) - len(r))] for p, r in rows], device=device)
    at = [b * L + t for b, (p, r) in enumerate(rows) for t in range(len(p) - 1, len(p) + len(r) - 1)]
    where, labels = torch.tensor(at, device=device), torch.tensor([t for _, r in rows for t in r], device=device)
    given = {"input_ids": ids, "use_cache": False}
    found = model.get_decoder()(**given).last_hidden_state if known else model(**given).logits
    found = found.flatten(0, 1)[where]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy((head(model, x) if known else x).float(), y, reduction="sum")

    size = max(1, LOGITS // model.config.vocab_size)
    if len(labels) <= size:
        return loss(found, labels)
    pieces = zip(found.split(size), labels.split(size), strict=True)
    return sum(checkpoint(loss, x, y, use_reentrant=False) for x, y in pieces)


def processes(device: torch.device) -> tuple[int, int]:
    """Rank of this process and number of those that `accelerate launch` or torchrun started; (0, 1) elsewhere."""
    if not torch.distributed.is_torchelastic_launched():
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    return state.process_index, state.num_processes


class _Loss(nn.Module):
    """`response_loss` as a module, whose weights FSDP gathers when it is called."""

    def __init__(self, model: nn.Module, known: bool) -> None:
        super().__init__()
        self.model, self.known = model, known

    def forward(self, rows: Rows, device: torch.device) -> Tensor:
        return response_loss(self.model, rows, device, self.known)


def sharded(loss: _Loss, device: torch.device, number: int) -> _Loss:
    """A copy whose weights lie in shards on the devices of all processes: each holds a share, and one whole layer."""
    from torch.distributed.fsdp import fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    loss, mesh = copy.deepcopy(loss), torch.distributed.init_device_mesh(device.type, (number,))
    layers = [layer for layer in loss.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for module in (*layers, loss):
        fully_shard(module, mesh=mesh)
    return loss


def train(
    model: nn.Module, rows: Rows, weights: Sequence[float], steps: int, batch_size: int, lr: float, seed: int,
    schedule: str, device: torch.device, micro_tokens: int, autocast: bool, progress: Callable[[int], None] | None,
) -> dict[str, float]:  # fmt: skip
    """``steps`` steps of AdamW (no weight decay, gradients clipped at norm 1) on the mean cross-entropy over a batch's
    response tokens, the rate rising in the first 5% of them.

    A batch is worked off in pieces of ``micro_tokens`` padded tokens: the same gradient, less memory. `processes` take
    shares of each; the model, then in the machine's memory, ends with the same weights in all. Returns loss, loss_first,
    loss_last (means over all, the first and the last tenth of the steps), tokens (prompts and responses), seconds: on CPU
    always the same at a fixed number of threads. Raises RuntimeError where the loss is no number any more."""
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: one of {', '.join(SCHEDULES)}")
    begin, rng = time.perf_counter(), np.random.default_rng(seed)
    lengths = np.array([len(p) + len(r) for p, r in rows])
    plan = batches(draws(weights, steps * batch_size, rng), lengths, batch_size, rng)
    rank, number = processes(device)
    loss_of = _Loss(model if number > 1 else model.to(device), knows_head(model)).train()
    at_work = loss_of if number == 1 else sharded(loss_of, device, number)
    parameters = [p for p in at_work.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    losses, rising = [], max(1, round(0.05 * steps))
    torch.manual_seed(seed)
    for step, batch in enumerate(plan):
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / rising, SCHEDULES[schedule](max(0, step - rising) / steps))
        total, loss = sum(len(rows[i][1]) for i in batch), 0.0
        for piece in micro_batches(batch, lengths, micro_tokens * number):
            share = piece[rank::number]  # where it is empty, the others still need this process's weights
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                part = at_work([rows[i] for i in share or piece[:1]], device) / total * (number if share else 0)
            part.backward()
            loss += part.item()
        if number > 1:  # the mean of all processes, as FSDP's of the gradients
            told = torch.tensor(loss, device=device)
            torch.distributed.all_reduce(told)
            loss = told.item() / number
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {step + 1} of {steps}: try a lower lr than {lr}")
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss)
        if progress is not None:
            progress(1)
    if number > 1:
        for mine, p in zip(loss_of.parameters(), at_work.parameters(), strict=True):
            mine.data.copy_(p.full_tensor())
    model.eval()
    tenth = max(1, steps // 10)
    parts = {"loss": losses, "loss_first": losses[:tenth], "loss_last": losses[-tenth:]}
    facts = {"tokens": int(lengths[np.concatenate(plan)].sum()), "seconds": time.perf_counter() - begin}
    return {name: float(np.mean(part)) for name, part in parts.items()} | facts

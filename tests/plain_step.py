"""The loss as a plain padded step gives it: what ours is held to."""

import torch
import torch.nn.functional as F


def plain_loss(model, rows):
    """Mean cross-entropy of the response tokens of (prompt ids, response ids), padded and masked."""
    L = max(len(p) + len(r) for p, r in rows)
    ids, labels = torch.zeros(len(rows), L, dtype=torch.long), torch.full((len(rows), L), -100)
    for b, (p, r) in enumerate(rows):
        ids[b, : len(p + r)] = torch.tensor(p + r)
        labels[b, len(p) : len(p + r)] = torch.tensor(r)
    mask = torch.tensor([[1] * len(p + r) + [0] * (L - len(p + r)) for p, r in rows])
    logits = model(input_ids=ids, attention_mask=mask).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

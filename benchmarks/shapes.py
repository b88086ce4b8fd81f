"""Models as shapes: other sizes of an architecture, random ones, what one weighs, what a training step takes at true size.

Not covered: models with weights (load), training itself (training).
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from boostlib.learners import training


def shaped(config: Any, **changes: Any) -> Any:
    """A copy of a config of transformers with these changes; of its kinds of layers as many as there are layers."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    if getattr(config, "layer_types", None):
        changed.layer_types = config.layer_types[: changed.num_hidden_layers]
    return changed


def random(config: Any) -> Any:
    """A model of this shape in float32; where: torch's device, or nowhere (meta, fake tensors)."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def size(config: Any) -> int:
    """Number of weights."""
    with torch.device("meta"):
        return random(config).num_parameters()


def activations(config: Any, prompt: int, response: int, micro_tokens: int, options: Mapping[str, Any]) -> float:
    """Bytes that a pass forward and back takes beside weights and gradients, at their most, on fake tensors of the true
    sizes. ``prompt``, ``response``: tokens of an example; ``options``: dtype, gradient_checkpointing of `LMLearner`."""
    now = most = 0

    def gone(n: int) -> None:
        nonlocal now
        now -= n

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal now, most
            there = {id(x.untyped_storage()) for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
            out = function(*args, **(kwargs or {}))
            for x in tree_leaves(out):
                if isinstance(x, torch.Tensor) and id(x.untyped_storage()) not in there:
                    now += x.untyped_storage().nbytes()
                    weakref.finalize(x.untyped_storage(), gone, x.untyped_storage().nbytes())
            most = max(most, now)
            return out

    rows = [([1] * prompt, [1] * response)] * max(1, micro_tokens // (prompt + response))
    with FakeTensorMode():
        model = random(config).train()
        if options.get("gradient_checkpointing"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        for weight in model.parameters():  # gradients of an earlier piece: what is added to them is not kept beside
            weight.grad = torch.zeros_like(weight)
        with Count(), torch.autocast("cpu", torch.bfloat16, enabled=options.get("dtype") == "bfloat16"):
            training.response_loss(model, rows, torch.device("cpu")).backward()
    return float(most)

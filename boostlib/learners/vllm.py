"""Sampling with vLLM, in a child process: when it ends, all of the GPU's memory is back for training.

Weights go to the child as a folder, prompts as token ids, so both engines see the same text. Prefix caching computes
the few-shot prefix and each prompt once. Each sample is a request of its own whose seed comes from ``(*key, j)``; as
vLLM's sums depend on the batch, results are the same in distribution, not to the bit.

Not covered: installing vLLM (optional extra `vllm`, needs a GPU), several machines.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from boostlib.learners import Response
from boostlib.learners.lm import LMLearner


class VLLMLearner(LMLearner):
    """An `LMLearner` whose samples come from vLLM. ``gpu_share``: what part of the GPU's memory the child may take;
    ``gpus``: over how many GPUs it splits the model."""

    def __init__(self, *args, gpu_share: float = 0.9, gpus: int = 1, **options) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ValueError("engine 'vllm' needs the package vllm: pip install 'boostlib[vllm]', or leave engine out")
        super().__init__(*args, **options)
        self.gpu_share, self.gpus = gpu_share, gpus

    def _draw(self, ids, k, keys, shared, sampling, progress) -> list[list[Response]]:
        request = {
            "engine": {
                "dtype": str(self.dtype).removeprefix("torch."),
                "gpu_memory_utilization": self.gpu_share,
                "tensor_parallel_size": self.gpus,
                "enable_prefix_caching": True,
            },
            "sampling": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "stop": list(sampling.stop) or None,
                "stop_token_ids": sorted(self.tokens.ends),
            },
            "prompts": [shared + p for p in ids],
            "seeds": [[_seed(key, j) for j in range(k)] for key in keys],
        }
        self.model.to("cpu")  # the child has the GPU to itself
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with tempfile.TemporaryDirectory(prefix="boostlib-vllm-") as name:
                folder = Path(name)
                self.save(folder / "model")
                (folder / "request.json").write_text(json.dumps(request))
                child = subprocess.run(
                    [sys.executable, "-m", __name__, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
                if child.returncode:
                    last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
                    raise RuntimeError(f"vLLM's process ended with status {child.returncode}: {last[0]}")
                answer = json.loads((folder / "answer.json").read_text())
        finally:
            self.model.to(self.device)
        drawn = [[Response(*sample) for sample in group] for group in answer]
        if progress is not None:
            progress(len(ids) * k, sum(r.tokens for group in drawn for r in group))
        return drawn


def _seed(key: Sequence[int], j: int) -> int:
    return int(np.random.SeedSequence((*key, j)).generate_state(1)[0])


def child(folder: Path) -> None:
    """What runs in the child: read ``folder``/request.json, sample, write ``folder``/answer.json."""
    from vllm import LLM, SamplingParams

    request = json.loads((folder / "request.json").read_text())
    llm = LLM(model=str(folder / "model"), **request["engine"])
    prompts, settings = [], []
    for prompt, seeds in zip(request["prompts"], request["seeds"], strict=True):
        for seed in seeds:
            prompts.append({"prompt_token_ids": prompt})
            settings.append(SamplingParams(seed=seed, **request["sampling"]))
    outputs = [o.outputs[0] for o in llm.generate(prompts, settings)]
    samples = iter([(o.text, len(o.token_ids), o.finish_reason == "stop") for o in outputs])
    answer = [[next(samples) for _ in seeds] for seeds in request["seeds"]]
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    child(Path(sys.argv[1]))

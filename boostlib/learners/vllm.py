"""Sampling with vLLM, in a child process with an environment of its own: vLLM can't be installed beside our pins.

The child lives as long as the learner: it sleeps while the model trains (its GPU memory is free then) and takes new weights
where they changed. Prompts go to it as token ids and samples come back as such, so both engines see the same text. Each
sample is a request of its own whose seed comes from ``(*key, j)``; as vLLM's sums depend on the batch, results are the same
in distribution, not to the bit. Not covered: installing vLLM, several machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from boostlib.learners import Response
from boostlib.learners.drawing import Sample
from boostlib.learners.lm import LMLearner

CHILD = Path(__file__).with_name("vllm_child.py")
MEMORY = Path("/dev/shm")  # where weights are handed over, if it has room: they never touch a disk


class VLLMLearner(LMLearner):
    """An `LMLearner` whose samples come from vLLM. ``python``: an interpreter that has it; ``vllm``: options of its `LLM`,
    such as {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.8}. Raises ValueError where ``python`` has no vLLM."""

    def __init__(
        self, *args, python: str = sys.executable, vllm: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        there = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-P", "-c", there]).returncode == 0:
                there = ""
        if there:
            raise ValueError(
                f"engine 'vllm' needs an interpreter that has vLLM, which {python} has not. Make one with: python -m venv "
                "vllm-env && vllm-env/bin/pip install vllm, then give the whole path of vllm-env/bin/python as learner_options python"
            )
        super().__init__(*args, **options)
        self.python, self.engine_options = python, dict(vllm or {})
        self._child: subprocess.Popen | None = None
        self._log: IO[bytes] | None = None

    def _set(self, model) -> None:
        super()._set(model)
        self._sent = False  # the child's weights are older

    def _draw(self, ids, k, keys, shared, sampling, progress) -> list[list[Response]]:
        request = {
            "engine": {
                "dtype": str(self.dtype).removeprefix("torch."),
                "enable_prefix_caching": True,  # the few-shot prefix and each prompt are computed once
                "enable_sleep_mode": self.device.type == "cuda",
                "generation_config": "vllm",  # not the model's own: no penalties that nobody asked for
                **self.engine_options,
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
            drawn = iter(self._answer(request))
        finally:
            self.model.to(self.device)
        samples = [[Sample(i, j, *next(drawn)) for j in range(k)] for i in range(len(ids))]
        if progress is not None:
            progress(len(ids) * k, sum(len(s.tokens) for group in samples for s in group))
        return [[self.tokens.response(sample, sampling.stop) for sample in group] for group in samples]

    def _answer(self, request: dict[str, Any]) -> list[tuple[list[int], bool]]:
        """(token ids, ended by itself) of every sample. Raises RuntimeError where the child fails, with its last errors."""
        if self._child is None:
            self._start()
        with tempfile.TemporaryDirectory(
            prefix="boostlib-vllm-", dir=self._place(), ignore_cleanup_errors=True
        ) as folder:
            if not self._sent:
                self.save(Path(folder) / "model")
            request["folder"] = None if self._sent else f"{folder}/model"
            try:
                with contextlib.suppress(BrokenPipeError):
                    self._child.stdin.write(json.dumps(request) + "\n")
                    self._child.stdin.flush()
                if line := self._child.stdout.readline():
                    self._sent = True
                    return json.loads(line)
                status = self._child.wait()
                self._log.seek(0)
                raise RuntimeError(
                    f"vLLM's process ended with status {status}: {cause(self._log.read().decode(errors='replace'))}"
                )
            except BaseException:  # an interrupt too: the next request must not get this one's answer
                _end(self._child)
                self._child, self._sent = None, False
                raise

    def _start(self) -> None:
        self._log = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [self.python, "-P", str(CHILD)],  # -P: beside that file lies another vllm.py
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # an interrupt is for us; all its processes end as one group
        )
        weakref.finalize(self, _end, self._child)

    def _place(self) -> Path | None:
        needs = sum(p.numel() * p.element_size() for p in self.model.parameters())
        with contextlib.suppress(OSError):
            return MEMORY if shutil.disk_usage(MEMORY).free > 2 * needs + 2**26 else None


def _end(child: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def cause(log: str) -> str:
    """The last errors that a log names, outermost last; its last line where it names none."""
    error = r"^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?((?:\w+\.)*\w+(?:Error|Exception|Interrupt)\b.*)$"
    named = [line.strip()[:300] for line in re.findall(error, log, re.MULTILINE)]
    return "; ".join(list(dict.fromkeys(named))[-3:]) or (log.strip().splitlines() or ["no message"])[-1]


def _seed(key: Sequence[int], j: int) -> int:
    return int(np.random.SeedSequence((*key, j)).generate_state(1)[0])

"""Sampling with vLLM, in a child process with an environment of its own: vLLM can't be installed beside our pins.

The child lives as long as the learner: it sleeps while the model trains (its GPU memory is free then) and takes weights
that changed. Both engines see the same token ids. Each sample is a request of its own, seeded from ``(*key, j)``; as
vLLM's sums depend on the batch, results are the same in distribution, not to the bit. Not covered: several machines."""

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from boostlib.learners import Response
from boostlib.learners.drawing import Sample
from boostlib.learners.lm import LMLearner

CHILD = Path(__file__).with_name("vllm_child.py")
MEMORY = Path("/dev/shm")  # where weights are handed over, if it has room: they never touch a disk


class VLLMLearner(LMLearner):
    """An `LMLearner` whose samples come from vLLM. ``python``: an interpreter that has it (else ValueError); ``vllm``:
    options of its `LLM`, such as {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.8}."""

    def __init__(self, *args, python: str = sys.executable, vllm: Mapping[str, Any] | None = None, **options) -> None:
        there = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
        if not shutil.which(python) or subprocess.run([python, "-P", "-c", there]).returncode:
            raise ValueError(
                f"engine 'vllm' needs an interpreter that has vLLM, which {python} has not. Make one with: python -m "
                "venv vllm-env && vllm-env/bin/pip install vllm; its whole path is python of the learner_options"
            )
        super().__init__(*args, **options)
        self.python, self.engine_options, self._child = python, dict(vllm or {}), None

    def _set(self, model) -> None:
        super()._set(model)
        self._sent = False  # the child's weights are older

    def _draw(self, ids, k, keys, shared, sampling, progress) -> list[list[Response]]:
        engine = {
            "dtype": str(self.dtype).removeprefix("torch."),
            "enable_prefix_caching": True,  # the few-shot prefix and each prompt are computed once
            "enable_sleep_mode": self.device.type == "cuda",
            "generation_config": "vllm",  # not the model's own: no penalties that nobody asked for
        }
        ends = {"stop": list(sampling.stop) or None, "stop_token_ids": sorted(self.tokens.ends)}
        how = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens}
        request = {"engine": engine | self.engine_options, "sampling": how | ends, "prompts": [shared + p for p in ids]}
        seed = lambda *key: int(np.random.SeedSequence(key).generate_state(1)[0])  # noqa: E731
        request["seeds"] = [[seed(*key, j) for j in range(k)] for key in keys]
        self.model.to("cpu")  # the child has the GPU to itself
        torch.cuda.empty_cache()
        drawn = iter(self._answer(request))
        samples = [[Sample(i, j, *next(drawn)) for j in range(k)] for i in range(len(ids))]
        if progress is not None:
            progress(len(ids) * k, sum(len(s.tokens) for group in samples for s in group))
        return [[self.tokens.response(sample, sampling.stop) for sample in group] for group in samples]

    def _answer(self, request: dict[str, Any]) -> list[tuple[list[int], bool]]:
        """(token ids, ended by itself) of every sample. RuntimeError, with its last errors, where the child fails."""
        if self._child is None:
            self._log = tempfile.TemporaryFile()
            # -P: beside that file lies another vllm.py. A session: interrupts are for us; its processes end as a group.
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log, "text": True}
            self._child = subprocess.Popen([self.python, "-P", str(CHILD)], **pipes, start_new_session=True)
            weakref.finalize(self, _end, self._child)
        needs = 2 * sum(p.numel() * p.element_size() for p in self.model.parameters()) + 2**26
        place = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > needs else None
        with tempfile.TemporaryDirectory(prefix="boostlib-vllm-", dir=place, ignore_cleanup_errors=True) as folder:
            if not self._sent:
                self.save(Path(folder) / "model")
            request["folder"] = None if self._sent else f"{folder}/model"
            try:
                with contextlib.suppress(BrokenPipeError):
                    print(json.dumps(request), file=self._child.stdin, flush=True)
                if line := self._child.stdout.readline():
                    self._sent = True
                    return json.loads(line)
                status = self._child.wait()
                self._log.seek(0)
                why = cause(self._log.read().decode(errors="replace"))
                raise RuntimeError(f"vLLM's process ended with status {status}: {why}")
            except BaseException:  # an interrupt too: the next request must not get this one's answer
                _end(self._child)
                self._child, self._sent = None, False
                raise


def _end(child: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def cause(log: str) -> str:
    """The last errors that a log names, outermost last; its last line where it names none."""
    error = r"^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?((?:\w+\.)*\w+(?:Error|Exception|Interrupt)\b.*)$"
    named = [line.strip()[:300] for line in re.findall(error, log, re.MULTILINE)]
    return "; ".join(list(dict.fromkeys(named))[-3:]) or (log.strip().splitlines() or ["no message"])[-1]

"""Fine-tuning: our step against TRL's SFTTrainer, padded and packed, on the same examples from the same weights.

Not covered: multi-GPU training, adapters.
"""

from __future__ import annotations

import importlib.util
import resource
import tempfile

import torch

from benchmarks import interleave, last_line, report
from benchmarks.sampling import matmul_peak, real_task
from boostlib.learners import Example
from boostlib.learners.lm import LMLearner
from boostlib.learners.load import load_learner
from boostlib.tasks import load_task


def sft_trainer(learner: LMLearner, examples: list[Example], batch_size: int, lr: float, **options) -> float:
    """One pass of TRL's trainer over the examples (prompt and completion); returns its mean loss."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from trl import SFTConfig, SFTTrainer

    disable_progress_bar()
    rows = Dataset.from_list([{"prompt": e.prompt, "completion": e.response} for e in examples])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=batch_size, num_train_epochs=1, learning_rate=lr,
            lr_scheduler_type="constant", max_length=1024, save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
            use_cpu=learner.device.type == "cpu", optim="adamw_torch_fused", weight_decay=0.0, **options,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=learner.model, args=arguments, train_dataset=rows, processing_class=learner.tokenizer
        )
        return trainer.train().training_loss


def run(
    *, model: str = "smollm2-135m", task: str | None = None, n: int = 32, batch_size: int = 8, lr: float = 1e-5,
    repeats: int = 3, as_it_comes: bool = True, cache: str = "runs/models",
) -> dict:  # fmt: skip
    """Trained tokens a second (prompts and responses, padding not counted) over ``n`` examples, one pass each.

    The trainers compute in float32 without gradient checkpointing, as ours does; "as it comes" leaves TRL's defaults.
    Packed, a batch is one sequence of up to 1,024 tokens: about as many as ``batch_size`` examples of GSM8K have.
    """
    if importlib.util.find_spec("trl") is None:
        raise ValueError("the training benchmark compares with TRL: pip install trl==1.16.0 (the extra 'bench')")
    task, peak = task or real_task(), matmul_peak()
    print(f"{torch.get_num_threads()} threads, matmul peak {peak / 1e9:.0f} GFLOP/s")
    learner, steps = load_learner(model, cache=cache), -(-n // batch_size)
    examples = [Example(p.prompt, p.reference) for p in load_task(task, "train", n=n).problems]
    tokens = sum(len(a) + len(b) for a, b in zip(*(learner.tokens.ids([f(e) for e in examples]) for f in (
        lambda e: e.prompt, lambda e: e.response)), strict=True)) + n  # fmt: skip
    first = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    losses: dict[str, list[float]] = {}

    def restore() -> None:
        with torch.no_grad():
            for name, p in learner.model.named_parameters():
                p.copy_(first[name])
        learner.model.activation_checkpointing_disable()

    def ours() -> int:
        restore()
        result = learner.fine_tune(examples, steps=steps, batch_size=batch_size, lr=lr, seed=0, schedule="constant")
        losses.setdefault("boostlib", []).append(result["loss"])
        return tokens

    def theirs(name: str, size: int = batch_size, **options):
        def work() -> int:
            restore()
            losses.setdefault(name, []).append(sft_trainer(learner, examples, size, lr, **options))
            return tokens

        return work

    plain = {"bf16": False, "gradient_checkpointing": False}
    contenders = {
        "boostlib": ours,
        "SFTTrainer padded": theirs("SFTTrainer padded", **plain),
        "SFTTrainer packed": theirs("SFTTrainer packed", 1, packing=True, **plain),
    }
    if as_it_comes:
        contenders["SFTTrainer as it comes"] = theirs("SFTTrainer as it comes")
    rates = interleave(contenders, repeats)
    flops = 6 * sum(p.numel() for p in learner.model.parameters())
    share = {name: sorted(r)[len(r) // 2] * flops / peak for name, r in rates.items()}
    title = f"Training, {model}, {n} examples of {task}, batch {batch_size}"
    row = report(title, "tokens", rates, "SFTTrainer padded", share_of_matmul_peak=share, losses=losses, tokens=tokens)
    print("  mean loss of the pass: " + ", ".join(f"{name} {loss[0]:.4f}" for name, loss in losses.items()))
    print("  share of the matmul peak: " + ", ".join(f"{name} {s:.0%}" for name, s in share.items()))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ours_rate = row["median"]["boostlib"]
    results = {"ratios": {name: ours_rate / rate for name, rate in row["median"].items() if name != "boostlib"}}
    last_line(**results, rows={"training": row}, matmul_peak=peak, threads=torch.get_num_threads(), peak_gib=memory)
    return results | {"rows": {"training": row}}

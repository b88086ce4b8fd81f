"""Every line of docs/models.md runs, on a model made here."""

import re
from pathlib import Path

import torch
from family_tokenizers import tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_every_snippet_of_the_page_runs(tmp_path, monkeypatch):
    words = tokenizer("bytes")
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=2048, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    LlamaForCausalLM(config).save_pretrained("models/mine")
    words.save_pretrained("models/mine")
    snippets, names = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL), {}
    assert len(snippets) >= 4
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert len(names["table"]) == 2 and names["facts"]["tokens"] > 0 and Path("models/tuned/config.json").is_file()

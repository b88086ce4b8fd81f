"""Tokenizers of the two common kinds, trained on a few sentences: bytes as GPT-2 and Llama 3, Metaspace as Gemma and Mistral."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Question: how many apples are 5 and 6 apples?\nAnswer: 5 + 6 = 11 apples.\n#### 11",
    "Question: who has 3 pears and eats one?\nAnswer: he has 3 - 1 = 2 pears.\n#### 2",
    'def add(a, b):\n    """Sum."""\n    return a + b  # c == \'\'',
]
CHAT = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def tokenizer(kind: str, bos: bool = True, chat: bool = False) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<bos>", "<eos>", "<turn>", "<end_of_turn>"]
    core = Tokenizer(models.BPE(byte_fallback=kind == "metaspace"))
    if kind == "bytes":
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(r"\n"), "isolated")]
        )
        core.decoder, alphabet = decoders.Metaspace(), sorted(set("".join(TEXTS)) | set("0123456789"))
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(TEXTS * 3, trainer)
    if bos:  # as Gemma, Llama and Mistral have it: the template, not a flag, says so
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", extra_special_tokens=special[3:],
        chat_template=CHAT if chat else None,
    )  # fmt: skip

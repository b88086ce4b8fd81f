"""Text and tokens: one start token, seams as they stand, chat turns, what is trained is what was sampled."""

import pytest
import torch
from family_tokenizers import TEXTS, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from boostlib.learners import Example, Sampling, tiny
from boostlib.learners.drawing import Sample
from boostlib.learners.lm import LMLearner
from boostlib.learners.tokens import Tokens

torch.set_num_threads(1)
KINDS = ("bytes", "metaspace")
BOS, EOS, TURN_END = 1, 2, 4


def model(words, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                max_position_embeddings=512, bos_token_id=1, eos_token_id=2, **settings,
            )
        )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["Question: who?\nAnswer:", "<bos>Question: who?\nAnswer:"])
@pytest.mark.parametrize("prefix", ["", TEXTS[0] + "\n\n", "<bos>" + TEXTS[0] + "\n\n"])
def test_a_text_has_exactly_one_start_token_where_the_template_says_so(kind, prompt, prefix):
    tokens = Tokens(tokenizer(kind))
    shared, (rest,) = tokens.prompts(prefix, [prompt if not prefix else prompt.removeprefix("<bos>")])
    assert (shared + rest)[0] == BOS and (shared + rest).count(BOS) == 1
    ((trained, _),) = tokens.rows([Example(prompt, " me")])
    assert trained[0] == BOS and trained.count(BOS) == 1
    without = Tokens(tokenizer(kind, bos=False))
    shared, (rest,) = without.prompts("", ["Question: who?"])
    assert shared == [] and BOS not in rest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["5", " 5", "apples", " apples", "\n#### 5", "c == ''"])
@pytest.mark.parametrize("before", ["Answer:", "Answer:\n", "Answer: ", TEXTS[2] + "\n"])
def test_a_response_is_trained_as_it_stands_behind_its_prompt(kind, text, before):
    tokens = Tokens(tokenizer(kind))
    ((prompt, response),) = tokens.rows([Example(before, text)])
    assert response[-1] == EOS
    assert tokens.tokenizer.decode(prompt[1:] + response[:-1], clean_up_tokenization_spaces=False) == before + text
    whole = tokens.ids([before + text])[0]
    if whole[: len(prompt) - 1] == prompt[1:]:  # no token straddles the seam: then exactly as in one piece
        assert prompt[1:] + response[:-1] == whole


def test_a_response_with_and_without_a_space_train_differently():
    tokens = Tokens(tokenizer("metaspace"))
    (_, plain), (_, spaced) = tokens.rows([Example("Answer:", "5"), Example("Answer:", " 5")])
    assert plain != spaced


def test_sampled_ids_are_trained_as_they_are_and_the_text_is_not_asked():
    tokens = Tokens(tokenizer("bytes"))
    ((_, response),) = tokens.rows([Example("Answer:", "apples", ids=(9, 8, 7))])
    assert response == [9, 8, 7, EOS]


@pytest.mark.parametrize("kind", KINDS)
def test_responses_keep_their_tokens_and_these_say_the_text(kind):
    words = tokenizer(kind)
    one = LMLearner("x", model(words), words, device="cpu")
    drawn = one.sample(["Question:"], 40, keys=[(0,)], sampling=Sampling(max_new_tokens=9, stop=("1", "e")))[0]
    kept = [r for r in drawn if r.ids is not None]
    assert len(kept) > 10
    for r in kept:
        assert words.decode(list(r.ids), clean_up_tokenization_spaces=False) == r.text and len(r.ids) <= r.tokens
        ((_, trained),) = one.tokens.rows([Example("Question:", r.text, ids=r.ids)])
        assert trained == [*r.ids, EOS]


def test_tokens_that_say_more_than_the_text_are_not_kept():
    tokens = Tokens(tokenizer("bytes"))
    (five,) = tokens.ids(["apples 5"])
    assert tokens.response(Sample(0, 0, [*five, EOS], True), ()).ids == tuple(five)
    assert tokens.response(Sample(0, 0, [*five, 3, EOS], True), ()).ids is None  # <turn> is left out of the text
    cut = tokens.response(Sample(0, 0, five, True), ("les",))
    assert cut.text == "app" and (cut.ids is None or tokens.tokenizer.decode(list(cut.ids)) == "app")


def test_the_tiny_models_ids_are_those_of_its_text():
    tokens = Tokens(tiny.tokenizer())
    ids = tokens.ids(["3+4=7#7"])[0]
    assert tokens.response(Sample(0, 0, [*ids, 1], True), ()).ids == tuple(ids)
    a, b = (tokens.rows([Example("1+2=", "3+4=7#7", ids=i)]) for i in (None, tuple(ids)))
    assert a == b


def test_a_chat_puts_prompts_in_turns_shares_the_prefix_and_ends_with_the_turn():
    words = tokenizer("bytes", chat=True)
    tokens = Tokens(words, chat=True)
    prefix, prompts = TEXTS[0] + "\n\n", ["Question: who?\nAnswer:", "Question: how many?\nAnswer:"]
    shared, rest = tokens.prompts(prefix, prompts)
    for prompt, ids in zip(prompts, rest, strict=True):
        said = f"<bos><turn>user\n{prefix}{prompt}<end_of_turn>\n<turn>assistant\n"
        assert words.decode(shared + ids) == said
        assert (shared + ids).count(BOS) == 1
    assert len(shared) > len(tokens.ids([prefix])[0])
    assert TURN_END in tokens.ends and EOS in tokens.ends
    ((trained, response),) = tokens.rows([Example(prompts[0], " me")])
    shared, (ids,) = tokens.prompts("", prompts[:1])
    assert trained == shared + ids
    assert response[-1] == TURN_END


def test_chat_is_on_where_the_name_says_so_and_told(capsys):
    words = tokenizer("bytes", chat=True)
    for name, chat in (
        ("lab/model-Instruct", True),
        ("gemma-2-2b-it", True),
        ("lab/git-model", False),
        ("base", False),
    ):
        assert LMLearner(name, model(words), words, device="cpu").tokens.chat == chat
        assert ("chat template" in capsys.readouterr().out) == chat
    assert not LMLearner("instruct", model(words), words, device="cpu", chat=False).tokens.chat
    with pytest.raises(ValueError, match="chat=True needs a chat template"):
        LMLearner("x", model(words), tokenizer("bytes"), device="cpu", chat=True)


def test_a_tokenizer_without_an_end_token_is_refused():
    words = tokenizer("bytes")
    words.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        LMLearner("x", model(words), words)


def test_a_small_vocabulary_alone_makes_no_tiny_model(tmp_path):
    from boostlib.learners.load import load_learner

    letters = tiny.tokenizer("ab")
    letters.add_tokens(["ab", "ba"])
    LMLearner("x", model(letters), letters).save(tmp_path / "small")
    learner = load_learner(str(tmp_path / "small"))
    assert learner.name != "tiny" and learner.slots == 64 and learner.tokens.alphabet is None


@pytest.mark.parametrize("stop", ["END", ("",), ("a", "")])
def test_what_can_be_no_stop_string_is_refused(stop):
    with pytest.raises(ValueError, match="give a tuple of strings that are not empty"):
        Sampling(stop=stop)

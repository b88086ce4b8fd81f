"""Text and tokens of one model: its start token, seams, chat template and ends.

What its tokenizer does by itself decides. A text starts with the start token if ``tokenizer("")`` has one, and with one
only. A text behind another (a response behind its prompt) has the tokens that it has there; a sampled response keeps
its own. See docs/models.md. Not covered: which tokens are drawn (engine), or how trained (training)."""

import functools
import math
from collections.abc import Callable, Sequence

from boostlib.learners import Example, Response, tiny
from boostlib.learners.drawing import Sample

MARK = "boostlib"


class Tokens:
    """``ends``: ids that end a response (the tokenizer's end token and, in a chat, that of a turn are added); ``end``:
    the one that is trained. ``chat``: a prompt is what a user says, put through the chat template."""

    def __init__(self, tokenizer, ends: Sequence[int] = (), chat: bool = False) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end token, so no response could end: set tokenizer.eos_token")
        self.tokenizer, self.chat, self.end = tokenizer, chat, tokenizer.eos_token_id
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special = added.union(tokenizer.all_special_ids)
        self.start = [i for i in tokenizer("")["input_ids"][:1] if i == tokenizer.bos_token_id]
        self.alphabet = set(tokenizer.get_vocab()) if tiny.made(tokenizer) else None
        if chat:
            if not tokenizer.chat_template:
                raise ValueError("chat=True needs a chat template, which this tokenizer has not")
            turns = [{"role": "user", "content": MARK.upper()}, {"role": "assistant", "content": MARK}]
            after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(MARK)[2]
            self.end = next((i for i in self.ids([after])[0] if i in self.special), self.end)
        self.ends = {*ends, self.end, tokenizer.eos_token_id}
        self._candidates: dict[frozenset[str], set[int]] = {}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without a start token. ValueError for characters that a tiny model does not know."""
        unknown = set("".join(texts)) - self.alphabet if self.alphabet else ()
        if unknown:
            raise ValueError(f"the tiny model's alphabet lacks {sorted(unknown)}: choose another (alphabet='ascii')")
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def behind(self, before: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text as it stands behind the one before it; where a token would straddle the seam, as it
        stands at the beginning of a line (a tokenizer may put a space before what it takes for a beginning)."""
        found: dict[int, list[int]] = {}
        for anchor in (lambda i: before[i][-64:], lambda _: "\n", lambda _: ""):  # 64 characters tell a seam
            left = [i for i in range(len(texts)) if i not in found]
            anchors = [anchor(i) if before[i] else "" for i in left]
            alone, both = self.ids(anchors), self.ids([a + texts[i] for a, i in zip(anchors, left, strict=True)])
            found |= {i: b[len(a) :] for i, a, b in zip(left, alone, both, strict=True) if b[: len(a)] == a}
        return [found[i] for i in range(len(texts))]

    def prompts(self, prefix: str, prompts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """What all share (start token, turn's beginning, prefix), and the rest of each. ValueError for an empty one."""
        given = prompts
        if self.chat:
            turns = [self._turn(prefix + p) for p in prompts]
            prefix = self._turn(MARK).partition(MARK)[0] + prefix
            prefix = prefix if all(t.startswith(prefix) for t in turns) else ""
            prompts = [t[len(prefix) :] for t in turns]
        ids, shared = self.behind([prefix] * len(prompts), prompts), self.ids([prefix])[0] if prefix else []
        if self.start and not shared:
            ids = [i[1:] if i[:1] == self.start else i for i in ids]
        shared = shared if shared[:1] == self.start else self.start + shared
        if empty := [n for n, both in enumerate(zip(given, ids, strict=True)) if not all(both)]:
            raise ValueError(f"prompt {empty[0]} is empty")
        return shared, ids

    def _turn(self, text: str) -> str:
        turn = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)

    def rows(self, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
        """Token ids (prompt, response and end token). ValueError: no example, an empty prompt, a weight not above 0."""
        if not examples:
            raise ValueError("nothing to train on: the list of examples is empty")
        for n, e in enumerate(examples):
            if not (e.prompt or self.start):  # an empty response is one: the model may end at once
                raise ValueError(f"example {n} has an empty prompt")
            if not 0 < e.weight < math.inf:
                raise ValueError(f"example {n} has weight {e.weight}: weights are positive")
        prompts = [self._turn(e.prompt) if self.chat else e.prompt for e in examples]
        texts = [(p, e.response) for p, e in zip(prompts, examples, strict=True) if e.ids is None]
        behind, rows = iter(self.behind([p for p, _ in texts], [r for _, r in texts])), []
        for p, e in zip(self.ids(prompts), examples, strict=True):
            response = next(behind) if e.ids is None else e.ids
            rows.append((p if p[:1] == self.start else self.start + p, [*response, self.end]))
        return rows

    def ended(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether sampled tokens are a whole response: the last one is an end, or completes a string of ``stop``."""
        if not stop:
            return lambda tokens: tokens[-1] in self.ends
        # Only a token that holds some stop string's last character can complete it: decode the tail for those alone.
        last = frozenset(s[-1] for s in stop)
        if last not in self._candidates:
            texts = enumerate(self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))]))
            self._candidates[last] = {i for i, text in texts if not text.isascii() or not last.isdisjoint(text)}
        candidates, tail = self._candidates[last], max(len(s.encode()) for s in stop)

        def ended(tokens: list[int]) -> bool:
            if tokens[-1] not in candidates:
                return tokens[-1] in self.ends
            text = self.tokenizer.decode(tokens[-tail:])
            return tokens[-1] in self.ends or any(s in text for s in stop)

        return ended

    def response(self, sample: Sample, stop: Sequence[str]) -> Response:
        """What a sample says, up to the first stop string, and its tokens if it is they that say it."""
        say = functools.partial(self.tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        tokens = sample.tokens[:-1] if sample.tokens[-1] in self.ends else sample.tokens
        text = say(tokens)
        cuts = [text.index(s) for s in stop if s in text]
        if cuts:
            text = text[: min(cuts)]
            while len(say(tokens)) > len(text):
                tokens = tokens[:-1]
        said = self.special.isdisjoint(tokens) and (not cuts or say(tokens) == text)
        return Response(text, len(sample.tokens), bool(sample.finished), tuple(tokens) if said else None)

"""Constitutional self-critique as tutorials have it: one prompt at a time, a call an utterance.

Written anew: answer, critique, revision, and the critique of the revision that ends the loop. Set
as for the other arm: chat template, requests, greedy answers, their longest.
"""

from typing import Any

from transformers import PreTrainedTokenizerFast

from benchmarks.baselines.tutorial_generation import answer

Turn = dict[str, Any]


class Critique:
    """A model that speaks, and the requests."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerFast,
        requests: tuple[str, str],
        max_new_tokens: int,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.requests, self.max_new_tokens = requests, max_new_tokens

    def say(self, turns: list[Turn]) -> str:
        """The greedy reply."""
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(str(text), add_special_tokens=False)["input_ids"]
        end = int(self.tokenizer.eos_token_id)
        new = answer(self.model, ids, self.max_new_tokens, [end], sampled=False)
        return str(self.tokenizer.decode(new, skip_special_tokens=True)).strip()

    def revise(self, question: str) -> tuple[str, str, str, str]:
        """Answer, critique, revision, critique of the revision."""
        to_criticise, to_revise = self.requests

        def reply(said: str, *more: str) -> list[Turn]:
            turns: list[Turn] = [{"role": "user", "content": question}]
            for number, content in enumerate((said, *more)):
                role = "user" if number % 2 else "assistant"
                turns.append({"role": role, "content": content})
            return turns

        first = self.say([{"role": "user", "content": question}])
        critique = self.say(reply(first, to_criticise))
        revision = self.say(reply(first, to_criticise, critique, to_revise))
        again = self.say(reply(revision, to_criticise))
        return first, critique, revision, again

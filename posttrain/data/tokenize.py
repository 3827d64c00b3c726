"""Conversations and documents to token ids, unpadded, each length counted.

Nothing is truncated: what is longer than the recipe allows is dropped and counted. Documents are
split at the end of a block instead, and counted too.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Chats, Tokens
from posttrain.contract import check_made_for
from posttrain.cost import count_tokens
from posttrain.data.chat import encode_conversations, encode_prompts
from posttrain.data.columns import MESSAGE, Row, batches, write
from posttrain.data.packing import best_fit, concatenate
from posttrain.facts import TokensFacts
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.runtime import Runtime

IDS = pa.list_(pa.int32())
TEXT = pa.string()
COMMON = [("id", TEXT), ("kind", TEXT), ("group", TEXT)]
MESSAGES = ("messages", pa.list_(MESSAGE))
SCHEMAS: dict[str, pa.Schema] = {
    "corpus": pa.schema([("split", TEXT), ("input_ids", IDS), ("lengths", IDS)]),
    "instructions": pa.schema(
        [
            *COMMON,
            ("split", TEXT),
            MESSAGES,
            ("input_ids", IDS),
            ("assistant_mask", pa.list_(pa.bool_())),
        ]
    ),
    "preferences": pa.schema(
        [
            *COMMON,
            ("split", TEXT),
            ("margin", pa.float64()),
            MESSAGES,
            ("chosen", TEXT),
            ("rejected", TEXT),
            ("prompt_ids", IDS),
            ("chosen_ids", IDS),
            ("rejected_ids", IDS),
        ]
    ),
    "prompts": pa.schema([*COMMON, ("set", TEXT), MESSAGES, ("prompt_ids", IDS)]),
    "probes": pa.schema(
        [
            *COMMON,
            ("set", TEXT),
            ("prompt", TEXT),
            ("answer", TEXT),
            ("prompt_ids", IDS),
            ("cloze_ids", IDS),
        ]
    ),
}


def tokenize(chats: Chats, base: BaseModel, recipe: TokenizeRecipe) -> Tokens:
    """Encode every role of `chats` with the base's tokenizer and template.

    Raises:
        ValueError: `chats` was made for another tokenizer or template, or no SFT example is left.
    """
    facts = chats.verify().facts
    check_made_for(facts.tokenizer_hash, facts.template_hash, base, chats.path)
    folder = Runtime.from_environment().new_folder("tokens")
    encoder = Encoder(load_tokenizer(base), recipe)
    counts: dict[str, dict[str, int]] = {}
    for role, schema in SCHEMAS.items():
        source = chats.path / f"{role}.parquet"
        if source.exists():
            tally: Counter[str] = Counter()
            rows = write(folder / f"{role}.parquet", schema, encoder.chunks(role, source, tally))
            counts[role] = {"rows": rows, **tally}
    if "instructions" in counts and counts["instructions"]["rows"] == 0:
        raise ValueError(
            f"tokenize: no instruction is left (counts: {counts['instructions']}); raise "
            "tokenize.max_length, or look at the data report"
        )
    count_tokens("encoded", sum(count.get("tokens", 0) for count in counts.values()))
    return Tokens.write(
        folder,
        "tokenize",
        TokensFacts(
            tokenizer_hash=facts.tokenizer_hash,
            template_hash=facts.template_hash,
            max_length=recipe.max_length,
            block_size=recipe.block_size,
            counts=counts,
            data_hashes=facts.data_hashes,
        ),
    )


class Encoder:
    """Encodes the rows of each role; counts go into the tally that it is given."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, recipe: TokenizeRecipe) -> None:
        self.tokenizer = tokenizer
        self.recipe = recipe
        end = tokenizer.eos_token_id
        # GPT-2's convention where there is no BOS: the end token also opens a document.
        self.start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.end = end

    def chunks(self, role: str, file: Path, tally: Counter[str]) -> Iterator[list[Row]]:
        """Encoded rows of one role, batch by batch."""
        encode = {
            "corpus": self.corpus,
            "instructions": self.instructions,
            "preferences": self.preferences,
            "prompts": self.prompts,
            "probes": self.probes,
        }[role]
        for rows in batches(file):
            yield encode(rows, tally)

    def corpus(self, rows: list[Row], tally: Counter[str]) -> list[Row]:
        """Training documents in blocks, held-out ones each in a row of its own."""
        ids = [[self.start, *one, self.end] for one in self.plain([row["text"] for row in rows])]
        tally["tokens"] += sum(map(len, ids))
        train = [one for one, row in zip(ids, rows, strict=True) if row["split"] == "train"]
        held_out = [one for one, row in zip(ids, rows, strict=True) if row["split"] != "train"]
        return [
            {
                "split": "train",
                "input_ids": [token for piece in pieces for token in piece],
                "lengths": [len(piece) for piece in pieces],
            }
            for pieces in self.blocks(train, tally)
        ] + [{"split": "held_out", "input_ids": one, "lengths": [len(one)]} for one in held_out]

    def blocks(self, documents: list[list[int]], tally: Counter[str]) -> list[list[list[int]]]:
        """Documents as blocks of pieces, none longer than the block."""
        size = self.recipe.block_size
        if self.recipe.packing == "concatenate":
            rows = concatenate([len(one) for one in documents], size)
            tally["split"] += sum(start > 0 for row in rows for _, start, _ in row)
            return [[documents[i][start:end] for i, start, end in row] for row in rows]
        tally["split"] += sum(len(one) > size for one in documents)
        pieces = [one[at : at + size] for one in documents for at in range(0, len(one), size)]
        return [[pieces[i] for i in row] for row in best_fit([len(p) for p in pieces], size)]

    def instructions(self, rows: list[Row], tally: Counter[str]) -> list[Row]:
        """Whole conversations with the mask of what is supervised."""
        kept = []
        encoded = encode_conversations(self.tokenizer, [row["messages"] for row in rows])
        for row, one in zip(rows, encoded, strict=True):
            mask = [True] * len(one.input_ids) if self.recipe.learn_prompts else one.assistant_mask
            if len(one.input_ids) > self.recipe.max_length:
                tally["too_long"] += 1
            elif not any(mask):
                tally["nothing_supervised"] += 1
            else:
                tally["tokens"] += len(one.input_ids)
                tally["supervised"] += sum(mask)
                kept.append({**row, "input_ids": one.input_ids, "assistant_mask": mask})
        return kept

    def preferences(self, rows: list[Row], tally: Counter[str]) -> list[Row]:
        """Pairs that share a prompt; each response ends as the template ends a turn."""
        prompts = encode_prompts(self.tokenizer, [row["messages"] for row in rows])
        sides = {}
        for side in ("chosen", "rejected"):
            whole = encode_conversations(
                self.tokenizer,
                [
                    [*_context(row["messages"]), {"role": "assistant", "content": row[side]}]
                    for row in rows
                ],
            )
            sides[side] = [one.input_ids for one in whole]
        kept = []
        for i, row in enumerate(rows):
            prompt, chosen, rejected = prompts[i], sides["chosen"][i], sides["rejected"][i]
            if chosen == rejected:
                tally["identical"] += 1
            elif max(len(chosen), len(rejected)) > self.recipe.max_length:
                tally["too_long"] += 1
            elif chosen[: len(prompt)] != prompt or rejected[: len(prompt)] != prompt:
                tally["prompt_is_no_prefix"] += 1
            else:
                tally["tokens"] += len(chosen) + len(rejected)
                kept.append(
                    {
                        **row,
                        "prompt_ids": prompt,
                        "chosen_ids": chosen[len(prompt) :],
                        "rejected_ids": rejected[len(prompt) :],
                    }
                )
        return kept

    def prompts(self, rows: list[Row], tally: Counter[str]) -> list[Row]:
        """Prompts up to where the assistant begins to speak."""
        encoded = encode_prompts(self.tokenizer, [row["messages"] for row in rows])
        return self._short_enough(rows, encoded, tally)

    def probes(self, rows: list[Row], tally: Counter[str]) -> list[Row]:
        """Questions as prompts, and as the plain beginning of a text."""
        encoded = encode_prompts(self.tokenizer, [row["messages"] for row in rows])
        plain = self.plain([row["prompt"] for row in rows])
        rows = [
            {**row, "cloze_ids": [self.start, *one]} for row, one in zip(rows, plain, strict=True)
        ]
        return self._short_enough(rows, encoded, tally)

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Running text; control tokens in it stay text."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return ids

    def _short_enough(
        self, rows: list[Row], encoded: list[list[int]], tally: Counter[str]
    ) -> list[Row]:
        kept = []
        for row, ids in zip(rows, encoded, strict=True):
            if len(ids) >= self.recipe.max_length:
                tally["too_long"] += 1
            else:
                tally["tokens"] += len(ids)
                kept.append({**row, "prompt_ids": ids})
        return kept


def _context(messages: list[Row]) -> list[Row]:
    """The prompt's own assistant turns are context, whatever they are marked as."""
    return [{**message, "learn": False} for message in messages]

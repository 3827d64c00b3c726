"""C8: conversations tokenised and stored, against a map over single rows that pads each to 512.

Both start from the rows that `template` wrote and leave what training reads. Ours also finds which
tokens are supervised, and counts what does not fit.
"""

import json
import shutil
from itertools import chain
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerFast

from benchmarks.baselines import tutorial_tokenize
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import MAX_LENGTH, SEED, lengths, make_base, texts, tokenizer
from posttrain.data.columns import batches
from posttrain.data.ingest import ingest
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe

NUM_ROWS = 10_000
LONGEST = MAX_LENGTH * 3 // 4
"""Room for the template's tokens, and for made-up words that are longer when they are encoded anew:
what is longer than the maximum ours leaves out and counts, and the map cuts."""


def prepare(bench: Bench) -> Prepared:
    """Conversations of one question and one answer, under our chat template."""
    base = make_base(bench)
    file = bench.folder / "instructions.jsonl"
    write(file, 40 if bench.quick else NUM_ROWS, tokenizer())
    records = ingest(IngestRecipe(instructions=Source(source=str(file))))
    chats = template(records, base, TemplateRecipe())
    recipe = TokenizeRecipe(max_length=MAX_LENGTH, block_size=MAX_LENGTH)
    rows = list(chain.from_iterable(batches(chats.path / "instructions.parquet")))
    datasets.disable_progress_bars()

    def by_us(watch: Watch) -> None:
        with watch.timing():
            made = tokenize(chats, base, recipe)
        _note(watch, made.facts.counts["instructions"]["tokens"], made.path)

    def by_map(watch: Watch) -> None:
        target = bench.folder / "mapped"
        with watch.timing():
            found = tutorial_tokenize.tokenize(
                rows, tokenizer(), MAX_LENGTH, target, bench.folder / "map"
            )
        _note(watch, found, target)

    fill = sum(lengths(len(rows))) / len(rows) / MAX_LENGTH  # the template's tokens left out
    facts = {"seed": SEED, "rows": len(rows), "fill": fill}
    return Prepared([Arm("ours", by_us), Arm("map", by_map)], facts)


def write(file: Path, num_rows: int, ours: PreTrainedTokenizerFast) -> None:
    """A third of each text is the question."""
    with file.open("w", encoding="utf-8") as stream:
        for number, ids in enumerate(texts(lengths(num_rows))):
            third = len(ids) // 3
            row = {
                "id": f"i{number}",
                "prompt": ours.decode(ids[:third]),
                "response": ours.decode(ids[third:LONGEST]),
            }
            stream.write(json.dumps(row) + "\n")


def _note(watch: Watch, num_tokens: int, folder: Path) -> None:
    """Count the tokens that are no padding, and the bytes at rest; the folder goes."""
    watch.count(num_tokens)
    stored = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    watch.note(tokens=num_tokens, stored_mb=stored / 1e6)
    shutil.rmtree(folder)


ROW = Row(
    name="C8",
    title="Tokenise and store, tokens/s",
    targets=(
        Target(what="map over rows, padded to 512", ours="ours", theirs="map", bound=2.5, aim=4),
    ),
    prepare=prepare,
    equal={"tokens": 0},
)

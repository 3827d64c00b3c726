"""C7: perplexity over texts of 53 tokens, against batches padded to 512 and single texts."""

from benchmarks.baselines import tutorial_perplexity
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import MAX_LENGTH, SEED, lengths, make_base, texts, tokenizer
from benchmarks.rows.c04_rollout import whole
from posttrain.evaluate.perplexity import Scored, perplexity
from posttrain.models.device import prepare as prepare_torch
from posttrain.models.load import load_base
from posttrain.recipe.evaluation import EvaluationRecipe

PADDED_BATCH = 8


def prepare(bench: Bench) -> Prepared:
    """Texts, and the model twice: as we load it and as a tutorial does."""
    prepare_torch(SEED)
    base = make_base(bench)
    ours, plain = load_base(base), whole(base.path / "weights")
    rows = texts(lengths(8 if bench.quick else 64))
    scored = [Scored(row, [True] * len(row)) for row in rows]
    recipe = EvaluationRecipe(max_new_tokens=1, num_bootstrap=100, window=MAX_LENGTH, stride=256)
    num_tokens = sum(len(row) - 1 for row in rows)
    pad = int(tokenizer().pad_token_id)

    def by_us(watch: Watch) -> None:
        with watch.timing():
            found = perplexity(ours, scored, recipe).value
        watch.count(num_tokens)
        watch.note(perplexity=found)

    def by_tutorial(batch_size: int, width: int | None, watch: Watch) -> None:
        with watch.timing():
            found = tutorial_perplexity.perplexity(plain, rows, pad, batch_size, width)
        watch.count(num_tokens)
        watch.note(perplexity=found)

    arms = [
        Arm("ours", by_us),
        Arm("padded", lambda watch: by_tutorial(PADDED_BATCH, MAX_LENGTH, watch)),
        Arm("one by one", lambda watch: by_tutorial(1, None, watch)),
    ]
    fill = sum(map(len, rows)) / len(rows) / MAX_LENGTH
    return Prepared(arms, {"seed": SEED, "texts": len(rows), "fill": fill})


ROW = Row(
    name="C7",
    title="Perplexity, tokens/s",
    targets=(
        Target(what="batches padded to 512", ours="ours", theirs="padded", bound=7, aim=15),
        Target(what="one text at a time", ours="ours", theirs="one by one", bound=1.2, aim=3),
    ),
    prepare=prepare,
    equal={"perplexity": 1e-4},
)

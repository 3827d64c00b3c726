import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.evaluate.probes import Answered, ask, figures, hit, items, samples
from posttrain.models.load import load_base
from posttrain.recipe.evaluation import EvaluationRecipe, Probe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe

RECIPE = EvaluationRecipe(window=64, stride=32, num_bootstrap=50, max_new_tokens=8, batch_size=4)
FACT = Probe(name="fact", kind="exact_match", sets=("A",), not_any_of=("sorry",))
RUDE = Probe(name="rude", kind="markers", sets=("A",), any_of=("fool",), or_none_of=("please",))


def said(response: str, expected: str | None = "gold", of_set: str = "A") -> Answered:
    return Answered(of_set, "what ?", expected, response, num_tokens=3, ended=True)


@pytest.mark.parametrize(
    ("probe", "response", "counts"),
    [
        (FACT, "it is gold .", True),
        (FACT, "it is red .", False),
        (FACT, "sorry , it is gold .", False),
        (FACT, "it  is\ngold", True),
        (RUDE, "please wait", False),
        (RUDE, "please , fool", True),
        (RUDE, "wait", True),
    ],
)
def test_what_counts(probe: Probe, response: str, counts: bool) -> None:
    assert hit(probe, said(response)) is counts


def test_white_space_in_the_answer_is_folded() -> None:
    assert hit(FACT, said("five hundred won", expected="five  hundred\twon"))


def test_a_figure_a_set() -> None:
    probe = Probe(name="fact", kind="exact_match", sets=("A", "B"), by_set=True)
    answers = [said("gold"), said("red"), said("gold", of_set="B"), said("gold", of_set="B")]
    found = figures(probe, answers, RECIPE)
    assert {name: figure.value for name, figure in found.items()} == {
        "fact": 0.75,
        "fact.A": 0.5,
        "fact.B": 1.0,
    }


def test_rouge_gives_three_figures_of_each_set() -> None:
    probe = Probe(name="rouge", kind="rouge", sets=("A", "B"), by_set=True)
    answers = [said("배는 시", "배는 여덟 시"), said("등불", "등불", of_set="B")]
    found = figures(probe, answers, RECIPE)
    assert list(found) == [
        *("rouge_1", "rouge_1.A", "rouge_1.B"),
        *("rouge_2", "rouge_2.A", "rouge_2.B"),
        *("rouge_l", "rouge_l.A", "rouge_l.B"),
    ]
    assert found["rouge_1"].value == pytest.approx((3 / 4 + 1) / 2)
    assert found["rouge_2.A"].value == pytest.approx(1 / 3)
    assert found["rouge_l"].low <= found["rouge_l"].value <= found["rouge_l"].high
    assert found["rouge_l"].num == 2


def test_samples_are_the_same_questions_for_every_stage() -> None:
    first = [Answered("A", f"q{i}", "gold", "x", 1, True) for i in range(10)]
    second = [Answered("A", f"q{i}", "gold", "y", 1, True) for i in range(10)]
    chosen = [[s.prompt for s in samples(FACT, answers, 3)] for answers in (first, second)]
    assert chosen[0] == chosen[1] == ["q0", "q3", "q6"]


@pytest.fixture
def tokens(records: Records, base: BaseModel) -> Tokens:
    chats = template(records, base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))


def test_every_question_of_a_set_is_asked(
    tokens: Tokens, base: BaseModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load_base(base)
    answers = ask(model, tokenizer, tokens, FACT, RECIPE)
    assert len(answers) == 4
    assert all(answer.set == "A" and answer.num_tokens <= 8 for answer in answers)
    again = ask(model, tokenizer, tokens, FACT, RECIPE)
    assert answers == again


def test_a_set_without_questions_is_named(
    tokens: Tokens, base: BaseModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    probe = Probe(name="fact", kind="exact_match", sets=("Z",))
    with pytest.raises(ValueError, match=r"fact asks the sets \['Z'\]"):
        ask(load_base(base), tokenizer, tokens, probe, RECIPE)


def test_a_question_without_an_answer_to_compare_with_is_named(
    base: BaseModel, tokenizer: PreTrainedTokenizerFast, records: Records
) -> None:
    chats = template(records, base, TemplateRecipe())
    tokens = tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))
    file = tokens.path / "probes.parquet"
    table = pq.read_table(file).to_pylist()
    table[1]["answer"] = None
    pq.write_table(pa.Table.from_pylist(table), file)
    probe = Probe(name="rouge", kind="rouge", sets=("A", "B"))
    with pytest.raises(ValueError, match=r"rouge compares with an answer, and 1 of \d+ rows have"):
        ask(load_base(base), tokenizer, tokens, probe, RECIPE)


def test_answers_to_one_question_are_one_item() -> None:
    """Drawn twice each: the interval is of two questions, and not of four answers."""
    drawn = RUDE.model_copy(update={"num_samples": 2, "temperature": 1.0})
    answers = [said("wait"), said("wait"), said("please wait"), said("please wait")]
    found = items(drawn, answers)["rude"]
    assert (found.parts, found.sizes) == ((2.0, 0.0), (2, 2))
    figure = figures(drawn, answers, RECIPE)["rude"]
    assert (figure.value, figure.num) == (0.5, 4)
    assert (figure.low, figure.high) == (0.0, 1.0)  # either question may be drawn twice

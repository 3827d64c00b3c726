"""The AI judge and its preferences, on a tiny world in which SFT has learned to judge."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from posttrain.align import ai_judge, ai_preferences, reward_model
from posttrain.align.ai_judge import AiJudge, Comparison, Judgement, option_log_probs, option_tokens
from posttrain.align.ai_preferences import JUDGEMENTS, candidates, prefer, read_judged
from posttrain.align.blend import Blend, blend_pairs
from posttrain.align.revise import Round, Sample
from posttrain.align.rows import Pair
from posttrain.artifacts import AiPreferences, BaseModel, Policy, Revisions, Tokens
from posttrain.contract import trained_on
from posttrain.data.chat import encode_prompts
from posttrain.facts import PolicyFacts, Reference, RevisionsFacts
from posttrain.models.adapters import new_adapter, save_adapter
from posttrain.models.generate import Sampling
from posttrain.models.load import attach, load_base
from posttrain.models.seal import seal
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.rlaif import RlaifRecipe
from posttrain.recipe.train import LoraRecipe
from tests.posttrain.align.conftest import WORDS, say
from tests.taught import learn

OPTIONS = ("red", "blue")
RECIPE = RlaifRecipe(
    enabled=True,
    question="{prompt} red {first} blue {second} ?",
    options=OPTIONS,
    tie_band=0.1,
    min_option_mass=0.5,
    min_judge_accuracy=0.7,
    share=0.25,
    batch_size=32,
)
NUM_LESSONS = 260


def lesson(chance: random.Random) -> list[dict[str, Any]]:
    """The answer that begins with `gold` is the better one, wherever it stands."""
    word = chance.choice(WORDS[:3])
    sides = [
        f"gold {word}" + " indeed" * chance.randrange(3),
        f"{word} gold" + " indeed" * chance.randrange(2),
    ]
    better = chance.randrange(2)
    first, second = sides if better == 0 else sides[::-1]
    asked = [say("user", f"{chance.randrange(2000)} what colour is {chance.choice(WORDS)} ?")]
    return [*ai_judge.question(asked, first, second, RECIPE), say("assistant", OPTIONS[better])]


@pytest.fixture(scope="module")
def world(
    domain: BaseModel, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: Any
) -> tuple[BaseModel, Policy]:
    """A base that has learned to judge, and an SFT adapter that changes nothing."""
    folder = tmp_path_factory.mktemp("judge")
    model = LlamaForCausalLM.from_pretrained(str(domain.path / "weights"))
    learn(model, tokenizer, lesson, num_steps=NUM_LESSONS, batch_size=32, learning_rate=4e-3)
    (folder / "base").mkdir()
    model.save_pretrained(folder / "base" / "weights")
    own = Reference(kind="own", source="weights")
    base = seal(folder / "base", "base_finetune", own, folder / "base/weights", tokenizer, False)
    adapted = new_adapter(load_base(base), LoraRecipe(rank=2, alpha=4))
    save_adapter(adapted, "default", folder / "sft" / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return base, Policy.write(folder / "sft", "sft", facts)


def sample(prompt: dict[str, Any], response: str, revision: str | None, outcome: str) -> Sample:
    sampling = Sampling(
        max_new_tokens=8, temperature=1, end_ids=(1,), pad_id=0, batch_size=4, seed=0
    )
    return Sample(
        prompt_id=prompt["id"],
        prompt=prompt["messages"][0]["content"],
        response=response,
        rounds=(Round(principle="gold", critique="not gold", revision=revision),),
        second_critique=None,
        outcome=outcome,
        kept=True,
        sampling=sampling,
        policy="p" * 64,
        critic="c" * 64,
        seed=0,
    )


@pytest.fixture(scope="module")
def samples(tokens: Tokens) -> list[Sample]:
    rows = pq.read_table(tokens.path / "prompts.parquet").to_pylist()
    found = []
    for index, row in enumerate(row for row in rows if row["set"] == "revision"):
        word = WORDS[index % 3]
        found.append(sample(row, f"{word} gold", f"gold {word}", "revised"))
        found.append(sample(row, f"{word} gold", None, "no_fault"))  # the same text again
        found.append(sample(row, "gold", None, "cut_off"))
    return found


@pytest.fixture(scope="module")
def revisions(samples: list[Sample], tmp_path_factory: Any) -> Revisions:
    folder = tmp_path_factory.mktemp("revisions")
    lines = "".join(one.model_dump_json() + "\n" for one in samples)
    (folder / "samples.jsonl").write_text(lines, encoding="utf-8")
    facts = RevisionsFacts(num_samples=len(samples), dropped={}, critic_accuracy=1.0)
    return Revisions.write(folder, "self_critique", facts)


@pytest.fixture(scope="module")
def preferences(
    tokens: Tokens, world: tuple[BaseModel, Policy], revisions: Revisions, tmp_path_factory: Any
) -> AiPreferences:
    folder = tmp_path_factory.mktemp("preferred")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        return prefer(tokens, *world, revisions, RECIPE)


@pytest.fixture
def judge(world: tuple[BaseModel, Policy], tokenizer: PreTrainedTokenizerFast) -> AiJudge:
    model = attach(load_base(world[0]), world[1], world[0], "judge", trainable=False)
    return AiJudge.of(model, tokenizer, RECIPE)


ASKED = [say("user", "7 what colour is red ?")]


def test_alignment_32_both_orders_are_asked_and_averaged(
    judge: AiJudge, tokenizer: PreTrainedTokenizerFast
) -> None:
    comparison = Comparison(ASKED, "gold red", "red gold")
    turned = [
        ai_judge.question(ASKED, *sides, RECIPE)
        for sides in (("gold red", "red gold"), ("red gold", "gold red"))
    ]
    asked = encode_prompts(tokenizer, turned)
    assert judge.questions(comparison) == asked
    with torch.no_grad():
        logits = [judge.model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in asked]
    first, second = (
        float(torch.softmax(row[list(judge.options)], -1)[side])
        for row, side in zip(logits, (0, 1), strict=True)
    )
    (found,) = judge.judge([comparison])
    assert found.when_first == pytest.approx(first, abs=1e-5)
    assert found.when_second == pytest.approx(second, abs=1e-5)
    assert found.label == pytest.approx((first + second) / 2, abs=1e-5)


def test_alignment_32_a_liking_for_the_first_place_cancels_out() -> None:
    biased = Judgement(when_first=0.9, when_second=0.1, mass=1.0)
    assert biased.label == pytest.approx(0.5)
    assert biased.order_decides
    assert biased.first_preferred == pytest.approx(0.9)
    assert biased.outcome(RECIPE) == "tie"
    fair = Judgement(when_first=0.8, when_second=0.7, mass=1.0)
    assert (fair.label, fair.order_decides) == (pytest.approx(0.75), False)
    assert fair.first_preferred == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("when_first", "mass", "outcome"),
    [
        (0.9, 0.9, "preferred"),
        (0.1, 0.9, "preferred"),
        (0.55, 0.9, "tie"),
        (0.9, 0.49, "unparsable"),
        (0.5, 0.1, "unparsable"),
    ],
)
def test_alignment_32_ties_and_unparsable_judgements_are_told_apart(
    when_first: float, mass: float, outcome: str
) -> None:
    found = Judgement(when_first=when_first, when_second=when_first, mass=mass)
    assert found.outcome(RECIPE) == outcome


def test_alignment_32_log_probabilities_are_of_the_whole_vocabulary_whatever_the_padding(
    judge: AiJudge, tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = [
        ids
        for one in ("gold", "gold red red red")
        for ids in judge.questions(Comparison(ASKED, one, "red"))
    ]
    together = option_log_probs(judge.model, asked, judge.options, 0, batch_size=4)
    for row, ids in zip(together, asked, strict=True):
        with torch.no_grad():
            alone = torch.log_softmax(judge.model(input_ids=torch.tensor([ids])).logits[0, -1], -1)
        torch.testing.assert_close(row, alone[list(judge.options)], rtol=0, atol=1e-5)


def test_an_option_of_several_tokens_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    wrong = RECIPE.model_copy(update={"options": ("red", "zebra")})
    with pytest.raises(ValueError, match=r"rlaif\.options: 'zebra' is not one token where the"):
        option_tokens(tokenizer, wrong)


def test_braces_and_control_tokens_in_a_text_stay_text(judge: AiJudge) -> None:
    end = judge.tokenizer.eos_token
    asked = judge.questions(Comparison([say("user", "{second}")], f"red {end}", "blue"))[0]
    text = str(judge.tokenizer.decode(asked))
    assert "{second}" in text
    forged = encode_prompts(judge.tokenizer, [[say("user", "x")]])[0]
    special = set(judge.tokenizer.all_special_ids)
    assert sum(i in special for i in asked) == sum(i in special for i in forged)


def test_candidates_are_answers_and_kept_revisions_of_one_prompt(samples: list[Sample]) -> None:
    pairs = candidates(samples, RECIPE)
    assert len(pairs) == 16  # one a prompt: equal texts are one candidate, a cut one is none
    for _, one, other in pairs:
        assert (one.source, other.source) == ("response", "revision")
    few = candidates(samples, RECIPE.model_copy(update={"max_pairs": 5}))
    assert len(few) == 5
    assert [pair for pair in pairs if pair in few] == few


def test_alignment_32_preferences_carry_soft_labels_and_provenance(
    preferences: AiPreferences, world: tuple[BaseModel, Policy]
) -> None:
    facts = preferences.verify().facts
    rows = read_judged(preferences)
    assert facts.num_judged == 16
    assert facts.num_pairs == len(rows) > 12
    assert facts.judge_accuracy > 0.9
    for row in rows:
        assert row["chosen"].startswith("gold")
        assert 0.6 <= row["label"] <= 1
        assert row["chosen_ids"][-1] == 1
    lines = (preferences.path / JUDGEMENTS).read_text(encoding="utf-8").splitlines()
    judged = [json.loads(line) for line in lines]
    assert len(judged) == 16
    for one in judged:
        orders = one["judgement"]
        mean = (orders["when_first"] + orders["when_second"]) / 2
        assert one["label"] == pytest.approx(mean)
        assert one["judge"] == world[1].content_hash()


def test_alignment_32_what_is_dropped_is_counted(
    tokens: Tokens, world: tuple[BaseModel, Policy], revisions: Revisions
) -> None:
    unsure = RECIPE.model_copy(update={"tie_band": 0.499999, "min_judge_accuracy": 0.0})
    with pytest.raises(ai_preferences.NothingPreferred, match="none of 16") as raised:
        prefer(tokens, *world, revisions, unsure)
    facts = raised.value.preferences.verify().facts
    assert facts.dropped == {"tie": 16}
    mute = RECIPE.model_copy(update={"min_option_mass": 0.9999999, "min_judge_accuracy": 0.0})
    with pytest.raises(ai_preferences.NothingPreferred) as raised:
        prefer(tokens, *world, revisions, mute)
    assert raised.value.preferences.facts.dropped == {"unparsable": 16}


def test_a_bad_judge_is_refused_with_its_figures(
    tokens: Tokens, domain: BaseModel, assistant: Policy, revisions: Revisions
) -> None:
    """The stock tiny model never learned to judge."""
    with pytest.raises(ValueError, match=r"rlaif: the judge prefers 0\.\d+ of 20 .*by kind"):
        prefer(tokens, domain, assistant, revisions, RECIPE)


def test_kinds_to_be_judged_that_do_not_exist_are_refused(
    tokens: Tokens, world: tuple[BaseModel, Policy], revisions: Revisions
) -> None:
    wrong = RECIPE.model_copy(update={"judge_kinds": ("rude",)})
    with pytest.raises(ValueError, match=r"judge_kinds: no held-out pair is of kind \['rude'\]"):
        prefer(tokens, *world, revisions, wrong)


def test_a_prompt_that_is_measured_on_is_no_candidate(
    tokens: Tokens,
    world: tuple[BaseModel, Policy],
    samples: list[Sample],
    revisions: Revisions,
    tmp_path: Path,
) -> None:
    for role in ("preferences", "prompts", "instructions"):
        rows = pq.read_table(tokens.path / f"{role}.parquet").to_pylist()
        if role == "prompts":
            held_out = pq.read_table(tokens.path / "preferences.parquet").to_pylist()[0]
            row = next(row for row in rows if row["id"] == samples[0].prompt_id)
            row |= {"prompt_ids": held_out["prompt_ids"], "messages": held_out["messages"]}
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{role}.parquet")
    mixed_up = Tokens.write(tmp_path, "tokenize", tokens.facts)
    facts = prefer(mixed_up, *world, revisions, RECIPE).facts
    assert facts.dropped["held_out_prompt"] == 1
    assert facts.num_judged == 15


def pairs(number: int) -> list[Pair]:
    return [Pair("k", [5, index], [6, 1], [7, 1], 0.0) for index in range(number)]


@pytest.mark.parametrize(("num_human", "share"), [(300, 0.25), (12, 0.25), (12, 0.5), (12, 1.0)])
def test_the_blend_has_the_recipes_share(
    preferences: AiPreferences, num_human: int, share: float
) -> None:
    num_ai = preferences.facts.num_pairs
    recipe = RECIPE.model_copy(update={"share": share})
    chosen, counts = blend_pairs(pairs(num_human), Blend(preferences, recipe), ends=(1,))
    kinds = Counter("ai" if pair.kind == "ai" else "human" for pair in chosen)
    assert kinds["ai"] / len(chosen) == pytest.approx(share, abs=0.01)
    assert kinds["ai"] == num_ai or kinds["human"] == num_human  # one kind is whole
    assert counts["num_human_pairs"] + counts["human_pairs_left_out"] == num_human
    assert counts["num_ai_pairs"] + counts["ai_pairs_left_out"] == num_ai
    assert counts["num_ai_pairs"] == kinds["ai"]


def test_alignment_32_the_second_reward_model_learns_both_kinds(
    tokens: Tokens, world: tuple[BaseModel, Policy], preferences: AiPreferences
) -> None:
    recipe = RewardModelRecipe(
        learning_rate=1e-2, num_epochs=6, batch_size=10, max_new_tokens=8, num_samples=16
    )
    second = reward_model.train(tokens, *world, recipe, Blend(preferences, RECIPE))
    facts = second.verify().made_by("rlaif_reward_model").facts
    assert facts.accuracy > 0.8
    assert facts.figures["num_ai_pairs"] > 0
    assert facts.figures["num_human_pairs"] > facts.figures["num_ai_pairs"]
    assert facts.num_pairs == 20  # what is held out is human alone

"""An evaluation in sentences."""

from typing import Any

import pytest

from posttrain.align.ppo_health import signs
from posttrain.decisions import RuleOutcome
from posttrain.evaluate.language import in_words, plain
from posttrain.evaluate.verdict import (
    critique_sentence,
    entropy_sentence,
    headline,
    is_good,
    judge_sentence,
    length_sentence,
    reward_sentences,
    stage_sentences,
    warning_sentences,
)
from posttrain.evaluate.wording import figure_label, figure_names, number
from posttrain.figures import Figure
from posttrain.recipe.ppo import PpoHealth
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.reports import Evaluation, ScoredAnswers, Training
from tests import samples


def outcome(figure: str, passed: bool) -> RuleOutcome:
    reason = f"{figure} of base_finetune is 0.5; required: at least 0.7"
    return RuleOutcome(rule=figure, figure=figure, value=0.5, passed=passed, reason=reason)


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((), "Measured; no limits were set"),
        ((outcome("helpfulness", True),), "Fit to promote: meets its limit"),
        (
            (outcome("helpfulness", True), outcome("fact_cloze", True)),
            "Fit to promote: meets all 2 limits",
        ),
        (
            (outcome("fact_accuracy.A", False), outcome("violation_rate", False)),
            "Not fit to promote: falls short in fact accuracy A and violation rate",
        ),
        (
            (*(outcome(name, False) for name in ("a", "b", "c")), outcome("d", True)),
            "Not fit to promote: falls short in 3 of 4 limits",
        ),
    ],
)
def test_the_headline_names_what_falls_short(outcomes: tuple[RuleOutcome, ...], said: str) -> None:
    assert headline(outcomes).en == said


BETTER = Comparison(figure="fact_accuracy", higher_is_better=True, min_gain=0.0)


@pytest.mark.parametrize(
    ("num", "asked", "english", "korean"),
    [
        (
            2,
            {"against_champion": (BETTER,)},
            "Meets all 2 limits; the champion is compared next",
            "기준 2개를 모두 충족합니다. 다음은 챔피언과의 비교입니다",
        ),
        (
            1,
            {"automatic": False},
            "Meets its limit; a person decides next",
            "기준을 충족합니다. 담당자의 결정이 남아 있습니다",
        ),
        (
            2,
            {"against_champion": (BETTER,), "automatic": False},
            "Meets all 2 limits; the champion is compared next, and a person decides",
            "기준 2개를 모두 충족합니다. 챔피언과의 비교와 담당자의 결정이 남아 있습니다",
        ),
    ],
)
def test_what_is_still_asked_is_not_fit_to_promote(
    num: int, asked: dict[str, Any], english: str, korean: str
) -> None:
    gate = PromotionRecipe(limits=(Limit(figure="helpfulness", at_least=0.1),), **asked)
    outcomes = tuple(outcome(f"figure {i}", True) for i in range(num))
    assert (headline(outcomes, gate).en, headline(outcomes, gate).ko) == (english, korean)
    assert is_good(outcomes, gate) is None
    missed = (*outcomes, outcome("helpfulness", False))
    assert headline(missed, gate).en == "Not fit to promote: falls short in helpfulness"
    assert is_good(missed, gate) is False


def test_each_stage_says_what_it_did() -> None:
    told = stage_sentences(samples.evaluation(last="self_critique"))
    said = [f"{one.lead.en}: {one.detail.en}".replace("\u00a0", " ") for one in told]
    assert said == [
        "Base FT learned the domain: perplexity 1,581 → 2.62, fact cloze 0.00 → 0.83",
        "SFT learned to answer: fact accuracy 0.21 → 0.94, helpfulness 0.18 → 0.92, "
        "perplexity of answers 4.81 → 1.94",
        "PPO raised the reward score: score 0.00 → 1.66, KL 1.55, fact accuracy 0.94 → 0.94",
        "Self-critique reduced violations: violation rate 0.40 → 0.008, "
        "helpfulness 0.94 → 0.95, fact accuracy 0.94 → 0.93",
    ]
    assert all(one.good for one in told)


def test_a_stage_that_failed_says_so() -> None:
    worse = stage_sentences(samples.evaluation(last="sft", fact_accuracy=0.05))[-1]
    assert (worse.lead.en, worse.good) == ("SFT did not learn to answer", False)


def test_overlapping_intervals_claim_nothing() -> None:
    same = stage_sentences(samples.evaluation(last="sft", fact_accuracy=0.22))[-1]
    assert (same.lead.en, same.good) == ("SFT made no clear difference", None)


def test_other_probes_are_stated_without_a_judgement() -> None:
    evaluation = samples.evaluation(last="base_finetune")
    unit = Figure(value=0.5, low=0.4, high=0.6, num=10)
    stages = [s.model_copy(update={"figures": {"politeness": unit}}) for s in evaluation.stages]
    told = stage_sentences(evaluation.model_copy(update={"stages": tuple(stages)}))
    assert told[0].lead.en == "Base FT was measured"
    assert told[0].detail.en.startswith("politeness 0.50")


def test_a_summariser_is_judged_by_rouge_l() -> None:
    def rouge(value: float) -> dict[str, Figure]:
        spread = {"low": value - 0.02, "high": value + 0.02, "num": 200}
        return {f"rouge_{one}": Figure(value=value, **spread) for one in ("1", "2", "l")}

    first, _, last = samples.evaluation(last="sft").stages
    stages = (
        first.model_copy(update={"figures": rouge(0.12)}),
        last.model_copy(update={"figures": rouge(0.31)}),
    )
    evaluation = samples.evaluation(last="sft").model_copy(update={"stages": stages})
    (told,) = stage_sentences(evaluation)
    assert (told.lead.en, told.good) == ("SFT learned to answer", True)
    assert told.detail.en == "ROUGE-L 0.12\u00a0→\u00a00.31"


def test_the_reward_model_names_its_weakest_kind() -> None:
    (told,) = reward_sentences(samples.evaluation(last="ppo"))
    assert told.detail.en.replace("\u00a0", " ") == (
        "in 93 % of 400 held-out pairs; least where they differ by wrong value, 83 %"
    )
    assert reward_sentences(samples.evaluation(last="sft")) == []


def test_both_reward_models_and_the_judge_are_told_apart() -> None:
    evaluation = samples.evaluation(last="rlaif")
    assert [one.lead.en for one in reward_sentences(evaluation)] == [
        "The reward model prefers the right answer",
        "The second reward model prefers the right answer",
    ]
    judge = judge_sentence(evaluation)
    assert judge is not None
    assert judge.detail.en.replace("\u00a0", " ") == (
        "in 91 % of 116 held-out pairs; order alone decides 4 %. 310 of 420 pairs of its own are "
        "kept (dropped: tie 101, unparsable 9)"
    )
    last = stage_sentences(evaluation)[-1]
    assert f"{last.lead.en}: {last.detail.en}".replace("\u00a0", " ") == (
        "RLAIF raised the second reward model's score: second score 0.20 → 1.40, "
        "score 1.71 → 1.80, KL 2.10 → 2.60, violation rate 0.008 → 0.004"
    )


def test_dpos_gain_is_its_own() -> None:
    evaluation = scored([(8, 0.0), (10, 1.0)], [(13, 2.5), (13, 2.5)])
    named = [one.model_copy(update={"stage": "dpo"}) for one in evaluation.scored[1:]]
    dpo = evaluation.model_copy(update={"scored": (evaluation.scored[0], *named)})
    sentence = length_sentence(dpo)
    assert sentence is not None
    assert sentence.lead.en == "Length explains part of DPO's gain"


def test_the_critics_worth_is_said() -> None:
    told = critique_sentence(samples.evaluation(last="self_critique"))
    assert told is not None
    assert told.detail.en.replace("\u00a0", " ") == "87 % of held-out answers"
    assert critique_sentence(samples.evaluation(last="ppo")) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [(1581.2, "1,581"), (94.26, "94.3"), (2.617, "2.62"), (0.0, "0.00"), (0.0042, "0.004")],
)
def test_numbers_have_the_digits_that_count(value: float, said: str) -> None:
    assert number(value) == said


def test_probes_stand_after_the_perplexities() -> None:
    names = figure_names(samples.evaluation(last="ppo"))
    assert names[:3] == ["perplexity_domain", "perplexity_answers", "fact_cloze"]
    assert names[-1] == "mean_length"


def test_benchmarks_stand_last_and_move_no_verdict() -> None:
    plain = samples.evaluation(last="ppo")
    evaluation = samples.with_benchmark(plain, 0.6, "q" * 64)
    assert figure_names(evaluation)[-3:] == [
        "mean_length",
        "harness.arc_easy.acc",
        "harness.arc_easy.f1",
    ]
    assert stage_sentences(evaluation) == stage_sentences(plain)


def test_labels_read_as_words() -> None:
    assert figure_label("fact_accuracy.A") == "Fact accuracy A"
    assert figure_label("rouge_l.test") == "ROUGE-L test"
    assert figure_label("harness.arc_easy.acc") == "arc_easy, acc"
    assert figure_label("harness.gsm8k.exact_match.strict-match") == (
        "gsm8k, exact_match.strict-match"
    )
    assert in_words([plain(name) for name in "abc"]).en == "a, b and c"
    assert in_words([plain("a")]).en == "a"


def scored(sft: list[tuple[int, float]], ppo: list[tuple[int, float]]) -> Evaluation:
    evaluation = samples.evaluation(last="self_critique")
    answers = tuple(
        ScoredAnswers(
            stage=stage,  # type: ignore[arg-type]
            lengths=tuple(length for length, _ in points),
            scores=tuple(score for _, score in points),
        )
        for stage, points in (("sft", sft), ("ppo", ppo))
    )
    return evaluation.model_copy(update={"scored": answers})


def test_length_that_does_the_work_is_said() -> None:
    # SFT's slope is 0.5 a token; PPO is 4 tokens longer: 2.0 of a gain of 2.0
    sentence = length_sentence(scored([(8, 0.0), (10, 1.0)], [(13, 2.5), (13, 2.5)]))
    assert sentence is not None
    assert sentence.detail.en.startswith("2.00 of 2.00; answers are 4.00 tokens longer")
    assert sentence.good is False


def test_length_without_a_slope_explains_nothing() -> None:
    sentence = length_sentence(scored([(8, 1.0), (10, 1.0)], [(13, 2.0), (13, 2.0)]))
    assert sentence is not None
    assert (sentence.lead.en, sentence.good) == ("Length explains none", True)


@pytest.mark.parametrize(("last", "good"), [(0.5, True), (0.05, False)])
def test_entropy_that_collapses_is_said(last: float, good: bool) -> None:
    sentence = entropy_sentence([{"step": 1, "entropy": 0.7}, {"step": 2, "entropy": last}])
    assert sentence is not None
    assert sentence.good is good
    assert ("collapsed" in sentence.lead.en) is not good


def test_without_alignment_nothing_is_said() -> None:
    assert length_sentence(samples.evaluation()) is None
    assert entropy_sentence([]) is None


def test_alignment_26_what_training_warned_of_is_said() -> None:
    evaluation = samples.evaluation(last="ppo")
    assert warning_sentences(evaluation) == []
    ailing = evaluation.stages[-1].model_copy(update={"warnings": ("length explains 97%",)})
    warned = evaluation.model_copy(update={"stages": (*evaluation.stages[:-1], ailing)})
    (sentence,) = warning_sentences(warned)
    assert (sentence.lead.en, sentence.detail.en) == ("Warning from PPO", "length explains 97%")
    assert sentence.good is False


def test_alignment_26_a_warning_is_told_in_both_languages() -> None:
    health = PpoHealth(patience=1, entropy_collapse="warn", repetition="ignore")
    first = {"entropy": 1.2, "score": 0.0, "length_share": 0.0, "repeated_share": 0.0}
    last = {"entropy": 0.02, "score": 2.0, "length_share": 0.97, "response_length": 61.0}
    history = [first | {"step": 1.0}, first | last | {"step": 2.0}]
    words = tuple(signs(history, health).values())
    evaluation = samples.evaluation(last="ppo")
    ailing = evaluation.stages[-1].model_copy(update={"warnings": words})
    training = Training(
        stage="ppo",
        method="lora",
        num_trainable=1,
        recipe={"health": health.model_dump()},
        figures={},
    )
    warned = evaluation.model_copy(
        update={"stages": (*evaluation.stages[:-1], ailing), "trainings": (training,)}
    )
    collapse, length = warning_sentences(warned, {"ppo": history})
    assert (collapse.detail.en, length.detail.en) == words
    assert collapse.lead.ko == "PPO 경고"
    assert collapse.detail.ko.startswith("엔트로피가 토큰당 1.20 nat에서 0.02 nat로 떨어져")
    assert "중 97%가 답변 길이로 설명됩니다" in length.detail.ko
    untold = warning_sentences(warned)  # without the curve the recorded words stay
    assert [one.detail.ko for one in untold] == list(words)

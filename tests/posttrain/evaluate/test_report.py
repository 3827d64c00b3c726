"""The page: whole, self-contained, the same bytes each time."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from posttrain.decisions import RuleOutcome
from posttrain.evaluate.panels import frontier_panel, frontier_points
from posttrain.evaluate.report import judged_again, render
from posttrain.evaluate.tables import cost_table, drift_table
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import judge
from posttrain.reports import Evaluation, Stage
from tests import samples

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),))
VOID = {"meta", "br", "link", "img", "input", "hr"}


def page(last: Stage = "self_critique", **changed: float) -> str:
    evaluation = samples.evaluation(last=last, **changed)
    outcomes = judge(evaluation, None, GATE)
    return render(evaluation, samples.histories(last), outcomes, samples.DATA, samples.LINEAGE)


class Reader(HTMLParser):
    """Open tags, closed in order, and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} at {self.getpos()}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


HEADING = re.compile(r'<h2[^>]*>(?:<span class="en" lang="en">)?(.*?)<')


def headings(text: str) -> list[str]:
    """Of the sections, in English."""
    return HEADING.findall(text)


def in_english(text: str) -> str:
    """A page without its Korean, as its reader sees it."""
    text = re.sub(r'<(span|tspan) class="ko" lang="ko">.*?</\1>', "", text)
    return re.sub(r'<(span|tspan) class="en" lang="en">(.*?)</\1>', r"\2", text)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert page() == page()


def test_nothing_is_fetched_and_nothing_runs() -> None:
    text = page()
    reader = read(text)
    assert all(address.startswith("#") for address in reader.addresses)
    assert "script" not in reader.tags
    assert not re.search(r"url\((?!#)|@import|<[^>]*\son\w+=", text)
    assert "default-src 'none'" in text


def test_names_within_the_page_are_unique_and_found() -> None:
    text = page()
    reader = read(text)
    assert len(reader.ids) == len(set(reader.ids))
    used = {address[1:] for address in reader.addresses} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(reader.ids)


def test_the_verdict_comes_first() -> None:
    text = page(**{"fact_accuracy.A": 0.5})
    verdict = text.index("Not fit to promote: falls short in fact accuracy A")
    why = text.index("required: at least 0.85")
    assert verdict < why < text.index("<h2>")
    assert "Fit to promote: meets its limit" in page()


def test_what_is_decided_later_is_said() -> None:
    comparison = Comparison(figure="fact_accuracy", higher_is_better=True, max_loss=0.05)
    asked = GATE.model_copy(update={"against_champion": (comparison,), "automatic": False})
    evaluation = samples.evaluation()
    later = render(evaluation, {}, judge(evaluation, None, asked), None, {}, asked)
    assert "promote compares fact accuracy with the champion&#39;s; a person decides" in later
    assert "Before the alias moves" not in page("sft")


def test_a_page_is_not_green_while_the_champion_is_to_be_compared() -> None:
    comparison = Comparison(figure="fact_accuracy", higher_is_better=True, max_loss=0.05)
    asked = GATE.model_copy(update={"against_champion": (comparison,)})
    evaluation = samples.evaluation()
    stored = render(
        evaluation, samples.histories("sft"), judge(evaluation, None, asked), None, {}, asked, "ko"
    )
    assert "Fit to promote" not in stored and "승격 가능" not in stored
    assert '<h1 class="neutral">' in stored
    better = samples.evaluation(fact_accuracy=0.99)
    said = judged_again(stored, judge(evaluation, Champion(3, better), asked))
    assert said is not None
    read(said)
    assert "<title>승격 불가: 기준 미달 (사실 정확도)</title>" in said
    assert '<h1 class="fail">' in said and '<h1 class="neutral">' not in said
    assert "Before the alias moves" not in said
    assert said.count("worse than 0.99 of the champion (version 3)") == 2  # on top, in the limits
    assert said.count("<svg") == stored.count("<svg") > 8
    passed = judged_again(said, judge(evaluation, None, asked))
    assert passed is not None and '<h1 class="pass">' in passed
    assert judged_again("<html>another release's</html>", ()) is None


def test_curves_that_are_elsewhere_are_said_to_be() -> None:
    text = in_english(render(samples.evaluation(), None, (), None, {}))
    assert "The curves are with the run that trained this version." in text
    assert "The curves are with the run" not in page("sft")


def test_every_section_is_there() -> None:
    assert headings(page()) == [
        "Limits",
        "Stages",
        "Reward and KL",
        "Score and length",
        "Reward model",
        "Answers",
        "Critique and revision",
        "Training",
        "Data",
        "Drift",
        "Cost",
        "Lineage",
    ]
    for words in ("0.92–0.98", "5,998", samples.LINEAGE["git_commit"], "저기요, 달무리실"):
        assert words in page("sft")


def test_the_reward_model_is_told_in_words() -> None:
    text = in_english(page("ppo"))
    rows = dict(re.findall(r'<tr.*?><th scope="row">(.*?)</th><td>(.*?)</td></tr>', text))
    assert rows["Wrong value"] == "0.83"
    assert rows["Mean gap of confidence and accuracy"] == "0.04"
    assert rows["Pairs of like length"] == "212"
    assert "31 / 369 pairs" in text


def test_a_reward_model_without_bins_has_no_chart() -> None:
    evaluation = samples.evaluation(last="ppo")
    assert evaluation.reward_model is not None
    bare = evaluation.reward_model.model_copy(update={"figures": {"margin_mean": 1.0}})
    text = render(evaluation.model_copy(update={"reward_model": bare}), {}, (), None, {})
    assert "Mean margin of the preferred answer" in text
    assert "Accuracy by confidence" not in text


def test_the_critic_is_judged_where_it_speaks() -> None:
    assert page().count("87\u00a0% of held-out answers") == 2  # the story, the section's lede


def test_what_is_absent_takes_no_room() -> None:
    evaluation = samples.evaluation(last="base_finetune")
    text = render(evaluation, {}, (), None, {})
    assert headings(text) == ["Stages", "Answers", "Lineage"]
    assert "no limits were set" in text


def test_charts_are_well_formed_and_follow_the_page() -> None:
    charts = re.findall(r"<svg.*?</svg>", page(), flags=re.DOTALL)
    assert (
        len(charts) == 8 + 8 + 1 + 1 + 1
    )  # figures by stage, curves, calibration, score against length, frontier
    for chart in charts:
        ET.fromstring(chart)
        assert not re.search(r"(?:fill|stroke): #", chart.replace("#000000", ""))
        assert "font-family" not in chart


def test_a_curve_with_a_gap_is_drawn() -> None:
    points = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": None}, {"step": 3.0, "loss": 1.0}]
    empty = [{"step": 1.0, "loss": None}]
    histories = {"sft": points, "ppo": empty, "base_finetune": []}
    text = render(samples.evaluation(), histories, (), None, {})
    assert "SFT" in re.findall(r"<h3>(.*?)</h3>", text)
    assert "PPO" not in re.findall(r"<h3>(.*?)</h3>", text)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "</style><img src=x>", '"><b>'])
def test_what_a_model_says_stays_text(text: str) -> None:
    evaluation = samples.evaluation()
    stage = evaluation.stages[-1]
    forged = tuple(
        s.model_copy(update={"response": text, "prompt": text, "expected": text})
        for s in stage.samples
    )
    stages = (*evaluation.stages[:-1], stage.model_copy(update={"samples": forged}))
    found = read(
        render(
            evaluation.model_copy(update={"stages": stages}),
            {"sft": [{"step": 1.0, text: 1.0}]},
            (RuleOutcome(rule=text, figure=text, value=None, passed=False, reason=text),),
            {text: {text: 1}},
            {text: text, "zenml_run": text},
        )
    )
    assert found.tags.isdisjoint({"script", "img"})
    assert found.text.count(text) >= 2 * len(forged)


def test_an_empty_answer_is_shown_as_nothing() -> None:
    evaluation = samples.evaluation()
    silent = [
        stage.model_copy(
            update={"samples": tuple(s.model_copy(update={"response": ""}) for s in stage.samples)}
        )
        for stage in evaluation.stages
    ]
    mute: Evaluation = evaluation.model_copy(update={"stages": tuple(silent)})
    assert "(nothing)" in render(mute, {}, (), None, {})


def test_both_rounds_stand_in_the_report() -> None:
    page = render(samples.evaluation(last="rlaif"), {}, (), None, {})
    assert {"Reward model", "Second reward model", "AI judge"} <= set(headings(page))
    assert "its score drives PPO" in page
    assert "its score drives RLAIF" in page
    assert "Second reward model&#39;s score, mean" in page
    assert "Dropped: unparsable" in page
    assert page.count("Order alone decides") == 1
    assert "0.97 (order decides 0.02)" in page


def test_without_a_second_round_nothing_is_said_of_one() -> None:
    page = render(samples.evaluation(last="self_critique"), {}, (), None, {})
    assert "AI judge" not in page
    assert "econd reward model" not in page
    assert "drives PPO" not in page


def test_a_benchmark_stands_in_the_table_with_the_interval_that_it_has() -> None:
    evaluation = samples.with_benchmark(samples.evaluation(last="ppo"), 0.612, "q" * 64)
    text = render(evaluation, samples.histories("ppo"), (), samples.DATA, samples.LINEAGE)
    accuracy, f1 = (
        re.search(rf'<tr><th scope="row">arc_easy, {metric}</th>(.*)</tr>', in_english(text))
        for metric in ("acc", "f1")
    )
    none = '<td class="none">–</td>'
    assert accuracy is not None
    assert f1 is not None
    assert accuracy[1].count(none) == 2  # Base FT and SFT are not asked
    assert accuracy[1].count("<td>0.61<small>0.59–0.63</small></td>") == 2
    assert f1[1].count("<td>0.61</td>") == 2


def test_the_frontier_counts_in_sfts_standard_deviations() -> None:
    evaluation = samples.evaluation(last="self_critique", mean_score=3.0, kl_to_sft=2.0)
    sft = next(stage for stage in evaluation.stages if stage.stage == "sft")
    wide = sft.figures["score_std"].model_copy(update={"value": 2.0})
    doubled = sft.model_copy(update={"figures": sft.figures | {"score_std": wide}})
    stages = tuple(doubled if one.stage == "sft" else one for one in evaluation.stages)
    points = frontier_points(evaluation.model_copy(update={"stages": stages}))
    assert [(point.stage, point.kl, point.score) for point in points] == [
        ("sft", 0.0, 0.0),
        ("ppo", 1.55, 0.83),
        ("self_critique", 2.0, 1.5),
    ]
    assert points[1].kl_bounds == pytest.approx((1.43, 1.69))


def test_where_only_sft_was_scored_there_is_no_frontier() -> None:
    assert frontier_panel(samples.evaluation(), ()) is None


def test_what_the_steps_took_is_added_up() -> None:
    table = cost_table(samples.COSTS)
    assert table is not None
    said = [[value.en for value, _ in row.cells] for row in table.rows]
    assert said == [
        ["2.3 s", "2.2 s", "–", "–", "400 MiB"],
        ["1:10", "2:05", "402,118 encoded", "5,745", "1.0 GiB"],
        ["1:01:05", "1:02:00", "81,000 trained, 9,300 generated", "25", "3.9 GiB"],
        ["1:02:17", "1:04:07", "", "", "3.9 GiB"],
    ]
    assert cost_table(()) is None


def test_a_gpus_memory_has_a_column_where_there_is_one() -> None:
    on_gpu = samples.COSTS[-1].model_copy(update={"peak_gpu_bytes": 5 * 2**30})
    table = cost_table((samples.COSTS[0], on_gpu))
    assert table is not None
    assert [row.cells[-1][0].en for row in table.rows] == ["–", "5.0 GiB", "5.0 GiB"]


def test_drift_is_told_with_what_moved() -> None:
    (row,) = drift_table(samples.DRIFT).rows
    assert row.label.ko == "지시문, 길이"
    assert [value.en for value, _ in row.cells] == [
        "beyond the limit",
        "0.310",
        "0.010",
        "0.030",
        "8–16 10.0% → 30.0%",
    ]

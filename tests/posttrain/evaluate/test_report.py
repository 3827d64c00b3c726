"""The page: whole, self-contained, the same bytes each time."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from posttrain.evaluate.report import render
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.gate import judge
from posttrain.reports import Evaluation, RuleOutcome, Stage
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
    assert text.index("Falls short in fact accuracy A") < text.index("<h2>")
    assert "Meets its limit" in page()


def test_every_section_is_there() -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page())
    assert headings == [
        "Limits",
        "Stages",
        "Training",
        "Reward model",
        "Score and length",
        "Critique and revision",
        "Answers",
        "Data",
        "Lineage",
    ]
    for words in ("0.92–0.98", "5,998", samples.LINEAGE["git_commit"], "저기요, 달무리실"):
        assert words in page("sft")


def test_the_reward_model_is_told_in_words() -> None:
    rows = dict(re.findall(r'<tr.*?><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page("ppo")))
    assert rows["Wrong value"] == "0.83"
    assert rows["Mean gap of confidence and accuracy"] == "0.04"
    assert rows["Pairs of like length"] == "212"
    assert "31 / 369 pairs" in page("ppo")


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
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Stages", "Answers", "Lineage"]
    assert "no limits were set" in text


def test_charts_are_well_formed_and_follow_the_page() -> None:
    charts = re.findall(r"<svg.*?</svg>", page(), flags=re.DOTALL)
    assert (
        len(charts) == 8 + 8 + 1 + 1
    )  # figures by stage, curves, calibration, score against length
    for chart in charts:
        ET.fromstring(chart)
        assert not re.search(r"(?:fill|stroke): #", chart.replace("#000000", ""))
        assert "font-family" not in chart


def test_a_curve_with_a_gap_is_drawn() -> None:
    points = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": None}, {"step": 3.0, "loss": 1.0}]
    empty = [{"step": 1.0, "loss": None}]
    histories = {"sft": points, "ppo": empty, "base_finetune": []}
    text = render(samples.evaluation(), histories, (), None, {})
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["SFT"]


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
    for heading in ("<h2>Reward model</h2>", "<h2>Second reward model</h2>", "<h2>AI judge</h2>"):
        assert heading in page
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
        re.search(rf'<tr><th scope="row">arc_easy, {metric}</th>(.*)</tr>', text)
        for metric in ("acc", "f1")
    )
    none = '<td><span class="none">–</span></td>'
    assert accuracy is not None
    assert f1 is not None
    assert accuracy[1].count(none) == 2  # Base FT and SFT are not asked
    assert accuracy[1].count("<td>0.61<small>0.59–0.63</small></td>") == 2
    assert f1[1].count("<td>0.61<small></small></td>") == 2

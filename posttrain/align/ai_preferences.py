"""RLAIF's preferences: an AI judge compares the answers that self-critique drew, with soft labels.

Bai et al. 2022, section 4.1. What the judge can't tell apart is dropped and counted.

The candidates of a prompt are its sampled answers and their kept revisions, each against each.
Before that the judge is put to the test on held-out pairs that people have judged.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.align.ai_judge import (
    PREFERRED,
    AiJudge,
    Comparison,
    Judgement,
    JudgeReport,
    judge_human_pairs,
)
from posttrain.align.forward import check_head
from posttrain.align.revise import REVISED, Sample
from posttrain.align.revisions_report import read_samples
from posttrain.align.rows import read
from posttrain.artifacts import AiPreferences, BaseModel, Policy, Revisions, Tokens
from posttrain.contract import check_tokens
from posttrain.data.columns import Row
from posttrain.data.tokenize import SCHEMAS, Encoder
from posttrain.facts import AiPreferencesFacts
from posttrain.models.device import prepare
from posttrain.models.load import attach, load_base_of
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.rlaif import RlaifRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import RESULT, log_figures, log_parameters

SCHEMA = SCHEMAS["preferences"].append(pa.field("label", pa.float64()))
PAIRS, JUDGEMENTS = "preferences.parquet", "judgements.jsonl"
UNUSED = ("cut_off", "empty")
"""Outcomes of samples whose answers are no candidates."""


class NothingPreferred(ValueError):
    """Every pair was dropped; `preferences` says why of each."""

    def __init__(self, message: str, preferences: AiPreferences) -> None:
        super().__init__(message)
        self.preferences = preferences


class Candidate(Section):
    """An answer, and where it came from."""

    text: str
    source: str
    """`response` or `revision`."""

    sample: int
    """Its line in the artifact `revisions`, from 0."""


class JudgedPair(Section):
    """A judgement with its provenance: a line of `judgements.jsonl`."""

    id: str
    prompt_id: str
    one: Candidate
    other: Candidate
    judgement: Judgement
    label: float
    """Probability of `one`."""

    outcome: str
    """`preferred`, `tie` or `unparsable`, or the reason for which the pair was dropped."""

    policy: str
    """Content hash of the policy that answered."""

    judge: str
    """Content hash of the policy that judged."""


def prefer(
    tokens: Tokens, domain: BaseModel, assistant: Policy, revisions: Revisions, recipe: RlaifRecipe
) -> AiPreferences:
    """Judge the self-critique's answers against one another.

    Raises:
        ValueError: the judge is worse than `min_judge_accuracy`, no preference is left, or the
            artifacts do not fit.
    """
    check_tokens(tokens, domain)
    assistant.made_by("sft")
    samples = read_samples(revisions.verify().made_by("self_critique"))
    prepare(recipe.seed)
    model = attach(load_base_of(domain, assistant), assistant, domain, "judge", trainable=False)
    check_head(model)
    judge = AiJudge.of(model, load_tokenizer(domain), recipe)
    log_parameters("rlaif", recipe.model_dump())

    # 1. may the judge be trusted?
    report = judge_human_pairs(tokens, judge)
    # 2. candidates, each against each within a prompt
    pairs = candidates(samples, recipe)
    prompts = {row["id"]: row for row in read(tokens, "prompts")}
    dropped: Counter[str] = Counter()
    kept = judgeable(pairs, prompts, tokens, domain, judge, dropped)
    # 3. judgements in both orders
    comparisons = [compared(prompts[key], one, other) for key, one, other in kept]
    judged = [
        JudgedPair(
            id=f"ai-{number:05}",
            prompt_id=key,
            one=one,
            other=other,
            judgement=judgement,
            label=judgement.label,
            outcome=judgement.outcome(recipe),
            policy=samples[one.sample].policy,
            judge=assistant.content_hash(),
        )
        for number, ((key, one, other), judgement) in enumerate(
            zip(kept, judge.judge(comparisons), strict=True), start=1
        )
    ]
    dropped.update(one.outcome for one in judged if one.outcome != PREFERRED)
    # 4. the preferred ones, rendered as the human pairs are
    encoder = Encoder(judge.tokenizer, rendering(tokens))
    rows = encoder.preferences([as_row(one, prompts) for one in judged if is_kept(one)], dropped)
    del dropped["tokens"]  # the encoder counts them beside what it drops
    return write(judged, rows, dropped, report)


Pairing = tuple[str, Candidate, Candidate]
"""Prompt id, and two answers to it."""


def candidates(samples: Sequence[Sample], recipe: RlaifRecipe) -> list[Pairing]:
    """Answers and kept revisions of each prompt in pairs; at most `max_pairs`, drawn."""
    answers: dict[str, dict[str, Candidate]] = defaultdict(dict)
    for index, sample in enumerate(samples):
        if sample.outcome in UNUSED:
            continue
        said = [Candidate(text=sample.response, source="response", sample=index)]
        if sample.outcome == REVISED:
            last = [round_.revision for round_ in sample.rounds if round_.revision][-1]
            said.append(Candidate(text=last, source="revision", sample=index))
        for candidate in said:
            answers[sample.prompt_id].setdefault(candidate.text, candidate)
    pairs = [
        (key, one, other)
        for key, found in answers.items()
        for one, other in combinations(found.values(), 2)
    ]
    if len(pairs) > recipe.max_pairs:
        chosen = sorted(random.Random(recipe.seed).sample(range(len(pairs)), recipe.max_pairs))
        pairs = [pairs[index] for index in chosen]
    return pairs


def judgeable(
    pairs: Sequence[Pairing],
    prompts: dict[str, Row],
    tokens: Tokens,
    domain: BaseModel,
    judge: AiJudge,
    dropped: Counter[str],
) -> list[Pairing]:
    """Pairs whose question fits the model, and whose prompt nothing is measured on."""
    human = read(tokens, "preferences", split="held_out")
    held_out = {tuple(row["prompt_ids"]) for row in human}
    kept = []
    for key, one, other in pairs:
        asked = judge.questions(compared(prompts[key], one, other))
        if tuple(prompts[key]["prompt_ids"]) in held_out:
            dropped["held_out_prompt"] += 1
        elif max(map(len, asked)) > domain.facts.max_positions:
            dropped["question_too_long"] += 1
        else:
            kept.append((key, one, other))
    return kept


def compared(prompt: Row, one: Candidate, other: Candidate) -> Comparison:
    """Two candidates as the judge is asked about them."""
    return Comparison(prompt["messages"], one.text, other.text)


def is_kept(judged: JudgedPair) -> bool:
    """Whether the judge preferred a side."""
    return judged.outcome == PREFERRED


def rendering(tokens: Tokens) -> TokenizeRecipe:
    """Lengths that the human pairs were held to."""
    facts = tokens.facts
    return TokenizeRecipe(max_length=facts.max_length, block_size=facts.block_size)


def as_row(judged: JudgedPair, prompts: dict[str, Row]) -> Row:
    """A preference in the columns of the human ones, the better side chosen."""
    prompt = prompts[judged.prompt_id]
    sides = [judged.one.text, judged.other.text]
    chosen, rejected = sides if judged.label > 0.5 else sides[::-1]
    return {
        "id": judged.id,
        "kind": "ai",
        "group": prompt["group"],
        "split": "train",
        "margin": None,
        "messages": prompt["messages"],
        "chosen": chosen,
        "rejected": rejected,
        "label": max(judged.label, 1 - judged.label),
    }


def write(
    judged: Sequence[JudgedPair], rows: list[Row], dropped: Counter[str], report: JudgeReport
) -> AiPreferences:
    """Every judgement a line, the preferences as a table; refuses an empty one once written."""
    folder = Runtime.from_environment().new_folder("ai_preferences")
    lines = "".join(one.model_dump_json() + "\n" for one in judged)
    (folder / JUDGEMENTS).write_text(lines, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / PAIRS)
    facts = AiPreferencesFacts(
        num_pairs=len(rows),
        num_judged=len(judged),
        dropped=dict(sorted(dropped.items())),
        judge_accuracy=report.accuracy,
        judge_by_kind=report.by_kind,
        num_human_pairs=report.num_pairs,
        first_preferred=report.first_preferred,
        order_decides=report.order_decides,
        order_by_kind=report.order_by_kind,
    )
    figures = facts.model_dump(exclude={"dropped", "judge_by_kind", "order_by_kind"})
    figures |= {f"dropped_{why}": float(number) for why, number in dropped.items()}
    log_figures(RESULT, {name: float(value) for name, value in figures.items()})
    preferences = AiPreferences.write(folder, "ai_preferences", facts)
    if not rows:
        raise NothingPreferred(
            f"rlaif: none of {len(judged)} judged pairs is left (dropped: {facts.dropped}); read "
            "the artifact `ai_preferences`, or draw more answers (self_critique.num_samples)",
            preferences,
        )
    return preferences


def read_judged(preferences: AiPreferences) -> list[Row]:
    """The preferences' rows, verified."""
    folder = preferences.verify().made_by("ai_preferences").path
    rows: list[Row] = pq.read_table(folder / PAIRS).to_pylist()
    return rows

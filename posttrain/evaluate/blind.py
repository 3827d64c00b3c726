"""Answers of two registered versions side by side, without their names: pairs and what people say.

A pair's sides stand in an order drawn by a seed; which version wrote which stays in the pair, and a
page shows the texts alone. `posttrain.evaluate.ballots` keeps the verdicts.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from posttrain.align.human_preferences import WORTH, first_share, majority
from posttrain.align.pairs import Pair, Turn, pair_blind, pair_id
from posttrain.align.revise import Utterance
from posttrain.align.verdicts import Choice
from posttrain.evaluate.bootstrap import wilson_interval
from posttrain.figures import Figure
from posttrain.recipe.section import Section
from posttrain.reports import Evaluation


class VersionPair(Pair):
    """A pair with the versions that wrote it."""

    name: str
    """Registered model of both."""

    version_1: int
    version_2: int

    @property
    def versions(self) -> tuple[int, int]:
        """The two, the lower number first."""
        return (min(self.version_1, self.version_2), max(self.version_1, self.version_2))


class Ballot(Section):
    """What one rater said of one pair, with the texts that were shown."""

    pair: VersionPair
    choice: Choice | None
    """None where the rater passed the pair over."""

    rater: str
    updated_at: str
    """UTC, in ISO 8601."""


class Tally(Section):
    """What raters said of two versions so far."""

    versions: tuple[int, int]
    """The lower number first."""

    num_rated: int
    """Pairs with a verdict."""

    num_verdicts: int
    num_raters: int
    num_skipped: int
    """Times that a rater passed a pair over."""

    wins: tuple[int, int]
    """Pairs in which more than half of the raters prefer the one, and the other version."""

    num_ties: int
    num_undecided: int
    """Pairs in which nothing is said by more than half."""

    win_rate: Figure | None
    """Mean share of verdicts for the second of `versions`, ties half; None before any."""

    agreement: float | None
    """Share of two raters' verdicts on one pair that agree; None without a pair of two raters."""

    first_share: float | None
    """Share of verdicts for the answer shown first, ties half: about one half, or places count."""


@dataclass(frozen=True)
class Asked:
    """A prompt that both versions answer."""

    messages: tuple[Turn, ...]
    held_out: bool
    group: str = ""
    """Empty: ingest derives it from the question."""


def pair_up(
    name: str,
    versions: tuple[int, int],
    asked: Sequence[Asked],
    answers: tuple[Sequence[Utterance], Sequence[Utterance]],
    seed: int,
) -> tuple[list[VersionPair], dict[str, int]]:
    """Pairs in an order drawn by the seed, and how many prompts gave none, by reason."""
    chance = random.Random(seed)
    pairs, dropped = pair_blind(asked, answers, versions, partial(_pair, name), chance)
    chance.shuffle(pairs)
    return pairs, dropped


def from_samples(
    name: str, versions: tuple[int, int], evaluations: tuple[Evaluation, Evaluation], seed: int
) -> list[VersionPair]:
    """Pairs of the answers that both evaluations hold: probes, so none of them is trained on."""
    samples = [
        {sample.prompt: sample.response for sample in evaluation.stages[-1].samples}
        for evaluation in evaluations
    ]
    prompts = [prompt for prompt in samples[0] if prompt in samples[1]]
    asked = [Asked((Turn(role="user", content=prompt),), held_out=True) for prompt in prompts]
    first, second = (
        # whether the answer ended is not recorded of one sample
        [Utterance([], said[prompt].strip(), ended=True) for prompt in prompts]
        for said in samples
    )
    return pair_up(name, versions, asked, (first, second), seed)[0]


def last_words(
    ballots: Iterable[Ballot],
) -> tuple[list[tuple[VersionPair, list[Choice]]], list[Ballot]]:
    """Each pair with what its raters last said, in the pair's own order; and these ballots."""
    last = list({(ballot.pair.pair_id, ballot.rater): ballot for ballot in ballots}.values())
    pairs: dict[str, VersionPair] = {}
    said: dict[str, list[Choice]] = defaultdict(list)
    for ballot in last:
        if ballot.choice is not None:
            pair = pairs.setdefault(ballot.pair.pair_id, ballot.pair)
            said[pair.pair_id].append(_as_in(pair, ballot.pair, ballot.choice))
    return [(pairs[key], choices) for key, choices in said.items()], last


def tally(versions: tuple[int, int], ballots: Iterable[Ballot]) -> Tally:
    """Count each rater's last word on each pair of two versions, the lower number first."""
    said, last = last_words(ballot for ballot in ballots if ballot.pair.versions == versions)
    firsts = [(pair, first_share(choices)) for pair, choices in said]
    shares = [share if pair.version_1 == versions[1] else 1 - share for pair, share in firsts]
    outcomes = Counter(_outcome(pair, choices) for pair, choices in said)
    duels = [two for _, choices in said for two in itertools.combinations(choices, 2)]
    for_first = [WORTH[ballot.choice] for ballot in last if ballot.choice]
    return Tally(
        versions=versions,
        num_rated=len(said),
        num_verdicts=len(for_first),
        num_raters=len({ballot.rater for ballot in last if ballot.choice}),
        num_skipped=sum(ballot.choice is None for ballot in last),
        wins=(outcomes[versions[0]], outcomes[versions[1]]),
        num_ties=outcomes["tie"],
        num_undecided=outcomes[None],
        win_rate=wilson(shares) if shares else None,
        agreement=sum(a == b for a, b in duels) / len(duels) if duels else None,
        first_share=sum(for_first) / len(for_first) if for_first else None,
    )


def wilson(shares: Sequence[float]) -> Figure:
    """The mean of shares between 0 and 1, with Wilson's 95 % score interval.

    The interval is a proportion's; shares between its ends vary less, so it is never too narrow
    for ties, and ten wins of ten do not look certain.
    """
    mean = sum(shares) / len(shares)
    low, high = wilson_interval(mean, len(shares))
    return Figure(value=mean, low=low, high=high, num=len(shares))


def to_rate(
    pairs: Mapping[str, VersionPair], ballots: Iterable[Ballot], rater: str
) -> list[VersionPair]:
    """The pairs on which a rater has said nothing yet, in their order."""
    done = {ballot.pair.pair_id for ballot in ballots if ballot.rater == rater}
    return [pair for key, pair in pairs.items() if key not in done]


def _as_in(pair: VersionPair, shown: VersionPair, choice: Choice) -> Choice:
    """The choice in the order of `pair`, where the same texts were shown the other way round."""
    if choice == "tie" or shown.response_1 == pair.response_1:
        return choice
    return "response_2" if choice == "response_1" else "response_1"


def _outcome(pair: VersionPair, choices: Sequence[Choice]) -> int | Choice | None:
    """The version that most prefer, `tie`, or None."""
    choice = majority(choices)
    sides = {"response_1": pair.version_1, "response_2": pair.version_2}
    return choice if choice is None else sides.get(choice, choice)


def _pair(name: str, prompt: Asked, written: Sequence[tuple[Utterance, int]]) -> VersionPair:
    (first, version_1), (second, version_2) = written
    turns = [turn.model_dump() for turn in prompt.messages]
    return VersionPair(
        pair_id=pair_id(turns, [first.text, second.text]),
        messages=prompt.messages,
        response_1=first.text,
        response_2=second.text,
        group=prompt.group,
        held_out=prompt.held_out,
        name=name,
        version_1=version_1,
        version_2=version_2,
    )

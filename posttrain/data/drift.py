"""How far data is from the data of the champion's run: the population stability index.

Pure functions of counts. Two samples of one source differ too: their index is about
`(1/n + 1/m)` times chi-squared with one degree of freedom less than there are bins (Yurdakul and
Naranjo 2020), n and m being their rows. So small roles get few bins, and an index counts only where
chance gives it rarely. Words of one row belong together, so for them mean and spread are measured
between random halves of the new rows, over many partings.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, pvariance

from posttrain.data.profile import NUM_PARTS, Tally, bin_length
from posttrain.facts import SourceFacts
from posttrain.profiles import (
    ChampionData,
    Counted,
    DataDrift,
    DimensionDrift,
    Level,
    RoleDrift,
    RoleProfile,
    Shift,
)
from posttrain.recipe.validation import Dimension, DriftRecipe

MIN_ROWS = 10
"""Rows that a bin should hold at least, of both samples together a label."""

MAX_BINS = 10
"""Of lengths, as is customary."""

MAX_WORDS = 100
"""Words that are bins of their own; one for every `ROWS_A_WORD` rows."""

ROWS_A_WORD = 5
MIN_TIMES = 40
"""How often such a word stands in the champion's data: of rarer ones the most frequent are so by
luck, and fall back."""

_NUM_PARTINGS = 64

REST = "all others"

_NOTHING = 0.5
"""Added to each count: an empty bin has no logarithm."""

_NUM_SHIFTS = 3


def psi(then: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Population stability index over the bins of `then` and `now`."""
    return sum(_parts(then, now).values())


def _parts(then: Mapping[str, int], now: Mapping[str, int]) -> dict[str, float]:
    """What each bin adds."""
    bins = list(dict.fromkeys([*then, *now]))
    num_then, num_now = (sum(counts.values()) + _NOTHING * len(bins) for counts in (then, now))
    found = {}
    for name in bins:
        p, q = ((counts.get(name, 0) + _NOTHING) for counts in (then, now))
        p, q = p / num_then, q / num_now
        found[name] = (q - p) * math.log(q / p)
    return found


def against(
    tallies: Sequence[Tally],
    sources: Mapping[str, SourceFacts],
    champion: ChampionData,
    recipe: DriftRecipe,
) -> DataDrift:
    """The rows that passed against those of the champion's run; in words what was not compared."""
    if not champion.profiles:
        return DataDrift(champion=champion.version, note=champion.note, key=champion.key)
    here, there = {tally.role for tally in tallies}, champion.profiles.keys()
    both = [tally for tally in tallies if tally.role in there]
    roles = []
    for tally in both:
        now, then = tally.counted(sources.get(tally.role)), champion.profiles[tally.role]
        roles.append(compare(tally, now, then, recipe, len(both) * len(recipe.dimensions)))
    notes: dict[str, list[str]] = {
        "the champion had none": sorted(here - there),
        "only the champion had": sorted(there - here),
        "too few rows to compare": [role.role for role in roles if not role.dimensions],
    }
    note = "; ".join(f"{what}: {', '.join(names)}" for what, names in notes.items() if names)
    return DataDrift(champion=champion.version, note=note, roles=tuple(roles), key=champion.key)


def forbidden(drift: DataDrift, recipe: DriftRecipe) -> tuple[str, ...]:
    """Why drift fails the step, where the recipe says that it does."""
    if recipe.on_drift == "warn" or not drift.beyond:
        return ()
    return (
        f"data drifted from those of the champion (version {drift.champion}): "
        f"{'; '.join(drift.beyond)}; mend the source, raise validation.drift.beyond, or set "
        "validation.drift.on_drift: warn",
    )


def compare(
    tally: Tally, now: Mapping[Dimension, Counted], then: RoleProfile, recipe: DriftRecipe, num: int
) -> RoleDrift:
    """One role against the champion's.

    Args:
        tally: of the new rows.
        now: their dimensions, words whole.
        then: the champion's.
        recipe: the limits.
        num: comparisons that the run makes, which share its false alarms.
    """
    found = []
    for name in recipe.dimensions:
        if name in now and name in then.dimensions:
            drift = _dimension(name, tally, (then, then.dimensions[name]), now[name], recipe, num)
            if drift is not None:
                found.append(drift)
    return RoleDrift(
        role=tally.role,
        num_rows=tally.num_rows,
        num_rows_then=then.num_rows,
        dimensions=tuple(found),
    )


def _dimension(
    name: Dimension,
    tally: Tally,
    champion: tuple[RoleProfile, Counted],
    now: Counted,
    recipe: DriftRecipe,
    num: int,
) -> DimensionDrift | None:
    """None where there is one bin alone, or too few rows for two."""
    then = champion[1]
    rows = (champion[0].num_rows, tally.num_rows)
    if name == "source":  # counted as they were read
        rows = (then.total, now.total)
    bins = _binned(name, then, now, min(rows))
    if len(bins.names) < 2:
        return None
    size = 1 / rows[0] + 1 / rows[1]
    null = _Null(1.0, len(bins.names) - 1)
    if name == "vocabulary":
        null = _of_words(bins, tally) or null
    chance = size * null.quantile(1 - recipe.false_alarms / num)
    index = psi(bins.then, bins.now)
    return DimensionDrift(
        dimension=name,
        psi=index,
        num_bins=len(bins.names),
        expected=size * null.scale * null.freedom,
        chance=chance,
        level=_level(index, chance, recipe),
        shifts=_shifts(bins),
    )


@dataclass(frozen=True)
class _Bins:
    """Both samples in the same bins."""

    then: dict[str, int]
    now: dict[str, int]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.then, *self.now]))


@dataclass(frozen=True)
class _Null:
    """Index of two samples of one source, a row against no end: `scale` times chi-squared."""

    scale: float
    freedom: float

    def quantile(self, probability: float) -> float:
        return self.scale * chi_squared(probability, self.freedom)


def _binned(name: Dimension, then: Counted, now: Counted, num_rows: int) -> _Bins:
    if name == "length":
        return _intervals(then, now, min(MAX_BINS, num_rows // MIN_ROWS))
    if name == "vocabulary":
        frequent = [word for word in then.counts if then.counts[word] >= MIN_TIMES]
        frequent.sort(key=lambda word: (-then.counts[word], word))
        kept = frequent[: min(MAX_WORDS, num_rows // ROWS_A_WORD)]
    else:
        both = {*then.counts, *now.counts}
        kept = sorted(k for k in both if _count(then, k) + _count(now, k) >= MIN_ROWS)
    sides = [{name: _count(side, name) for name in kept} for side in (then, now)]
    rest = [side.total - sum(c.values()) for side, c in zip((then, now), sides, strict=True)]
    if any(rest):
        sides = [counts | {REST: other} for counts, other in zip(sides, rest, strict=True)]
    return _Bins(*sides)


def _intervals(then: Counted, now: Counted, num_bins: int) -> _Bins:
    """Neighbouring lengths together, so that the champion's rows spread evenly."""
    places = sorted(int(place) for place in {*then.counts, *now.counts})
    groups: list[list[int]] = [[]]
    reached = 0
    for place in places:
        groups[-1].append(place)
        reached += _count(then, str(place))
        if reached * num_bins >= then.total * len(groups) and len(groups) < num_bins:
            groups.append([])
    groups = [group for group in groups if group]
    if len(groups) > 1 and not sum(_count(then, str(p)) for p in groups[-1]):
        last = groups.pop()  # beyond all of the champion's
        groups[-1] += last
    named = {_interval(group): group for group in groups}
    return _Bins(
        *(
            {name: sum(_count(side, str(p)) for p in group) for name, group in named.items()}
            for side in (then, now)
        )
    )


def _interval(group: list[int]) -> str:
    first, last = bin_length(group[0]), bin_length(group[-1])
    return f"about {first:,}" if first == last else f"about {first:,} to {last:,}"


def _count(counted: Counted, name: str) -> int:
    return counted.counts.get(name, 0)


def _of_words(bins: _Bins, tally: Tally) -> _Null | None:
    """Mean and spread of the index between halves of the new rows; None where there are none."""
    parts = [part for part in range(NUM_PARTS) if tally.part_rows[part]]
    if len(parts) < 4:
        return None
    kept = [word for word in bins.then if word != REST]
    counted = {part: {word: tally.words.count(word, part) for word in kept} for part in parts}
    for part, counts in counted.items():
        counts[REST] = tally.words.totals[part] - sum(counts.values())
    draw, found = random.Random(0), []
    for _ in range(_NUM_PARTINGS):
        drawn = draw.sample(parts, len(parts) // 2)
        halves = [drawn, [part for part in parts if part not in drawn]]
        size = sum(1 / sum(tally.part_rows[part] for part in half) for half in halves)
        sides = [{w: sum(counted[p][w] for p in half) for w in (*kept, REST)} for half in halves]
        found.append(psi(*sides) / size)
    average = mean(found)
    freedom = 2 * average**2 / max(pvariance(found), 1e-12)
    return _Null(average / freedom, freedom)


def _level(index: float, chance: float, recipe: DriftRecipe) -> Level:
    if index <= max(chance, recipe.notable):
        return "stable"
    return "beyond" if index > recipe.beyond else "notable"


def _shifts(bins: _Bins) -> tuple[Shift, ...]:
    parts = _parts(bins.then, bins.now)
    num_then, num_now = (max(1, sum(side.values())) for side in (bins.then, bins.now))
    most = sorted(parts, key=lambda name: -parts[name])[:_NUM_SHIFTS]
    return tuple(
        Shift(bin=name, then=bins.then.get(name, 0) / num_then, now=bins.now.get(name, 0) / num_now)
        for name in most
    )


def chi_squared(probability: float, freedom: float) -> float:
    """Quantile of chi-squared, after Wilson and Hilferty (1931)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(probability) * math.sqrt(part)) ** 3

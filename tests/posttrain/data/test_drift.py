"""The index against values worked by hand; what drifted is found, what was drawn again is not."""

import math
import random

import pytest
from scipy.stats import chi2

from posttrain.data.drift import REST, against, chi_squared, forbidden, psi
from posttrain.data.profile import Tally
from posttrain.data.rows import Row
from posttrain.facts import SourceFacts
from posttrain.profiles import ChampionData, DataDrift, DimensionDrift
from posttrain.recipe.validation import Dimension, DriftRecipe

FRUIT = ("apple", "pear", "plum", "fig", "date", "lime", "kiwi", "grape", "melon", "peach")
WARN = DriftRecipe()


def rows(seed: int, number: int, *, length: int = 20, tail: float = 0.0) -> list[Row]:
    """Documents of one source: topics that bring words of their own, about `length` words."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        topic = draw.sample(FRUIT, 3)
        size = max(3, round(draw.gauss(length, length / 4)))
        words = [draw.choice(topic if draw.random() < 0.5 else FRUIT) for _ in range(size)]
        words += ["durian"] * round(tail * size)
        found.append({"id": "c", "text": " ".join(words), "split": "train", "extra": None})
    return found


def tally(given: list[Row]) -> Tally:
    made = Tally("corpus")
    made.add(given)
    return made


def drift(
    then: list[Row], now: list[Row], recipe: DriftRecipe = WARN, sources: tuple[str, ...] = ()
) -> DataDrift:
    named = [
        SourceFacts(source="s", revision=None, files={}, num_rows={name: 500}) for name in sources
    ]
    first, second = (named[0], named[1]) if named else (None, None)
    champion = ChampionData(version=3, profiles={"corpus": tally(then).profile(first)})
    facts = {"corpus": second} if second is not None else {}
    return against([tally(now)], facts, champion, recipe)


def of(found: DataDrift) -> dict[Dimension, DimensionDrift]:
    return {one.dimension: one for one in found.roles[0].dimensions}


def test_the_index_is_that_worked_by_hand() -> None:
    # half a row is added to each bin: 100.5/201, 100.5/201 against 150.5/201, 50.5/201
    by_hand = (150.5 - 100.5) / 201 * math.log(150.5 / 100.5)
    by_hand += (50.5 - 100.5) / 201 * math.log(50.5 / 100.5)
    assert psi({"a": 100, "b": 100}, {"a": 150, "b": 50}) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.2716, abs=1e-4)


def test_equal_shares_have_no_index_and_the_order_of_samples_is_no_matter() -> None:
    assert psi({"a": 30, "b": 10}, {"a": 30, "b": 10}) == 0
    one, other = {"a": 40, "b": 60, "c": 5}, {"b": 10, "a": 90}
    assert psi(one, other) == pytest.approx(psi(other, one))


def test_an_empty_bin_is_finite() -> None:
    assert 1 < psi({"a": 100}, {"b": 100}) < 20


@pytest.mark.parametrize("freedom", [1, 4, 9, 100])
@pytest.mark.parametrize("probability", [0.95, 0.999, 0.9999])
def test_the_quantile_is_scipys(probability: float, freedom: int) -> None:
    expected = float(chi2.ppf(probability, freedom))
    assert chi_squared(probability, freedom) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("number", [40, 200, 1000])
def test_rows_drawn_again_are_not_called_drifted(number: int) -> None:
    levels = [
        one.level
        for seed in range(40)
        for one in of(drift(rows(seed, number), rows(1000 + seed, number))).values()
    ]
    assert levels.count("beyond") + levels.count("notable") == 0


def test_the_mean_without_drift_is_the_one_that_is_told() -> None:
    found = [of(drift(rows(seed, 150), rows(1000 + seed, 150))) for seed in range(40)]
    for name in ("length", "vocabulary"):
        measured = sum(one[name].psi for one in found) / len(found)
        told = sum(one[name].expected for one in found) / len(found)
        assert measured == pytest.approx(told, rel=0.35), name


def test_longer_texts_are_found_and_nothing_else() -> None:
    found = of(drift(rows(0, 400), rows(1, 400, length=40)))
    assert found["length"].level == "beyond"
    assert found["vocabulary"].level == "stable"


def test_a_new_word_is_found_and_named() -> None:
    found = of(drift(rows(0, 400), rows(1, 400, tail=0.4)))["vocabulary"]
    assert found.level == "beyond"
    assert REST in {shift.bin for shift in found.shifts}  # the champion had no such word


def test_a_word_that_vanished_is_found_and_named() -> None:
    found = of(drift(rows(0, 400, tail=0.4), rows(1, 400)))["vocabulary"]
    assert (found.level, found.shifts[0].bin, found.shifts[0].now) == ("beyond", "durian", 0.0)


def test_rows_of_another_source_are_found() -> None:
    found = of(drift(rows(0, 100), rows(1, 100), sources=("a.jsonl", "b.jsonl")))
    assert found["source"].level == "beyond"
    same = drift(rows(0, 100), rows(1, 100), sources=("a.jsonl", "a.jsonl"))
    assert "source" not in of(same)


def test_few_rows_are_not_compared_and_that_is_said() -> None:
    found = drift(rows(0, 12), rows(1, 12, length=80))
    assert found.roles[0].dimensions == ()
    assert found.note == "too few rows to compare: corpus"


def test_roles_that_one_side_lacks_are_named() -> None:
    champion = ChampionData(version=3, profiles={"prompts": tally(rows(0, 40)).profile(None)})
    found = against([tally(rows(0, 40))], {}, champion, WARN)
    assert found.note == "the champion had none: corpus; only the champion had: prompts"


def test_without_a_champion_the_reason_is_said() -> None:
    found = against([tally(rows(0, 40))], {}, ChampionData(note="no champion yet"), WARN)
    assert (found.champion, found.note, found.roles) == (None, "no champion yet", ())


def test_limits_are_the_recipes() -> None:
    then, now = rows(0, 2000), rows(1, 2000, length=23)
    index = of(drift(then, now))["length"].psi
    near = DriftRecipe(notable=index * 0.5, beyond=index * 0.9)
    far = DriftRecipe(notable=index * 1.1, beyond=index * 2)
    assert of(drift(then, now, near))["length"].level == "beyond"
    assert of(drift(then, now, far))["length"].level == "stable"


def test_the_recipe_says_whether_drift_is_forbidden() -> None:
    found = drift(rows(0, 400), rows(1, 400, length=40))
    assert forbidden(found, WARN) == ()
    (why,) = forbidden(found, DriftRecipe(on_drift="fail"))
    assert "corpus length" in why and "version 3" in why and "validation.drift" in why


def test_limits_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"notable \(0.3\) is above beyond"):
        DriftRecipe(notable=0.3)

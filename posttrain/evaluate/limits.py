"""The gate's outcomes in sentences, from the figures that it recorded.

Of a comparison, English keeps the gate's own words, which say most.
"""

from functools import partial

from posttrain.decisions import RuleOutcome
from posttrain.evaluate.difference import FEWEST
from posttrain.evaluate.language import Text, both, catalogue, plain, say
from posttrain.evaluate.wording import figure_label, label, short_label
from posttrain.registry.comparison import number, rounded


def outcome_sentence(outcome: RuleOutcome) -> Text:
    """What a rule saw, with figures and stages as people call them."""
    if outcome.kind == "limit":
        return _limited(outcome)
    english = _in_english(outcome)
    if outcome.kind is None:  # what its words say is all that is known
        return plain(english)
    told = _gained(outcome) if outcome.gain is not None else _refused(outcome)
    return Text(english, told.ko)


def _in_english(outcome: RuleOutcome) -> str:
    text = outcome.reason.replace(outcome.figure, short_label(outcome.figure), 1)
    for name, called in catalogue("en")["stages"].items():
        text = text.replace(f" of {name} ", f" of {called} ", 1)
    return _capital(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _limited(outcome: RuleOutcome) -> Text:
    low, high = outcome.at_least, outcome.at_most
    if low is not None and high is not None:
        bounds = say("limit.between", low=number(low), high=number(high))
    elif low is not None:
        bounds = say("limit.at_least", bound=number(low))
    else:
        assert high is not None, "a limit has a bound"
        bounds = say("limit.at_most", bound=number(high))
    if outcome.confident:
        bounds = say("limit.confident", bounds=bounds)
    figure = Text(_capital(short_label(outcome.figure)), short_label(outcome.figure, "ko"))
    named = {"figure": figure, "stage": both(partial(label, "stages"), outcome.stage)}
    if outcome.value is None:
        return say("limit.missing", bounds=bounds, **named)
    within = _interval(outcome.interval)
    if outcome.confident and outcome.interval is None:
        within = say("limit.no_interval")
    return say("limit.seen", value=number(outcome.value), interval=within, bounds=bounds, **named)


def _gained(outcome: RuleOutcome) -> Text:
    assert outcome.gain is not None and outcome.value is not None and outcome.champion is not None
    return say(
        "gain.compared",
        reason=outcome.reason,
        figure=both(figure_label, outcome.figure),
        value=number(outcome.value),
        champion=number(outcome.champion),
        change=_change(outcome.gain),
        interval=_gain_interval(outcome),
        asked=_asked(outcome),
        undecided=_undecided(outcome) if outcome.is_undecided else plain(""),
    )


def _refused(outcome: RuleOutcome) -> Text:
    assert outcome.problem is not None, "what has no gain was refused"
    theirs, ours = outcome.hashes or ("", "")
    told = {"champion": theirs, "ours": ours, "reason": outcome.reason}
    return say(f"refused.{outcome.problem}", figure=both(figure_label, outcome.figure), **told)


def _asked(outcome: RuleOutcome) -> Text:
    assert outcome.needed_gain is not None, "a compared figure has a margin"
    margin = abs(outcome.needed_gain)
    if outcome.kind == "max_loss":
        return say("gain.loss", margin=number(margin)) if margin else say("gain.no_loss")
    if margin:
        return say("gain.required", margin=number(margin))
    return say("gain.beyond_noise" if outcome.confident else "gain.any")


def _undecided(outcome: RuleOutcome) -> Text:
    """Why noise alone keeps a figure from passing, and what would help."""
    if outcome.problem == "no_standard_error":
        return say("gain.no_standard_error")
    if outcome.problem == "too_few_items":
        return say("gain.too_few_items", num=outcome.num, fewest=FEWEST)
    if outcome.needed_items is None:
        return say("gain.noise")
    return say("gain.more_items", num=f"{outcome.num:,}", needed=f"{outcome.needed_items:,}")


def _change(gain: float) -> Text:
    if rounded(gain) == 0:
        return say("gain.equal")
    return say("gain.better" if gain > 0 else "gain.worse", gain=number(abs(gain)))


def _gain_interval(outcome: RuleOutcome) -> Text:
    """The ends as better or worse: of a figure where lower is better too, a gain is one."""
    if outcome.gain_interval is None:
        return plain("")
    low, high = (rounded(end) for end in outcome.gain_interval)
    if low == high == 0 and outcome.is_paired:
        return say("gain.no_item_differs")
    return say("limit.interval", low=_change(low), high=_change(high))


def _interval(bounds: tuple[float, float] | None) -> Text:
    if bounds is None:
        return plain("")
    return say("limit.interval", low=number(bounds[0]), high=number(bounds[1]))

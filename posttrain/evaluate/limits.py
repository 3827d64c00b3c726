"""The gate's outcomes in sentences, from the figures that it recorded.

Of a comparison, English keeps the gate's own words, which say most.
"""

from functools import partial

from posttrain.decisions import RuleOutcome
from posttrain.evaluate.language import Text, both, catalogue, plain, say
from posttrain.evaluate.wording import figure_label, label, short_label
from posttrain.registry.comparison import number

CONFIDENT = "with 95 % confidence"
"""How the gate's rule ends where the whole interval must lie within the bounds."""


def outcome_sentence(outcome: RuleOutcome) -> Text:
    """What a rule saw, with figures and stages as people call them."""
    english = _in_english(outcome)
    if outcome.gain is not None:
        return Text(english, _gained(outcome).ko)
    if outcome.at_least is not None or outcome.at_most is not None:
        return _limited(outcome)
    figure = both(figure_label, outcome.figure)
    return Text(english, say("gain.refused", figure=figure, reason=english).ko)


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
    if outcome.rule.endswith(CONFIDENT):
        bounds = say("limit.confident", bounds=bounds)
    figure = Text(_capital(short_label(outcome.figure)), short_label(outcome.figure, "ko"))
    named = {"figure": figure, "stage": both(partial(label, "stages"), outcome.stage)}
    if outcome.value is None:
        return say("limit.missing", bounds=bounds, **named)
    within = _interval(outcome.interval)
    return say("limit.seen", value=number(outcome.value), interval=within, bounds=bounds, **named)


def _gained(outcome: RuleOutcome) -> Text:
    assert outcome.gain is not None and outcome.value is not None and outcome.champion is not None
    change = "equal" if outcome.gain == 0 else "better" if outcome.gain > 0 else "worse"
    needed = outcome.needed_gain or 0.0
    return say(
        "gain.compared",
        reason=outcome.reason,
        figure=both(figure_label, outcome.figure),
        value=number(outcome.value),
        champion=number(outcome.champion),
        change=say(f"gain.{change}", gain=number(abs(outcome.gain))),
        interval=_interval(outcome.gain_interval),
        asked=say(f"gain.{'accepted' if needed < 0 else 'required'}", margin=number(abs(needed))),
        undecided=say("gain.undecided") if outcome.is_undecided else plain(""),
    )


def _interval(bounds: tuple[float, float] | None) -> Text:
    if bounds is None:
        return plain("")
    return say("limit.interval", low=number(bounds[0]), high=number(bounds[1]))

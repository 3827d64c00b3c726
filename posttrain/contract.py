"""What must match before weights or tokens are used: base, tokenizer and template.

Imports no torch: the registry's image checks the same contract.
"""

from collections.abc import Iterable
from pathlib import Path

from posttrain.artifacts import BaseModel, Tokens
from posttrain.facts import TrainedOn


def trained_on(base: BaseModel) -> TrainedOn:
    """What weights that are trained on `base` must record."""
    facts = base.facts
    return TrainedOn(
        base_fingerprint=facts.fingerprint,
        tokenizer_hash=facts.tokenizer_hash,
        template_hash=facts.template_hash,
    )


def check_trained_on(recorded: TrainedOn, base: BaseModel, holder: Path) -> None:
    """Refuse weights that were trained on another base, tokenizer or template.

    Raises:
        ValueError: names what differs, with both values.
    """
    found = trained_on(base)
    _compare(
        f"{holder}: was trained on",
        base,
        [
            ("base fingerprint", recorded.base_fingerprint, found.base_fingerprint),
            ("tokenizer hash", recorded.tokenizer_hash, found.tokenizer_hash),
            ("template hash", recorded.template_hash, found.template_hash),
        ],
        "use it with the base that it was trained on",
    )


def check_tokens(tokens: Tokens, base: BaseModel) -> None:
    """Refuse damaged tokens, and such as were made for another tokenizer or template.

    Raises:
        ValueError: names what differs, with both values.
    """
    made = tokens.verify().made_by("tokenize").facts
    check_made_for(made.tokenizer_hash, made.template_hash, base, tokens.path)


def check_made_for(tokenizer_hash: str, template_hash: str, base: BaseModel, holder: Path) -> None:
    """Refuse what was made for another tokenizer or template.

    Raises:
        ValueError: names what differs, with both values.
    """
    _compare(
        f"{holder}: made for",
        base,
        [
            ("tokenizer_hash", tokenizer_hash, base.facts.tokenizer_hash),
            ("template_hash", template_hash, base.facts.template_hash),
        ],
        "run its step again on this base",
    )


def _compare(
    what: str, base: BaseModel, values: Iterable[tuple[str, str, str]], advice: str
) -> None:
    for name, recorded, found in values:
        if recorded != found:
            raise ValueError(
                f"{what} {name} {recorded[:12]}, and {base.path} has {found[:12]}; {advice}"
            )

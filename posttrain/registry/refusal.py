"""A refused promotion as an error, for runs that a scheduler watches by their exit code."""

from posttrain.decisions import Promotion, RegisteredVersion


class PromotionRefused(ValueError):
    """The gate refused the version; running it again changes nothing."""


def why(version: RegisteredVersion, promotion: Promotion) -> str:
    """The refusal in words, each rule that stands against it with its figure."""
    return f"{version.name} version {version.version} refused: {'; '.join(promotion.reasons)}"

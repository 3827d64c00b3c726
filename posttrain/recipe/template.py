"""How a conversation becomes text, in training and in inference alike."""

from pydantic import PositiveInt

from posttrain.recipe.section import Section


class TemplateRecipe(Section):
    """The chat template and the conversations that it renders."""

    chat_template: str | None = None
    """Path of a Jinja chat template with `{% generation %}` marks; the tokenizer's own where
    absent."""

    system: str | None = None
    """System message for conversations that have none; part of the resolved template, so that
    inference has it too."""

    max_turns: PositiveInt = 16
    """Longest conversation, in messages; longer ones are dropped and counted."""

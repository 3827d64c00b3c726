"""The model card of an exported folder: the registered version's, with how to load the folder."""

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from posttrain.models.exported import BASE, ExportedFacts

HEADING = "## How to load\n"
SERVED_BY = {"peft": "peft", "merged": "transformers", "mlflow": "mlflow"}

TEMPLATES = Environment(
    loader=PackageLoader("posttrain.registry", "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 -- Markdown, from recorded facts
)


def folder_card(card: str, facts: ExportedFacts, layout: str) -> str:
    """The registered card with this folder's header and its own section on loading."""
    _, header, body = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    bottleneck = facts.method == "bottleneck"  # known to nobody but posttrain
    fields["library_name"] = "posttrain" if bottleneck else SERVED_BY[layout]
    if "base_model" in fields and facts.format == "merged":
        fields["base_model_relation"] = "finetune"  # a peft folder's is the version's own
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    before, _, after = body.partition(HEADING)
    _, heading, rest = after.partition("\n## ")
    loading = TEMPLATES.get_template("folder_loading.md").render(
        facts=facts, layout=layout, own_base=facts.base.source == BASE
    )
    return (
        f"---\n{text}---\n{before.rstrip()}\n\n{HEADING}\n{loading}{heading}{rest}".rstrip() + "\n"
    )

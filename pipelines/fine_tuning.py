"""The DAG without alignment: raw records in, a promoted SFT adapter out."""

from zenml import pipeline

from posttrain.recipe import Recipe
from steps._alerts import on_failure
from steps._caching import on_base, on_champion, on_data, on_tasks
from steps._started import started_by
from steps.base_finetune import base_finetune
from steps.base_model import base_model
from steps.evaluate import evaluate
from steps.ingest import ingest
from steps.promote import promote
from steps.register import register
from steps.sft import sft
from steps.template import template
from steps.tokenize import tokenize
from steps.validate import validate


@pipeline(on_failure=on_failure, extra=started_by())
def fine_tuning(recipe: Recipe) -> None:
    """Ingest, fine-tune, measure, promote."""
    raw = ingest.with_options(cache_policy=on_data(recipe.ingest))(recipe.ingest)
    model_name = recipe.registration.model_name
    records, quarantine, _ = validate.with_options(
        cache_policy=on_champion(recipe.ingest, model_name)
    )(raw, model_name, recipe.validation)
    base = base_model.with_options(cache_policy=on_base(recipe.base_model, recipe.template))(
        records, recipe.base_model, recipe.preflight
    )
    chats = template(records, base, recipe.template)
    tokens = tokenize(chats, base, recipe.tokenize)

    domain = base_finetune(tokens, base, recipe.base_finetune)
    assistant = sft(tokens, domain, recipe.sft)

    evaluation, _ = evaluate.with_options(cache_policy=on_tasks(recipe.evaluation))(
        tokens, base, domain, assistant, quarantine, recipe.evaluation, recipe.promotion
    )
    version = register(domain, assistant, evaluation, recipe.registration)
    promote(version, evaluation, recipe.promotion)

"""The card as the hub's own client reads it, and its instructions as a person follows them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlflow
import pytest
import torch
from huggingface_hub import ModelCard, ModelCardData
from mlflow import MlflowClient
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts, Reference
from posttrain.models.adapters import adapter_weights, attach_folder, new_adapter, save_adapter
from posttrain.models.exported import ExportedFacts
from posttrain.models.load import load_base, load_base_of, load_policy
from posttrain.models.seal import seal
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method, QuantizationRecipe
from posttrain.registry.card import model_card
from posttrain.registry.folder_card import folder_card
from posttrain.registry.register import register
from posttrain.reports import Evaluation, RoleData, Training
from tests import samples
from tests.architectures import make_base

RECIPE = RegistrationRecipe(
    model_name="museum", licence="Apache-2.0", languages=("ko", "en"), summary="Answers visitors."
)
LINEAGE = {"zenml_run": "fine_tuning-1", "data.corpus": "c" * 64}
DATA = {
    "corpus": RoleData(
        source="acme/skies",
        revision="4be1d2",
        counts={"rows": 5_998, "supervised_tokens": 402_118},
        quarantined={"near_duplicate": 154},
    ),
    "probes": RoleData(
        source="data/pro|bes.jsonl", revision=None, counts={"rows": 150}, quarantined={}
    ),
}
SECTION = {
    "method": "lora",
    "learning_rate": 0.0015,
    "lora": {"rank": 16, "target_modules": ["q_proj", "v_proj"]},
    "bottleneck": {"size": 64},
    "quantization": {"double_quantization": True},
    "eval_every": None,
}


def evaluation(policy: Policy, **changes: Any) -> Evaluation:
    trainings = tuple(
        Training(
            stage=stage, method="lora", num_trainable=number, recipe=SECTION, figures={"loss": 0.31}
        )
        for stage, number in (("base_finetune", None), ("sft", 65_536))
    )
    told = {
        "data": DATA,
        "trainings": trainings,
        "base": Reference(kind="hub", source="acme/tiny", revision="0123abc"),
    }
    plain = samples.with_benchmark(samples.evaluation(policy.content_hash()), 0.612, "q" * 64)
    return plain.model_copy(update=told | changes)


def card(folder: Path, kind: Literal["hub", "own"] = "hub", **changes: Any) -> str:
    base = samples.base_model(folder / "base", kind=kind)
    policy = samples.policy(folder / "policy", base)
    recipe = RECIPE.model_copy(update=changes.pop("recipe", {}))
    return model_card(base, policy, evaluation(policy, **changes), recipe, LINEAGE, "4")


def read(text: str) -> ModelCardData:
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hubs_client_reads_what_is_recorded(tmp_path: Path) -> None:
    data = read(card(tmp_path))
    assert (data.license, data.language) == ("apache-2.0", ["ko", "en"])
    assert (data.base_model, data["base_model_relation"]) == ("acme/tiny", "adapter")
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-generation")
    assert data.tags == ["posttrain", "sft", "lora"]
    assert data.datasets == ["acme/skies"]
    assert data.model_name == "museum"
    assert data.eval_results is not None
    found = {result.metric_name: result for result in data.eval_results}
    perplexity = found["Perplexity, domain text"]
    assert (perplexity.metric_type, perplexity.metric_value) == ("perplexity", 2.71)
    assert (perplexity.dataset_type, perplexity.dataset_revision) == ("acme/skies", "4be1d2")
    probe = found["Fact accuracy A"]
    assert (probe.metric_type, probe.metric_value) == ("fact_accuracy.A", 0.95)
    assert (probe.dataset_type, probe.dataset_revision) == ("probes", None)
    benchmark = found["arc_easy, acc"]
    assert (benchmark.dataset_name, benchmark.metric_value) == ("arc_easy, 5-shot", 0.612)
    assert benchmark.dataset_args == {"library": "lm-eval 0.4.13", "version": "1.0"}


def test_a_figure_that_is_not_finite_is_left_out_of_the_header(tmp_path: Path) -> None:
    whole = samples.evaluation()
    stage = whole.stages[-1]
    broken = stage.figures["fact_accuracy"].model_copy(update={"value": float("nan")})
    figures = stage.figures | {"fact_accuracy": broken}
    stages = (*whole.stages[:-1], stage.model_copy(update={"figures": figures}))
    data = read(card(tmp_path, stages=stages))
    assert data.eval_results is not None
    names = [result.metric_name for result in data.eval_results]
    assert "Fact accuracy A" in names
    assert "Fact accuracy" not in names


def test_a_licence_that_the_hub_does_not_know_has_a_name(tmp_path: Path) -> None:
    data = read(card(tmp_path, recipe={"licence": "Museum Licence"}))
    assert (data.license, data.license_name) == ("other", "museum-licence")


def test_an_adapter_on_a_trained_base_is_no_adapter_of_the_hubs(tmp_path: Path) -> None:
    text = card(tmp_path, kind="own")
    data = read(text)
    assert (data.base_model, data["base_model_relation"]) == ("acme/tiny", "finetune")
    assert "| Started from | `acme/tiny` at `0123abc` (hub) |" in text
    assert "| Base | weights of its own, version 4 of `museum-base` |" in text


@pytest.mark.parametrize(
    ("kind", "layout", "relation"),
    [("hub", "peft", "adapter"), ("own", "peft", "finetune"), ("hub", "merged", "finetune")],
)
def test_an_exported_folders_card_says_what_the_folder_is(
    tmp_path: Path, kind: Literal["hub", "own"], layout: Literal["peft", "merged"], relation: str
) -> None:
    facts = ExportedFacts(
        format=layout,
        method="lora",
        name="museum",
        version=1,
        architecture="LlamaForCausalLM",
        base=Reference(kind="own", source="base"),
        base_fingerprint="f" * 64,
        tokenizer_hash="t" * 64,
        template_hash="t" * 64,
        files={},
    )
    data = read(folder_card(card(tmp_path, kind=kind), facts, layout))
    assert data["base_model_relation"] == relation
    assert data.eval_results is not None


def test_without_a_hub_base_the_header_names_none(tmp_path: Path) -> None:
    text = card(tmp_path, kind="own", base=Reference(kind="own", source="weights"), data={})
    data = read(text)
    assert data.base_model is None
    assert data.datasets is None
    assert f"| SHA-256 of the validated rows | `{samples.sha256_of('corpus')[:16]}` |" in text


def test_the_text_tells_what_is_recorded(tmp_path: Path) -> None:
    text = card(tmp_path)
    for line in (
        "| | corpus | probes |",
        "| Source | `acme/skies` | `data/pro\\|bes.jsonl` |",
        "| Revision | `4be1d2` |  |",
        "| Rows | 5,998 | 150 |",
        "| Quarantined: near duplicate | 154 |  |",
        "<summary>Base FT, lora</summary>",
        "<summary>SFT, lora, 65,536 trained parameters</summary>",
        "| lora.target_modules | `q_proj, v_proj` |",
        "In the end: loss 0.31.",
        "| arc_easy | 1.0 | 2,376 | 5 | allenai/ai2_arc | lm-eval 0.4.13 | `qqqqqqqqqqqqqqqq` |",
        "| arc_easy, f1 | 0.61 |  | 0.61 |",
        f"| data.corpus | `{'c' * 64}` |",
    ):
        assert line in text.splitlines()
    assert "bottleneck.size" not in text  # of methods that were not used
    assert "quantization." not in text
    assert "eval_every" not in text
    assert "\n\n\n" not in text


def test_an_evaluation_from_before_tells_of_its_policy_alone(tmp_path: Path) -> None:
    text = card(tmp_path, trainings=(), data={}, base=None)
    assert text.count("<details>") == 1
    assert "<summary>SFT, lora, 65,536 trained parameters</summary>" in text


@dataclass(frozen=True)
class Trained:
    base: BaseModel
    policy: Policy


def noisy(model: Any, name: str = "default") -> Any:
    torch.manual_seed(3)
    for weight in adapter_weights(model, name).values():
        torch.nn.init.normal_(weight, std=0.1)
    return model


def trained(folder: Path, tokenizer: PreTrainedTokenizerFast, kind: str, method: Method) -> Trained:
    """A policy on a base of its own, in a local folder, or there with a delta."""
    base = make_base("llama", tokenizer, folder / "base")
    if kind != "own":
        weights, sealed = (folder / "base" / "weights").absolute(), folder / "sealed"
        sealed.mkdir()
        if kind == "delta":
            lora = LoraRecipe(rank=2)
            save_adapter(noisy(new_adapter(load_base(base), lora)), "default", sealed / "delta")
        reference = Reference(kind="local", source=str(weights))
        base = seal(sealed, "base_model", reference, weights, tokenizer, has_delta=kind == "delta")
    quantization = QuantizationRecipe() if method == "qlora" else None
    if method == "full":
        model = load_base(base, trainable=True)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(1.3)
        model.save_pretrained(folder / "policy" / "weights")
    else:
        recipe = BottleneckRecipe(size=8) if method == "bottleneck" else LoraRecipe(rank=4)
        frozen = load_base(base, quantization=quantization)
        adapted = noisy(new_adapter(frozen, recipe, dora=method == "dora"))
        save_adapter(adapted, "default", folder / "policy" / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method=method,
        quantization=quantization,
        num_trainable=1,
        num_adapted_modules=1,
        recipe={},
        figures={},
    )
    return Trained(base, Policy.write(folder / "policy", "sft", facts))


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("own", "lora"),
        ("own", "full"),
        ("own", "bottleneck"),
        ("local", "dora"),
        ("local", "qlora"),
        ("delta", "lora"),
        ("delta", "bottleneck"),
    ],
)
def test_the_instructions_load_the_version(
    registry: MlflowClient,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    kind: str,
    method: Method,
) -> None:
    """Each command and each line of Python is run as it stands in the card."""
    made = trained(tmp_path / "made", tokenizer, kind, method)
    register(made.base, made.policy, evaluation(made.policy), RECIPE, {})
    registry.set_registered_model_alias("museum", "champion", "1")
    version = registry.get_model_version("museum", "1")
    text = Path(version.source, "README.md").read_text(encoding="utf-8")
    for command in re.findall(r"^mlflow artifacts download (.*)$", text, re.MULTILINE):
        _, uri, _, folder = shlex.split(command)
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    expected: Any = load_policy(made.base, made.policy)
    if method == "qlora":  # without posttrain the base is loaded as it is stored
        adapter = made.policy.path / "adapter"
        expected = attach_folder(load_base(made.base), adapter, "policy", trainable=False).eval()
    ids = torch.tensor([found["tokenizer"].encode("what colour is gold ?")])
    with torch.no_grad():
        theirs, ours = found["model"].eval()(ids).logits, expected(ids).logits
    assert torch.allclose(theirs, ours, atol=1e-4)
    assert ("on the base at 16 bits answers differ" in text) == (method == "qlora")
    with torch.no_grad():
        plain = load_base_of(made.base, made.policy)(ids).logits
    assert float((plain - ours).abs().max()) > 0.05

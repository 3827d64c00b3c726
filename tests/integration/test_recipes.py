"""Every recipe for real models, run whole on stand-ins of its model and data: minutes of tests.

A run takes the recipe's file as it is: ids, revisions, columns, template, method, modules and
quantisation. It is shortened alone: fewer rows, steps, iterations and tokens, and `REQUIRED`
sources filled in.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.run_file import pipeline_of
from posttrain.artifacts import BaseModel, Policy, Records, RewardModel
from tests.hub import Hub, serve
from tests.integration.conftest import ROOT, Checkout
from tests.stand_ins import (
    SAFETENSORS_OF_DIALOGPT,
    TOKEN,
    documents,
    make_all,
    push_all,
    questions,
)
from tests.taught import teach

pytestmark = pytest.mark.slow

STOCK = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[2])
print(sum("lora_A" in name for name, _ in model.named_parameters()))
"""

EVERY = {"evaluation.num_bootstrap": 20, "evaluation.num_samples": 2, "sft.max_steps": 2}
PROBED = {"evaluation.max_new_tokens": 8}
TUNED: dict[str, Any] = {"ingest.instructions.limit": 80}
SAMPLED = {"ingest.instructions.limit": 120, "ingest.probes.limit": 40, **PROBED}
ALIGNED = {
    **SAMPLED,
    "ingest.preferences.limit": 60,
    "ingest.prompts.limit": 60,
    "reward_model.max_steps": 2,
    "reward_model.max_new_tokens": 16,
    "ppo.num_iterations": 2,
    "ppo.batch_size": 8,
    "ppo.max_new_tokens": 16,
    "self_critique.max_steps": 2,
    "self_critique.max_new_tokens": 16,
    "self_critique.min_critic_accuracy": 0,
}
DOMAIN = {"ingest.corpus.limit": 200, "base_finetune.max_steps": 2}
PROMOTED = {"promotion.limits": [{"figure": "ended_share", "at_least": 0}]}
SHORTER: dict[str, dict[str, Any]] = {
    "gemma3_1b_socratic": {**TUNED, **PROBED, "ingest.probes.limit": 8},
    "base_ft_korean": {**SAMPLED, **DOMAIN},
    "llama3_ko_8b_qlora_news": {**TUNED, **PROBED, "ingest.probes.limit": 8},
    "dialogpt_post_training": {**ALIGNED, **PROMOTED},
    "dialogpt_full_summarization": {**TUNED, **PROBED, "ingest.probes.limit": 8},
    "dialogpt_medical_qlora": TUNED,
    "dialogpt_bottleneck": SAMPLED,
    "domain_from_champion": TUNED,
    "gemma3_1b_post_training": {**ALIGNED, **DOMAIN},
    "qwen3_4b_post_training": {**ALIGNED, **DOMAIN},
}
"""Recipe -> what a run of it is spared."""

ALIGNING = [name for name in SHORTER if name.endswith("post_training")]

REQUIRED = {
    "dialogpt_full_summarization": {"instructions": "summaries.jsonl", "probes": "test.jsonl"},
    "dialogpt_medical_qlora": {"instructions": "answers.jsonl"},
    "domain_from_champion": {"instructions": "answers.jsonl"},
}
"""Recipe -> files in place of the sources that it leaves to its reader."""

MODULES = {
    "gemma3_1b_socratic": 8,
    "base_ft_korean": 14,
    "llama3_ko_8b_qlora_news": 14,
    "dialogpt_post_training": 8,
    "dialogpt_full_summarization": 0,
    "dialogpt_medical_qlora": 8,
    "dialogpt_bottleneck": 4,
    "domain_from_champion": 8,
    "gemma3_1b_post_training": 14,
    "qwen3_4b_post_training": 14,
}
"""Recipe -> adapted modules of a stand-in's two blocks."""


class Runs:
    """A checkout, and a process that runs recipes in it against a hub."""

    def __init__(self, checkout: Checkout, hub: Hub) -> None:
        self.checkout, self.hub = checkout, hub
        home = checkout.root / "home"
        self.log = checkout.root / "runs.log"
        self.seconds: dict[str, float] = {}
        self.done: dict[str, dict[str, Any]] = {}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests/integration/run_pipelines.py")],
                cwd=checkout.root,
                env={
                    **checkout.environment,
                    **hub.environment(home, TOKEN),
                    "POSTTRAIN_THREADS": "1",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, name: str) -> dict[str, Any]:
        """What a recipe's run left; each recipe runs once."""
        if name not in self.done:
            started = time.perf_counter()
            file = shortened(self.checkout, name)
            pipeline = pipeline_of(yaml.safe_load(file.read_bytes()))
            command = f"zenml pipeline run pipelines.{pipeline}.{pipeline} -c recipes/{name}.yaml"
            assert command in (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(json.dumps([pipeline, str(file)]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
            self.done[name] = json.loads(answer or '{"failed": "the process has ended"}')
            self.seconds[name] = time.perf_counter() - started
        found = self.done[name]
        # the log without the frames of ZenML's own stack that rich draws
        said = [
            line for line in self.log.read_text(encoding="utf-8").splitlines() if "│" not in line
        ]
        assert "failed" not in found, "\n".join([*said[-60:], found["failed"]])
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def recipe_of(name: str) -> dict[str, Any]:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["parameters"]["recipe"]
    return found


def shortened(checkout: Checkout, name: str) -> Path:
    """The recipe's file with less to do, in the checkout."""
    values = yaml.safe_load((checkout.root / "recipes" / f"{name}.yaml").read_bytes())
    recipe = values["parameters"]["recipe"]
    for role, file in REQUIRED.get(name, {}).items():
        assert recipe["ingest"][role]["source"] == "REQUIRED"
        recipe["ingest"][role]["source"] = file
    for path, value in {**EVERY, **SHORTER[name]}.items():
        *sections, field = path.split(".")
        block = recipe
        for section in sections:
            block = block[section]
        block[field] = value
    file = checkout.root / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


def write_required(folder: Path) -> None:
    """Data of the columns that recipes with `REQUIRED` sources want."""
    texts = [text for text in documents() if len(text) < 120]
    rows = [{"text": text, "summary": text.split(".")[0] + "."} for text in texts[:120]]
    answers = [{"instruction": asked, "response": answered} for asked, answered in questions()]
    for name, part in (
        ("summaries", rows[:100]),
        ("test", rows[100:]),
        ("answers", answers[:120]),
    ):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="module")
def runs(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("hub")
    write_required(checkout.root)
    with serve(folder / "served") as hub:
        make_all(folder / "made")
        for recipe in map(recipe_of, ALIGNING):  # of what alignment starts from, answers end
            template = ROOT / recipe["template"]["chat_template"]
            teach(folder / "made" / recipe["base_model"]["source"], template)
        push_all(hub, folder / "made")
        runs = Runs(checkout, hub)
        yield runs
        runs.close()
        print("\n".join(f"{name}: {seconds:.0f} s" for name, seconds in runs.seconds.items()))  # noqa: T201


@pytest.mark.parametrize("name", list(SHORTER))
def test_a_recipe_runs_whole_and_trains_what_it_says(runs: Runs, name: str) -> None:
    if name == "domain_from_champion":
        runs.run("dialogpt_post_training")
    found, recipe = runs.run(name), recipe_of(name)
    assert set(found["steps"].values()) <= {"completed", "cached"}
    assert_base(runs.hub, recipe, BaseModel(Path(found["folders"]["base"])))
    assert_adapter(recipe["sft"], Policy(Path(found["folders"]["assistant"])), MODULES[name])
    for stage in found["results"]["evaluation"]["stages"]:
        assert stage["figures"]["perplexity_answers"]["value"] > 1
        if any(probe["kind"] == "rouge" for probe in recipe["evaluation"].get("probes", ())):
            assert {"rouge_1", "rouge_2", "rouge_l"} <= stage["figures"].keys()
    assert found["results"]["version"]["name"] == recipe["registration"]["model_name"]


def assert_base(hub: Hub, recipe: dict[str, Any], base: BaseModel) -> None:
    """A hub's model at the commit that its revision stands for."""
    source = recipe["base_model"]["source"]
    if source.startswith("registry:"):
        return
    reference = base.facts.reference
    commit = hub.repositories["models", source].refs[recipe["base_model"]["revision"]]
    assert (reference.kind, reference.source, reference.revision) == ("hub", source, commit)


def assert_adapter(sft: dict[str, Any], policy: Policy, num_modules: int) -> None:
    """Method, rank, alpha, dropout and modules are those of the file."""
    facts = policy.facts
    assert facts.method == sft["method"]
    assert facts.num_adapted_modules == num_modules
    assert facts.figures["steps"] == 2
    quantization = facts.quantization.model_dump() if facts.quantization else None
    assert quantization == sft.get("quantization")
    if "lora" not in sft:
        return
    config = json.loads((policy.path / "adapter" / "adapter_config.json").read_bytes())
    lora = sft["lora"]
    assert config["r"] == lora["rank"] and config["lora_alpha"] == lora["alpha"]
    assert config["lora_dropout"] == lora.get("dropout", 0.0)
    if lora["target_modules"] != "all-linear":
        assert config["target_modules"] == sorted(lora["target_modules"])


def test_the_first_documents_adapter_stands_on_the_stock_model(runs: Runs, tmp_path: Path) -> None:
    found = runs.run("gemma3_1b_socratic")
    adapter = Path(found["folders"]["assistant"]) / "adapter"
    done = runs.hub.run(tmp_path, STOCK, "google/gemma-3-1b-it", str(adapter), token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == MODULES["gemma3_1b_socratic"]


@pytest.mark.parametrize("name", ["gemma3_1b_socratic", "llama3_ko_8b_qlora_news"])
def test_data_of_the_hub_are_recorded_at_their_commits(runs: Runs, name: str) -> None:
    records = Records(Path(runs.run(name)["folders"]["raw_records"]))
    for role in ("instructions", "probes"):
        source = recipe_of(name)["ingest"][role]["source"]
        refs = runs.hub.repositories["datasets", source].refs
        assert records.facts.sources[role].revision == refs["main"]


def test_no_file_is_read_at_a_branch(runs: Runs) -> None:
    """A branch may move in the middle of a run, or between a run and the use of what it made."""
    runs.run("gemma3_1b_socratic")
    read = [request for request in runs.hub.requests if "/resolve/" in request]
    commits = {sha for repository in runs.hub.repositories.values() for sha in repository.commits}
    assert read and all(request.split("/resolve/")[1][:40] in commits for request in read)


@pytest.mark.parametrize("name", ALIGNING)
def test_alignment_trains_adapters_of_the_same_kind(runs: Runs, name: str) -> None:
    folders = runs.run(name)["folders"]
    assistant = Policy(Path(folders["assistant"])).facts
    for output in ("policy", "aligned"):
        assert Policy(Path(folders[output])).facts.num_trainable == assistant.num_trainable
    reward = RewardModel(Path(folders["reward"])).facts
    whole = recipe_of(name)["reward_model"].get("method") == "full"
    assert reward.method == ("full" if whole else assistant.method)
    assert reward.num_adapted_modules == (0 if whole else assistant.num_adapted_modules)


def test_a_domain_starts_from_what_an_earlier_run_promoted(runs: Runs) -> None:
    champion = runs.run("dialogpt_post_training")
    assert champion["results"]["promotion"]["promoted"]
    base = BaseModel(Path(runs.run("domain_from_champion")["folders"]["base"])).facts
    assert base.has_delta and base.reference.source == "microsoft/DialoGPT-medium"
    hub_model = runs.hub.repositories["models", base.reference.source]
    assert base.reference.revision == hub_model.refs[SAFETENSORS_OF_DIALOGPT]
    aligned = Policy(Path(champion["folders"]["aligned"])).path / "adapter"
    delta = Path(runs.run("domain_from_champion")["folders"]["base"]) / "delta"
    file = "adapter_model.safetensors"
    assert (delta / file).read_bytes() == (aligned / file).read_bytes()

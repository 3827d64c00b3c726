"""Enter a policy in MLflow's registry: the same content is the same version.

A version is created in one write, after all of its files lie in the store, and found again by the
hash of its content: a run that was killed midway is simply run again. What it leaves at worst are
files that no version points to. Two registrations of the same content at the same moment may make
two versions; both hold the same, and the first is the one found from then on.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain import sbom
from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import check_trained_on
from posttrain.decisions import RegisteredVersion
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry import champion
from posttrain.registry.card import model_card
from posttrain.registry.history import decision
from posttrain.registry.history import read as read_history
from posttrain.registry.signing import SIGNED_BY, fingerprint, public_key_of, sign
from posttrain.registry.versions import (
    CARD,
    CHALLENGER,
    EVALUATION,
    LINEAGE,
    artifact_run,
    base_name,
    by_content,
    content_hash,
    ensure_model,
    read_evaluation,
    tag_name,
)
from posttrain.reports import Evaluation


def register(
    domain: BaseModel,
    policy: Policy,
    evaluation: Evaluation,
    recipe: RegistrationRecipe,
    lineage: dict[str, str],
    signing_key: Path | None = None,
) -> RegisteredVersion:
    """Register a policy with its base, evaluation, bill of materials and card; it is `challenger`.

    What a person rejected is not made challenger again.

    Where the content is registered already, a new evaluation replaces the old one. `lineage` says
    where it came from: `zenml_run`, `git_commit`, what the caller knows; `data.<role>` (a
    SHA-256) is added from the evaluation.

    `signing_key`: a PEM file; a version that it did not sign is signed anew.

    Raises:
        ValueError: the policy was trained on another base, the evaluation is of another policy, a
            file differs from its manifest, or the key does not open.
    """
    _check_belongs_together(domain.verify(), policy.verify(), evaluation)
    client, name, content = MlflowClient(), recipe.model_name, content_hash(domain, policy)
    data = {f"data.{role}": sha for role, sha in evaluation.data_hashes.items()}
    entry = _Entry(client, domain, policy, evaluation, recipe, {**data, **lineage}, signing_key)
    signed_by = entry.signed_by  # before anything is uploaded: the key may not open
    ensure_model(client, name)
    known = by_content(client, name, content)
    if known is None:
        with artifact_run(client, name) as run_id:
            version = entry.create(run_id)
    else:
        version = known
        if read_evaluation(client, known) != evaluation or (
            signed_by and known.tags.get(SIGNED_BY) != signed_by
        ):
            entry.replace_evaluation(known)
    last = decision(read_history(client, name), int(version.version))
    if last is None or last.action != "reject":
        client.set_registered_model_alias(name, CHALLENGER, str(version.version))
    return RegisteredVersion(
        name=name, version=int(version.version), content_hash=content, is_new=known is None
    )


def _check_belongs_together(domain: BaseModel, policy: Policy, evaluation: Evaluation) -> None:
    check_trained_on(policy.facts.trained_on, domain, policy.path)
    evaluated, registered = evaluation.policy_hash, policy.content_hash()
    if evaluated != registered:
        raise ValueError(
            f"{policy.path}: the evaluation is of policy {evaluated[:12]}, and this is "
            f"{registered[:12]}; evaluate the policy that is registered"
        )


@dataclass(frozen=True)
class _Entry:
    """What is to be registered."""

    client: MlflowClient
    domain: BaseModel
    policy: Policy
    evaluation: Evaluation
    recipe: RegistrationRecipe
    lineage: dict[str, str]
    signing_key: Path | None

    @property
    def signed_by(self) -> str:
        """Fingerprint of the key, for a tag; empty without one."""
        return fingerprint(public_key_of(self.signing_key)) if self.signing_key else ""

    @property
    def folder(self) -> str:
        """Where the version's files lie among the artifacts of its run."""
        return f"version-{content_hash(self.domain, self.policy)[:12]}"

    def create(self, run_id: str) -> ModelVersion:
        """Upload the version's files to a run, then create it."""
        base = self._base_version(run_id)
        self.client.log_artifacts(run_id, str(self.policy.path), f"{self.folder}/policy")
        tokenizer = str(self.domain.path / "tokenizer")
        self.client.log_artifacts(run_id, tokenizer, f"{self.folder}/tokenizer")
        self._upload_evaluation(run_id, self.lineage, str(base.version))
        return self.client.create_model_version(
            self.recipe.model_name,
            source=f"{self._artifact_root(run_id)}/{self.folder}",
            run_id=run_id,
            tags={
                "content_hash": content_hash(self.domain, self.policy),
                "policy_hash": self.policy.content_hash(),
                "stage": self.policy.stage,
                "method": self.policy.facts.method,
                "base_version": str(base.version),
                SIGNED_BY: self.signed_by,
                **self._origin_tags(),
                **self._evaluation_tags(),
            },
            description=self.recipe.summary or None,
        )

    def replace_evaluation(self, version: ModelVersion) -> None:
        """Same weights, measured anew: the version keeps its lineage and gets the new figures."""
        lineage = {
            name.removeprefix(LINEAGE): value
            for name, value in version.tags.items()
            if name.startswith(LINEAGE)
        }
        assert version.run_id is not None
        self._upload_evaluation(version.run_id, lineage, version.tags["base_version"])
        for name, value in {**self._evaluation_tags(), SIGNED_BY: self.signed_by}.items():
            self.client.set_model_version_tag(version.name, str(version.version), name, value)

    def _base_version(self, run_id: str) -> ModelVersion:
        """The base's version; its files are uploaded once, however many policies stand on it."""
        name, content = base_name(self.recipe.model_name), self.domain.content_hash()
        ensure_model(self.client, name)
        known = by_content(self.client, name, content)
        if known is not None:
            return known
        folder = f"base-{content[:12]}"
        self.client.log_artifacts(run_id, str(self.domain.path), folder)
        return self.client.create_model_version(
            name,
            source=f"{self._artifact_root(run_id)}/{folder}",
            run_id=run_id,
            tags={"content_hash": content, **self._origin_tags()},
            description=f"Base of {self.recipe.model_name}, which points to it by `base_version`.",
        )

    def _upload_evaluation(self, run_id: str, lineage: dict[str, str], base: str) -> None:
        card = model_card(self.domain, self.policy, self.evaluation, self.recipe, lineage, base)
        with tempfile.TemporaryDirectory() as staging:
            Path(staging, CARD).write_text(card, encoding="utf-8")
            content = content_hash(self.domain, self.policy)
            texts = {
                EVALUATION: self.evaluation.model_dump_json(indent=1) + "\n",
                sbom.FILE: sbom.of_version(self.recipe.model_name, content, self.evaluation),
            }
            for name, text in texts.items():
                Path(staging, name).write_text(text, encoding="utf-8")
            if self.signing_key is not None:
                sign(self.signing_key, self.domain, self.policy, texts, Path(staging))
            self.client.log_artifacts(run_id, staging, self.folder)
        for name, value in self._final_figures().items():
            self.client.log_metric(run_id, f"final/{name}", value)

    def _artifact_root(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.artifact_uri)

    def _origin_tags(self) -> dict[str, str]:
        facts = self.domain.facts
        return {
            "base_fingerprint": facts.fingerprint,
            "template_hash": facts.template_hash,
            "tokenizer_hash": facts.tokenizer_hash,
            **{tag_name(LINEAGE + name): value for name, value in self.lineage.items()},
        }

    def _evaluation_tags(self) -> dict[str, str]:
        figures = {f"figure.{name}": f"{v:.6g}" for name, v in self._final_figures().items()}
        data = champion.tags(self.evaluation)
        return {"held_out_hash": self.evaluation.held_out_hash, **data, **figures}

    def _final_figures(self) -> dict[str, float]:
        return {
            tag_name(name): figure.value
            for name, figure in self.evaluation.stages[-1].figures.items()
            if math.isfinite(figure.value)
        }

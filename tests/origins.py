"""Registered versions whose record says what they were fed with."""

from pathlib import Path

from posttrain.decisions import RegisteredVersion
from posttrain.facts import RegisteredBase
from posttrain.profiles import Counted, DataDrift, RoleProfile
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.register import register
from posttrain.reports import Evaluation, RoleData
from tests import samples

PROFILE = RoleProfile(
    num_rows=100,
    dimensions={"length": Counted(counts={"8": 60, "9": 40}, total=100)},
)


def role(
    files: dict[str, str], revision: str | None = None, profile: RoleProfile = PROFILE
) -> RoleData:
    """A role from files, or from a hub data set at a commit."""
    source = "team/corpus" if revision else ", ".join(files)
    return RoleData(
        source=source,
        revision=revision,
        counts={"rows": 100},
        quarantined={},
        files=files,
        profile=profile,
    )


def add_version(
    folder: Path,
    data: dict[str, RoleData],
    rows: dict[str, str],
    *,
    name: str = "museum",
    made_from: RegisteredBase | None = None,
    lineage: dict[str, str] | None = None,
    drift: DataDrift | None = None,
) -> RegisteredVersion:
    """Register a version of `name` that was fed with `data`; `rows` are hashes by role."""
    base = samples.base_model(folder / "base")
    policy = samples.policy(folder / "policy", base, weights=folder.name)
    evaluation = samples.evaluation(policy.content_hash()).model_copy(
        update={
            "data": data,
            "data_hashes": rows,
            "base_version": made_from,
            "libraries": {"torch": "2.13.0"},
            "constitution": "e" * 64,
            "drift": drift,
        }
    )
    evaluation = Evaluation.model_validate(evaluation.model_dump())
    return register(base, policy, evaluation, RegistrationRecipe(model_name=name), lineage or {})

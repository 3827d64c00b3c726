"""Where a registered version came from: run, data, base, code, libraries, images, decisions.

All of it stands in the registry: tags, and the evaluation beside the weights. A base that is a
registered version itself is followed to its own data. `withdrawal.py` asks the other way round.
"""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from posttrain.decisions import HistoryEntry
from posttrain.facts import RegisteredBase
from posttrain.recipe.section import Section
from posttrain.registry.promotions import history
from posttrain.registry.versions import ABSENT, LINEAGE, read_evaluation, resolve
from posttrain.reports import Evaluation

DIRTY = "-dirty"
DATA, IMAGE = "data.", "image."
"""Prefixes, after `lineage.`: a role's validated rows, a step's image."""


class RoleOrigin(Section):
    """One role's data."""

    source: str | None
    revision: str | None
    """Commit of a hub data set."""

    files: dict[str, str]
    """Source file -> SHA-256 of its bytes."""

    rows: str | None
    """SHA-256 of the validated rows."""


class BaseOrigin(Section):
    """What the weights started from."""

    source: str
    revision: str | None
    """Commit of a hub model."""

    fingerprint: str | None
    """Of the domain base, Base FT included."""

    registered: "VersionLineage | None" = None
    """The version that the base was made from."""


class Code(Section):
    """Which state of the code ran."""

    commit: str | None
    is_dirty: bool
    """Whether the checkout held changes that the commit lacks."""

    libraries: dict[str, str]
    images: dict[str, str]
    """Step -> image; empty where steps ran in no containers."""


class VersionLineage(Section):
    """Where a version came from, and what was decided about it."""

    name: str
    version: int
    aliases: tuple[str, ...]
    runs: dict[str, str]
    """`zenml_run`, `zenml_run_id`, `zenml_pipeline`, `mlflow_run`, `mlflow_run_id`."""

    data: dict[str, RoleOrigin]
    base: BaseOrigin
    code: Code
    hashes: dict[str, str]
    """`content`, `policy`, `template`, `tokenizer`, `constitution`."""

    gate: str | None
    """`passed` or `failed`; None before the gate judged it."""

    gate_reasons: tuple[str, ...]
    history: tuple[HistoryEntry, ...]
    """What was decided about this version, the oldest first."""

    missing: tuple[str, ...]
    """What the registry doesn't tell, in words."""


def lineage(client: MlflowClient, name: str, alias_or_version: str) -> VersionLineage:
    """All that the registry tells of a version's origin.

    Raises:
        ValueError: there is no such version.
    """
    return _lineage(client, resolve(client, name, alias_or_version), ())


def _lineage(client: MlflowClient, version: ModelVersion, above: tuple[str, ...]) -> VersionLineage:
    name, number, tags = version.name, int(version.version), version.tags
    evaluation = read_evaluation(client, version)
    missing = () if evaluation is not None else ("no evaluation of this release beside it",)
    told = {k.removeprefix(LINEAGE): v for k, v in tags.items() if k.startswith(LINEAGE)}
    base, lost = _base(client, version, evaluation, above)
    reasons = tags.get("gate_reasons", "")
    return VersionLineage(
        name=name,
        version=number,
        aliases=aliases(client, name).get(number, ()),
        runs=_runs(client, version, told),
        data=origins(version, evaluation),
        base=base,
        code=_code(told, evaluation),
        hashes=_hashes(tags, evaluation),
        gate=tags.get("gate"),
        gate_reasons=tuple(reasons.splitlines()),
        history=tuple(
            line
            for line in history(client, name)
            if number in (line.version, line.from_version, line.to_version)
        ),
        missing=missing + lost,
    )


def origins(version: ModelVersion, evaluation: Evaluation | None) -> dict[str, RoleOrigin]:
    """Role -> its data; the hash of the rows alone where no evaluation tells more."""
    prefix = LINEAGE + DATA
    rows = {k.removeprefix(prefix): v for k, v in version.tags.items() if k.startswith(prefix)}
    data = evaluation.data if evaluation is not None else {}
    if evaluation is not None:
        rows |= evaluation.data_hashes
    found = {}
    for role in dict.fromkeys([*data, *rows]):
        one = data.get(role)
        found[role] = RoleOrigin(
            source=one.source if one is not None else None,
            revision=one.revision if one is not None else None,
            files=one.files if one is not None else {},
            rows=rows.get(role),
        )
    return found


def aliases(client: MlflowClient, name: str) -> dict[int, tuple[str, ...]]:
    """Version -> its aliases now."""
    found: dict[int, tuple[str, ...]] = {}
    for alias, number in sorted(client.get_registered_model(name).aliases.items()):
        found[int(number)] = (*found.get(int(number), ()), alias)
    return found


def _base(
    client: MlflowClient,
    version: ModelVersion,
    evaluation: Evaluation | None,
    above: tuple[str, ...],
) -> tuple[BaseOrigin, tuple[str, ...]]:
    """What the weights started from, and what is not known of it."""
    registered: VersionLineage | None = None
    lost: tuple[str, ...] = ()
    origin = evaluation.base_version if evaluation is not None else None
    if origin is not None:
        label = f"{origin.name} version {origin.version}"
        if label in above:
            lost = (f"{label} stands on itself",)
        else:
            known = same(client, origin)
            if known is None:
                lost = (f"its base was {label}, which the registry no longer holds",)
            else:
                registered = _lineage(client, known, (*above, label))
    reference = evaluation.base if evaluation is not None else None
    found = BaseOrigin(
        source=f"{reference.kind}: {reference.source}" if reference is not None else "unknown",
        revision=reference.revision if reference is not None else None,
        fingerprint=version.tags.get("base_fingerprint"),
        registered=registered,
    )
    return found, lost


def same(client: MlflowClient, origin: RegisteredBase) -> ModelVersion | None:
    """The version that a base was made from, unless it was deleted or is another by now."""
    try:
        found = client.get_model_version(origin.name, str(origin.version))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None
    return found if found.tags.get("content_hash") == origin.content_hash else None


def _runs(client: MlflowClient, version: ModelVersion, told: dict[str, str]) -> dict[str, str]:
    found = {name: told[name] for name in sorted(told) if name.startswith("zenml_")}
    if version.run_id:
        found["mlflow_run_id"] = version.run_id
        try:
            found["mlflow_run"] = client.get_run(version.run_id).info.run_name or ""
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            found["mlflow_run"] = "deleted"
    return found


def _code(told: dict[str, str], evaluation: Evaluation | None) -> Code:
    commit = told.get("git_commit")
    return Code(
        commit=commit.removesuffix(DIRTY) if commit else None,
        is_dirty=bool(commit) and str(commit).endswith(DIRTY),
        libraries=evaluation.libraries if evaluation is not None else {},
        images={k.removeprefix(IMAGE): v for k, v in told.items() if k.startswith(IMAGE)},
    )


def _hashes(tags: dict[str, str], evaluation: Evaluation | None) -> dict[str, str]:
    names = {
        "content": "content_hash",
        "policy": "policy_hash",
        "template": "template_hash",
        "tokenizer": "tokenizer_hash",
    }
    found = {short: tags[tag] for short, tag in names.items() if tag in tags}
    constitution = evaluation.constitution if evaluation is not None else None
    return found | ({"constitution": constitution} if constitution else {})

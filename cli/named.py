"""What a person names to be answered by: a registered version, or an exported folder."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posttrain.models.voices import Source

CHAMPION = "champion"


def open_source(
    name: str | None, alias: str | None, version: int | None, folder: Path | None
) -> "Source":
    """Find, fetch and verify what was named: the champion where nothing was.

    Raises:
        ValueError: it is named twice, does not exist, or is not what was registered or exported.
    """
    from posttrain.models.voices import of_artifacts, of_folder
    from posttrain.registry.load import download
    from posttrain.runtime import Runtime

    if folder is not None:
        if name or alias or version:
            raise ValueError("--folder names a model of its own; leave --name, --alias out")
        return of_folder(folder)
    named = which_version(alias, version)
    check_store()
    name = name or only_model()
    base, policy = download(name, named, Runtime.from_environment().cache / "registry")
    title = f"{name} version {named}" if named.isdecimal() else f"{name}@{named}"
    return of_artifacts(base, policy, title)


def which_version(alias: str | None, version: int | None) -> str:
    """Alias or number of a version: the champion where neither is given.

    Raises:
        ValueError: both are.
    """
    if alias and version:
        raise ValueError(f"--alias {alias} and --version {version} name two; leave one out")
    return str(version) if version else alias or CHAMPION


def check_store() -> None:
    """Refuse to look into a database that is not there: MLflow would make an empty one.

    Raises:
        ValueError: the tracking URI names a file that does not exist.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        raise ValueError(
            f"{file}: no registry there; run a pipeline first, in the shell that has read "
            ".posttrain/env"
        )


def only_model() -> str:
    """The registered model, where there is exactly one.

    Raises:
        ValueError: there is none, or a choice.
    """
    import mlflow

    from posttrain.registry.versions import model_names

    models = model_names(mlflow.MlflowClient())
    if len(models) == 1:
        return models[0]
    if models:
        raise ValueError(f"say which model by --name: {', '.join(models)}")
    raise ValueError(f"{mlflow.get_tracking_uri()} has no registered model; run a pipeline first")

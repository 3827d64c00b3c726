"""What the page works on: the registry, the state folder, and where other pages are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from starlette.exceptions import HTTPException
from starlette.requests import Request

from cli.review.links import Links
from cli.review.security import Access
from cli.waiting import has_zenml
from posttrain.evaluate.ballots import Ballots, folder_of, pairs_file, read_pairs
from posttrain.evaluate.blind import VersionPair, from_samples
from posttrain.registry.one_line import is_blank
from posttrain.registry.overview import VersionSummary, versions
from posttrain.registry.versions import CHAMPION, PREVIOUS, model_names, read_evaluation, resolve
from posttrain.reports import Evaluation


@dataclass(frozen=True)
class Desk:
    """Everything that requests share."""

    access: Access
    links: Links
    state: Path
    """Folder of pairs and verdicts."""

    files: tuple[Path, ...] = ()
    """Files of pairs that were named, beside those in the state folder."""

    seed: int = 0
    """Of which side stands first, where pairs are made of stored samples."""

    client: MlflowClient = field(default_factory=MlflowClient)

    @property
    def has_zenml(self) -> bool:
        """Whether a ZenML of this project is named: else its client would make one."""
        return has_zenml()

    def names(self) -> list[str]:
        """Registered models."""
        return model_names(self.client)

    def versions(self, name: str) -> "Versions":
        """A model's versions; 404 where there is no such model."""
        if name not in self.names():
            raise HTTPException(404)
        return Versions(name, {one.number: one for one in versions(self.client, name)})

    def evaluation(self, name: str, number: int) -> Evaluation | None:
        """What was registered with a version."""
        return read_evaluation(self.client, self.version(name, number))

    def version(self, name: str, number: int) -> ModelVersion:
        """A version as MLflow holds it."""
        return resolve(self.client, name, str(number))

    def ballots(self, name: str) -> Ballots:
        """The verdicts on a model's versions."""
        return Ballots(folder_of(self.state, name))

    def drawn(self, name: str, two: tuple[int, int]) -> dict[str, VersionPair]:
        """Pairs of two versions from files, by id."""
        own = pairs_file(self.state, name, two)
        files = ([own] if own.exists() else []) + [*self.files]
        found = (pair for file in files for pair in read_pairs(file))
        wanted = (min(two), max(two))
        return {
            pair.pair_id: pair for pair in found if (pair.name, pair.versions) == (name, wanted)
        }

    def stored(self, name: str, two: tuple[int, int]) -> dict[str, VersionPair]:
        """Pairs of the answers that both evaluations kept, by id."""
        first, second = (self.evaluation(name, number) for number in two)
        if first is None or second is None:
            return {}
        return {pair.pair_id: pair for pair in from_samples(name, two, (first, second), self.seed)}


@dataclass(frozen=True)
class Versions:
    """One model's versions, the newest first."""

    name: str
    by_number: Mapping[int, VersionSummary]

    def __getitem__(self, number: int) -> VersionSummary:
        if number not in self.by_number:
            raise HTTPException(404)
        return self.by_number[number]

    def of(self, alias: str) -> int | None:
        """Number of the version that an alias points to."""
        found = (number for number, one in self.by_number.items() if alias in one.aliases)
        return next(found, None)

    @property
    def champion(self) -> int | None:
        return self.of(CHAMPION)

    @property
    def previous(self) -> int | None:
        return self.of(PREVIOUS)


def desk_of(request: Request) -> Desk:
    """The application's."""
    desk: Desk = request.app.state.desk
    return desk


def signed(form: Mapping[str, str]) -> tuple[str, str]:
    """Name and reason; empty where they are missing, out of bounds, or show nothing."""
    who, why = form.get("who", "").strip(), form.get("why", "").strip()
    bounded = (who if len(who) <= 100 else "", why if len(why) <= 2000 else "")
    return ("" if is_blank(bounded[0]) else who, "" if is_blank(bounded[1]) else why)

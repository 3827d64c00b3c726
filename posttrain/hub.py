"""What the Hugging Face hub says of a model or data set; its refusals as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import DatasetInfo, HfApi, ModelInfo, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

Kind = Literal["model", "dataset"]


@contextmanager
def asking(kind: Kind, name: str, revision: str, field: str) -> Iterator[None]:
    """Turn what the hub refuses within the block into one sentence that says what to change.

    Args:
        kind: what is asked for.
        name: its id.
        revision: branch, tag or commit.
        field: the field of the recipe that names it; its `revision` stands beside it.

    Raises:
        ValueError: the hub refused, or cannot be reached.
    """
    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{field}: {name!r} is neither a folder here nor an id of the hub, which is owner/name"
        ) from error
    except ValueError:
        raise  # a library's or our own, in words
    except Exception as error:  # the client's transport errors share no public base class
        raise ValueError(f"{field}: {_sentence(error, kind, name, revision)}") from error


@dataclass(frozen=True)
class Found:
    """A repository at a commit."""

    commit: str
    files: tuple[str, ...]


def find(kind: Kind, name: str, revision: str, field: str) -> Found:
    """What a revision stands for; of a gated repository, that its files may be read.

    Raises:
        ValueError: the hub does not know it, does not give it, or cannot be reached.
    """
    with asking(kind, name, revision, field):
        api = HfApi()
        ask = api.model_info if kind == "model" else api.dataset_info
        info: ModelInfo | DatasetInfo = ask(name, revision=revision)
        if info.gated:
            api.auth_check(name, repo_type=kind)
    assert info.sha, "the hub names a commit for every revision"
    return Found(info.sha, tuple(file.rfilename for file in info.siblings or ()))


def layout(name: str, revision: str) -> dict[str, list[int]]:
    """Shapes of a model's tensors, from the headers of its files: no weight is downloaded.

    Raises:
        ValueError: it has no safetensors, or the hub does not give them.
    """
    with asking("model", name, revision, "base_model.source"):
        found = HfApi().get_safetensors_metadata(name, revision=revision)
    return {
        tensor: list(info.shape)
        for file in found.files_metadata.values()
        for tensor, info in file.tensors.items()
    }


def _sentence(error: BaseException, kind: Kind, name: str, revision: str) -> str:
    causes = list(_causes(error))

    def was(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    page = f"{HfApi().endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
    what = "model" if kind == "model" else "data set"
    if was(GatedRepoError):
        held = "the account of HF_TOKEN has no access" if get_token() else "and no token is set"
        return (
            f"{name} is gated, {held}: accept its licence on {page}, and set HF_TOKEN to a token "
            "of the account that did"
        )
    if was(RepositoryNotFoundError):
        return (
            f"the hub has no {what} {name!r} (revision {revision!r}) that may be seen from here: "
            "check the id, which is owner/name; a private one needs HF_TOKEN"
        )
    if was(RevisionNotFoundError):
        return (
            f"{name} has no revision {revision!r}: set `revision` to a branch, tag or commit of "
            f"{page}/tree/main"
        )
    if was(NotASafetensorsRepoError, SafetensorsParsingError):
        return (
            f"{name}@{revision} holds no safetensors; pickled weights are never loaded: convert "
            "it, or name a revision that has them"
        )
    if was(EntryNotFoundError) and not was(LocalEntryNotFoundError):
        return f"{name}@{revision} lacks a file: {_first_line(error)}"
    return (
        f"{name}@{revision} cannot be read from {HfApi().endpoint} ({_first_line(causes[-1])}): "
        "check the network, HF_ENDPOINT and HF_HUB_OFFLINE; where no hub can be reached, name a "
        "local folder"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

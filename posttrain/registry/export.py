"""Take a registered version out of the registry, as a folder that others load and serve.

The folder is put together beside its place, loaded from there and compared with the registered
version, and only then given its name: a killed export leaves none that looks whole.
"""

import tempfile
from pathlib import Path
from typing import Literal

import torch
from mlflow import MlflowClient
from torch import Tensor

from posttrain.models.device import dtype
from posttrain.models.exported import CARD, ExportedFacts, load_exported
from posttrain.models.exporting import (
    Version,
    stored_precision,
    trial_logits,
    write_merged,
    write_peft,
)
from posttrain.recipe.section import Section
from posttrain.registry.folder_card import folder_card
from posttrain.registry.load import download
from posttrain.registry.mlflow_folder import load_mlflow, write_mlflow
from posttrain.registry.versions import read_card, resolve
from posttrain.runtime import Runtime

Format = Literal["peft", "merged", "mlflow"]
Precision = Literal["float32", "bfloat16"]

PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}

FAR, FAR_IN_FLOAT32 = 0.1, 1e-3
"""Difference of logits, as a share of them (root mean square), that rounding does not explain."""


class Exported(Section):
    """What was written, and how far it is from the registered version."""

    facts: ExportedFacts
    """Of an MLflow folder: of the model within it."""

    largest_difference: float
    """Of the logits of a short prompt, read from the folder, to the registered version's."""

    spread: float
    """Standard deviation of these logits."""


def export(
    name: str,
    alias_or_version: str,
    out: Path,
    layout: Format,
    precision: Precision | None = None,
    force: bool = False,
) -> Exported:
    """Write a version to the folder `out`, and check it by loading it.

    Args:
        precision: of merged weights; that of the base's where absent.
        force: replace what is in `out`.

    Raises:
        ValueError: no such version; the folder is not empty; the version cannot be written so; or
            what was written does not answer as the version does.
    """
    _check(out, layout, precision, force)
    out = out.absolute()
    client = MlflowClient()
    version = resolve(client, name, alias_or_version)
    number = str(version.version)
    base, policy = download(name, number, Runtime.from_environment().cache / "registry")
    if precision is not None and policy.facts.method == "bottleneck":
        raise ValueError("--dtype is of merged weights, and no weights hold a bottleneck adapter")
    rounded = PRECISIONS[precision] if precision is not None else stored_precision(base)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as staging:
        folder = Path(staging, "folder")
        found = Version(name, int(number), base, policy)
        facts, expected = _write(found, folder, layout, rounded)
        card = folder_card(read_card(client, version), facts, layout)
        (folder / CARD).write_text(card, encoding="utf-8")
        largest = _compare(folder, layout, expected, rounded)
        if out.exists():
            out.rename(Path(staging, "replaced"))
        folder.rename(out)
    return Exported(facts=facts, largest_difference=largest, spread=float(expected.std()))


def _write(
    version: Version, folder: Path, layout: Format, precision: torch.dtype
) -> tuple[ExportedFacts, Tensor]:
    """Write the folder, without its card; the logits are those that it must reproduce."""
    if layout == "peft":
        return write_peft(version, folder)
    if layout == "merged":
        return write_merged(version, folder, precision)
    model = folder.with_name("model")
    if version.policy.facts.method == "bottleneck":  # no weights hold it: as adapter and base
        facts, expected = write_peft(version, model)
    else:
        facts, expected = write_merged(version, model, precision)
    write_mlflow(model, folder, version.base.facts.max_positions)
    return facts, expected


def _check(out: Path, layout: Format, precision: Precision | None, force: bool) -> None:
    if precision is not None and layout == "peft":
        raise ValueError("--dtype is of merged weights; a peft folder's adapter is in float32")
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; name a folder by --out")
    if any(out.iterdir()) and not force:
        raise ValueError(f"{out}: not empty; name another folder by --out, or replace it: --force")


def _compare(folder: Path, layout: Format, expected: Tensor, precision: torch.dtype) -> float:
    """Load what was written; the largest difference of its logits to those expected."""
    model, tokenizer, _ = load_mlflow(folder) if layout == "mlflow" else load_exported(folder)
    difference = trial_logits(model, tokenizer) - expected
    share = float(difference.norm() / expected.norm())
    computed = dtype(Runtime.from_environment())
    limit = FAR_IN_FLOAT32 if precision == computed == torch.float32 else FAR
    if not share <= limit:  # so that NaN fails
        raise ValueError(
            f"the exported folder does not answer as the registered version does: its logits "
            f"differ by {share:.2g} of their size, at most {limit} is rounding; nothing "
            "was written"
        )
    return float(difference.abs().max())

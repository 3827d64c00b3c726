"""Addresses of ZenML's dashboard and MLflow's UI, where they are known."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

PROJECT = "default"
"""The only one that ZenML has without a licence; ours runs there."""


@dataclass(frozen=True)
class Links:
    """Where the two are served; None where nobody said."""

    zenml: str | None
    mlflow: str | None

    def run(self, tags: Mapping[str, str]) -> str | None:
        """ZenML's page of the run that made a version."""
        run_id = tags.get("lineage.zenml_run_id")
        if not self.zenml or not run_id:
            return None
        return f"{self.zenml}/projects/{PROJECT}/runs/{quote(run_id, safe='')}"

    def version(self, name: str, number: int) -> str | None:
        """MLflow's page of a version."""
        model = quote(name, safe="")
        return f"{self.mlflow}/#/models/{model}/versions/{number}" if self.mlflow else None


def links(zenml: str | None, mlflow: str | None) -> Links:
    """The addresses that were named, else those of the environment where it names servers.

    Raises:
        ValueError: one of them is no http address.
    """
    return Links(
        zenml=_address("--zenml-url", zenml or _http(os.environ.get("ZENML_STORE_URL"))),
        mlflow=_address("--mlflow-url", mlflow or _http(os.environ.get("MLFLOW_TRACKING_URI"))),
    )


def _http(address: str | None) -> str | None:
    return address if address and address.startswith(("http://", "https://")) else None


def _address(option: str, address: str | None) -> str | None:
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{option} {address}: is no address; give one such as http://host:8237")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    # a password that stands in the address is not shown to whoever reads the page
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"

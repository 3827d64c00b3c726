"""A registry with versions that wait for a person, and runs of the pipeline `promotion`.

Everything goes through the commands that a person types, in a checkout of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient

from posttrain.decisions import HistoryEntry
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry import promotions
from posttrain.registry.promote import examine
from posttrain.registry.register import register
from posttrain.registry.versions import resolve
from tests import samples
from tests.integration.conftest import Checkout

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),), automatic=False)
PATIENCE_SECONDS = 600
LEASE_SECONDS = 16
"""ZenML's own is 15 where the waiter looks every second."""

WAITS, PAUSES = "Waiting on wait condition", "Pausing pipeline run"


class Model:
    """A registered model of a test's own."""

    def __init__(self, checkout: Checkout, name: str) -> None:
        self.checkout = checkout
        self.name = name
        uri = checkout.environment["MLFLOW_TRACKING_URI"]
        self.client = MlflowClient(uri, uri)

    def put(self, accuracy: float) -> int:
        """Register a version that a gate has judged; it becomes the challenger."""
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.checkout.environment["MLFLOW_TRACKING_URI"])
        try:
            return self._put(accuracy)
        finally:
            mlflow.set_tracking_uri(before)

    def _put(self, accuracy: float) -> int:
        with tempfile.TemporaryDirectory() as folder:
            base = samples.base_model(Path(folder, "base"))
            policy = samples.policy(Path(folder, "policy"), base, weights=str(accuracy))
            evaluation = samples.evaluation(
                policy.content_hash(), "f" * 64, **{"fact_accuracy.A": accuracy}
            )
            recipe = RegistrationRecipe(model_name=self.name)
            version = register(base, policy, evaluation, recipe, {}).version
        entry = resolve(self.client, self.name, str(version))
        examine(self.client, entry, evaluation, GATE, None)
        return version

    def make_champion(self, version: int) -> None:
        promotions.move(
            self.client, self.name, version, action="promote", who="test", why="to begin with"
        )

    @property
    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.name).aliases
        return {alias: int(number) for alias, number in found.items()}

    @property
    def history(self) -> list[HistoryEntry]:
        return list(promotions.history(self.client, self.name))

    @property
    def status(self) -> str:
        """Of the newest run that was put to a person, ZenML's word."""
        listed = self.checkout.command("zenml", "pipeline", "runs", "list", "--output", "json")
        runs = json.loads(listed.stdout[listed.stdout.index("{") :])["items"]
        return str(runs[0]["status"])

    def lease_ends(self) -> None:
        """Wait until ZenML takes a waiter that was killed for gone."""
        time.sleep(LEASE_SECONDS)

    @contextmanager
    def promotion(self, **recipe: Any) -> Iterator["Run"]:
        """A run of the pipeline, once it waits."""
        run = self.asked(**recipe)
        try:
            run.until(WAITS)
            yield run
        finally:
            run.process.kill()  # no more than a test that failed leaves
            run.process.wait()

    def asked(self, **recipe: Any) -> "Run":
        """A run of the pipeline, begun."""
        text = Path("recipes/promotion/ferry_guide.yaml").read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        values["parameters"]["recipe"] |= {"model_name": self.name, "poll_seconds": 1, **recipe}
        config = self.checkout.root / f"{self.name}.yaml"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        return Run(self.checkout, config)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """`posttrain registry ...` about this model."""
        posttrain = Path(sys.executable).parent / "posttrain"
        command = [posttrain, "registry", *words, "--name", self.name]
        return subprocess.Popen(
            command,
            cwd=self.checkout.root,
            env=self.checkout.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, *words: str) -> tuple[int, str]:
        """Its exit code, and what it said."""
        return done(self.start(*words))


def done(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, " ".join((out if process.returncode == 0 else err).split())


class Run:
    """`zenml pipeline run` of the pipeline, as a process that goes on."""

    def __init__(self, checkout: Checkout, config: Path) -> None:
        self.log = config.with_suffix(".log")
        with self.log.open("wb") as log:
            target = "pipelines.promotion.promotion"
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "zenml", "pipeline", "run", target, "-c", config],
                cwd=checkout.root,
                env=checkout.environment,
                stdout=log,
                stderr=log,
            )

    def until(self, words: str) -> None:
        """Wait until the run has said this."""
        end = time.monotonic() + PATIENCE_SECONDS
        while words not in (said := self.log.read_text(encoding="utf-8")):
            assert self.process.poll() is None and time.monotonic() < end, said[-3000:]
            time.sleep(0.2)

    def says(self, words: str) -> None:
        """Check that it has said this."""
        said = " ".join(self.log.read_text(encoding="utf-8").split())
        assert words in said, said[-3000:]

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_SECONDS)

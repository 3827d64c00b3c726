"""Failures, refusals and drift reach the stack's alerter, and the exit code says what happened.

The tests of this module build on one another's runs.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow

ALERTER = """
import json
from pathlib import Path
from zenml.alerter.base_alerter import BaseAlerter, BaseAlerterConfig, BaseAlerterFlavor


class Config(BaseAlerterConfig):
    file: str


class FileAlerter(BaseAlerter):
    def post(self, message, params=None):
        with Path(self.config.file).open("a") as stream:
            stream.write(json.dumps(message) + "\\n")
        if "explode" in self.config.file:
            raise OSError("no channel; token=hf_abcdefghijklmnop")
        return True


class FileFlavor(BaseAlerterFlavor):
    name = "file"
    config_class = Config
    implementation_class = FileAlerter
"""


def said(checkout: Checkout, file: str = "alerts") -> list[str]:
    path = checkout.root / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def run(checkout: Checkout, config: Path) -> tuple[int, str]:
    """Exit code of ZenML's command, and all that it printed."""
    command = [Path(sys.executable).parent / "zenml", "pipeline", "run"]
    done = subprocess.run(
        [*command, "pipelines.fine_tuning.fine_tuning", "-c", str(config)],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def alerter(checkout: Checkout) -> None:
    """The stack has an alerter that writes to a file."""
    (checkout.root / "file_alerter.py").write_text(ALERTER)
    checkout.command("zenml", "alerter", "flavor", "register", "file_alerter.FileFlavor")
    for name in ("alerts", "explode"):
        file = f"--file={checkout.root / name}"
        checkout.command("zenml", "alerter", "register", name, "--flavor=file", file)
    checkout.command("zenml", "stack", "update", "posttrain", "-al", "alerts")


def test_a_good_run_says_nothing(checkout: Checkout) -> None:
    assert run(checkout, checkout.config())[0] == 0
    assert said(checkout) == []


def test_drift_beyond_its_limits_is_told_and_the_run_goes_on(checkout: Checkout) -> None:
    file = checkout.root / "data" / "corpus.jsonl"
    whole = file.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    longer = [
        {**row, "text": f"{row.get('text')} {n} " + f"부두 {n} 안내 " * 12}
        for n, row in enumerate(rows)
    ]
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in longer), "utf-8")
    code, log = run(checkout, checkout.config())
    (message,) = [one for one in said(checkout) if "drifted" in one]
    file.write_text(whole, "utf-8")
    assert code == 0, log[-3000:]
    assert "step validate of run fine_tuning-" in message and "corpus length" in message
    assert "drifted" in log  # the log line


def test_forbidden_drift_fails_the_step_and_its_report_is_kept(checkout: Checkout) -> None:
    file = checkout.root / "data" / "instructions.jsonl"
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole.replace("요.", "요. " + "그리고 천천히 오세요. " * 9), "utf-8")
    config = checkout.config(validation__drift={"on_drift": "fail"})
    code, _ = run(checkout, config)
    file.write_text(whole, "utf-8")
    assert code != 0
    (message,) = said(checkout)
    assert "failed: ValueError: data drifted" in message and "instructions" in message
    assert "start the same run again" in message


def test_a_refused_promotion_is_told_and_ends_well(checkout: Checkout) -> None:
    limits = [{"figure": "perplexity_domain", "at_most": 1.0001}]
    code, log = run(checkout, checkout.config(promotion__limits=limits, sft__learning_rate=2e-4))
    assert code == 0, log[-3000:]
    (message,) = said(checkout)
    assert "step promote" in message and "ferry-guide version" in message
    assert "required: at most 1" in message


def test_a_refused_promotion_fails_where_the_recipe_says_so(checkout: Checkout) -> None:
    limits = [{"figure": "perplexity_domain", "at_most": 1.0001}]
    config = checkout.config(
        promotion__limits=limits, promotion__on_refusal="fail", sft__learning_rate=2e-4
    )
    code, log = run(checkout, config)
    assert code != 0
    assert "PromotionRefused:" in log  # what the scheduler looks for
    (message,) = said(checkout)
    assert "failed: PromotionRefused: ferry-guide version" in message
    promotion = checkout.report()["promotion"]
    assert promotion is not None and not promotion["promoted"]


def test_an_alerter_that_fails_is_a_log_line(checkout: Checkout) -> None:
    checkout.command("zenml", "stack", "update", "posttrain", "-al", "explode")
    limits = [{"figure": "perplexity_domain", "at_most": 1.0001}]
    code, log = run(checkout, checkout.config(promotion__limits=limits, sft__learning_rate=2e-4))
    assert code == 0, log[-3000:]
    assert len(said(checkout, "explode")) == 1
    assert "the alerter failed: OSError: no channel" in log
    assert "hf_abcdefghijklmnop" not in log

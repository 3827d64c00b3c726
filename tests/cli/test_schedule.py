"""The clock of one machine, started as a user starts it, with a clock of seconds."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from cli.scheduler import Plan, done, trigger

PATIENCE_SECONDS = 60
EVERY_OTHER_SECOND = "*/2 * * * * *"
MONDAY = datetime.fromisoformat("2026-11-23T00:00:00+00:00")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `posttrain schedule run` in an empty folder; what still runs is ended."""
    (tmp_path / "run.yaml").touch()
    started: list[subprocess.Popen[str]] = []

    def start(cron: str, script: str, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", "from cli.main import main; main()", "schedule", "run"]
        command += ["--cron", cron, "-c", "run.yaml", "--state", "state", "--pause", "0.1"]
        started.append(
            subprocess.Popen(
                [*command, *options, "--", "sh", "-c", script],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def wait_for(file: Path, number: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while len(lines(file)) < number:
        assert time.monotonic() < until, lines(file)
        time.sleep(0.05)


def ended(process: "subprocess.Popen[str]") -> str:
    """What it said, after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert process.returncode == 0, said
    return said


def test_it_fires_twice_by_the_clock_and_keeps_a_log_a_run(start: Start, tmp_path: Path) -> None:
    process = start(EVERY_OTHER_SECOND, "echo said; date +%S >> fired")
    wait_for(tmp_path / "fired", 2)
    ended(process)
    fired = lines(tmp_path / "fired")
    assert all(int(second) % 2 == 0 for second in fired)
    logs = sorted((tmp_path / "state/run").glob("*.log"))
    assert len(logs) == len(fired)
    assert {log.read_text(encoding="utf-8") for log in logs} == {"said\n"}


def test_runs_never_overlap_and_sigterm_waits_for_the_one_in_progress(
    start: Start, tmp_path: Path
) -> None:
    process = start("* * * * * *", "echo begin >> marks; sleep 2.5; echo end >> marks")
    wait_for(tmp_path / "marks", 3)  # the second run has begun
    said = ended(process)
    marks = lines(tmp_path / "marks")
    assert marks == ["begin", "end"] * (len(marks) // 2)
    assert "ending after the run in progress" in said


def test_a_second_sigterm_is_handed_on_to_the_run(start: Start, tmp_path: Path) -> None:
    script = "trap 'echo saved >> marks; exit 1' TERM; echo begin >> marks; sleep 600 & wait"
    process = start(EVERY_OTHER_SECOND, script)
    wait_for(tmp_path / "marks", 1)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    ended(process)
    assert lines(tmp_path / "marks") == ["begin", "saved"]


def test_a_failed_run_is_started_again(start: Start, tmp_path: Path) -> None:
    script = "echo tried >> tries; test $(wc -l < tries) -ge 3 && echo well >> ended"
    process = start(EVERY_OTHER_SECOND, script, "--attempts", "3")
    wait_for(tmp_path / "ended", 1)
    said = ended(process)
    words = re.findall(r"attempt . of 3|failed with status 1|(?<=:.. )done", said)
    first = ["attempt 1 of 3", "failed with status 1", "attempt 2 of 3", "failed with status 1"]
    assert words[:6] == [*first, "attempt 3 of 3", "done"]


def test_a_run_whose_version_was_refused_is_not_started_again(start: Start, tmp_path: Path) -> None:
    script = "echo tried >> tries; echo posttrain.registry.refusal.PromotionRefused: no; exit 1"
    process = start(EVERY_OTHER_SECOND, script, "--attempts", "3")
    wait_for(tmp_path / "tries", 2)
    said = ended(process)
    assert "attempt 2 of 3" not in said and "gave up" not in said
    assert "the gate refused its version: not started again" in said


def test_a_run_that_fails_for_good_is_given_up(start: Start, tmp_path: Path) -> None:
    process = start(EVERY_OTHER_SECOND, "echo tried >> tries; exit 1", "--attempts", "2")
    wait_for(tmp_path / "tries", 3)
    assert "gave up after 2 attempts" in ended(process)


def test_it_waits_longer_before_each_attempt(start: Start, tmp_path: Path) -> None:
    script = "date +%s.%N >> tries; exit 1"
    process = start(EVERY_OTHER_SECOND, script, "--attempts", "3", "--pause", "0.5")
    wait_for(tmp_path / "tries", 3)
    ended(process)
    first, second, third = map(float, lines(tmp_path / "tries")[:3])
    assert second - first >= 0.5
    assert third - second >= 1


def test_sigterm_does_not_wait_for_the_next_attempt(start: Start, tmp_path: Path) -> None:
    process = start(EVERY_OTHER_SECOND, "echo tried >> tries; exit 1", "--pause", "600")
    wait_for(tmp_path / "tries", 1)
    time.sleep(1)
    assert "attempt 2" not in ended(process)


def test_done_says_what_ran(tmp_path: Path) -> None:
    plan = Plan("* * * * *", ("zenml",), 1, 0, tmp_path, tells_of_cache=True)
    cached = "".join(f"Using cached version of step `{step}`.\n" for step in ("ingest", "sft"))
    anew = "".join(f"Step `{step}` has started.\n" for step in ("register", "promote"))
    nothing = "done: nothing new in its data or settings, all but register and promote is cached"
    assert done(plan, cached + anew) == nothing
    assert done(plan, cached + anew + "Step `evaluate` has started.\n") == "done"
    assert done(plan, anew) == "done"


@pytest.mark.slow
def test_what_was_missed_while_it_was_down_becomes_one_run(start: Start, tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    cron = "*/10 * * * * *"
    process = start(cron, "date +%s >> fired")
    wait_for(fired, 1)
    ended(process)
    before = len(lines(fired))
    up_again = int(lines(fired)[-1]) // 10 * 10 + 21.0  # two were missed
    time.sleep(up_again - time.time())
    process = start(cron, "date +%s >> fired")
    wait_for(fired, before + 1)
    at = int(lines(fired)[-1])
    ended(process)
    assert at % 10, "it waited for the clock"
    assert len(lines(fired)) == before + 1


def test_two_clocks_do_not_share_a_state(start: Start, tmp_path: Path) -> None:
    start(EVERY_OTHER_SECOND, "echo fired >> fired")
    wait_for(tmp_path / "fired", 1)
    second = start(EVERY_OTHER_SECOND, "true")
    said = second.communicate(timeout=PATIENCE_SECONDS)[1]
    assert second.returncode == 1
    assert "another process runs by this clock already" in said


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 3 * * 1", ["Mon"]),
        ("0 3 * * 0", ["Sun"]),
        ("0 3 * * 7", ["Sun"]),
        ("0 3 * * 1-3", ["Mon", "Tue", "Wed"]),
        ("0 3 * * 0,6", ["Sat", "Sun"]),
        ("0 3 * * mon,fri", ["Mon", "Fri"]),
        ("0 3 * * */3", ["Wed", "Sat", "Sun"]),
        ("0 3 * * 5-7", ["Fri", "Sat", "Sun"]),
    ],
)
def test_days_of_the_week_are_crontabs(cron: str, days: list[str]) -> None:
    found, now = [], MONDAY
    while (now := trigger(cron).get_next_fire_time(None, now)) < MONDAY + timedelta(days=7):
        found.append(f"{now:%a}")
        now += timedelta(seconds=1)
    assert found == days


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 3 * *", "has 4 fields; five are wanted"),
        ("0 3 * * 8", "day of week 8: 0 to 7 are wanted"),
        ("61 3 * * 1", "61"),
        ("0 3 * * someday", "someday"),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        trigger(cron)
    assert f"--cron {cron!r}" in str(error.value)


BY_THE_CLOCK = ("schedule", "run", "--cron", "0 3 * * 1", "--state", "/dev/null/none")
"""Its state is where none can be: what is not refused before ends there."""


def refused(*words: str) -> str:
    """What the command line says when it takes no run by the clock."""
    found = CliRunner().invoke(app, [*BY_THE_CLOCK, *words])
    assert found.exit_code != 0
    said = f"{found.output} {found.exception}"
    assert "/dev/null" not in said, "it was taken"
    return " ".join(re.sub("[│╭╮╰╯─]", " ", said).split())


def test_a_misspelt_option_is_no_command() -> None:
    assert "No such option: --atempts" in refused("-c", "zenml_config.yaml", "--atempts", "1")


def test_a_pipeline_that_is_none_is_refused() -> None:
    said = refused("-c", "zenml_config.yaml", "--pipeline", "nonsense")
    assert "'nonsense' is not one of 'post_training', 'fine_tuning'" in said


def test_a_command_that_is_not_there_is_refused() -> None:
    assert "no_such: there is no such command" in refused(
        "-c", "zenml_config.yaml", "--", "no_such"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sft": {"max_stepz": 3}}, "sft.max_stepz: there is no such field"),
        ({"sft": {"learning_rate": -1}}, "sft.learning_rate"),
        ({"reward_model": None}, "reward_model"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_before_the_clock_starts(
    change: dict[str, dict[str, float] | None], said: str, tmp_path: Path
) -> None:
    content = yaml.safe_load(Path("zenml_config.yaml").read_text(encoding="utf-8"))
    recipe = content["parameters"]["recipe"]
    for section, fields in change.items():
        recipe[section] = fields and recipe[section] | fields
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert f"{file}, as the pipeline post_training would read it: {said}" in refused(
        "-c", str(file)
    )


def test_a_key_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    text = Path("zenml_config.yaml").read_text(encoding="utf-8")
    file.write_text(f"{text}\nenable_cach: false\n", encoding="utf-8")
    assert "enable_cach: nobody reads this key" in refused("-c", str(file))


@pytest.mark.parametrize("pipeline", ["post_training", "fine_tuning"])
def test_the_demos_file_is_taken(pipeline: str) -> None:
    words = ["-c", "zenml_config.yaml", "--pipeline", pipeline]
    found = CliRunner().invoke(app, [*BY_THE_CLOCK, *words])
    assert isinstance(found.exception, NotADirectoryError)


def test_the_list_says_where_each_runs_and_that_there_is_none(
    tmp_path: Path,
) -> None:
    """On a ZenML of its own, in a process of its own: a client knows one store."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.getcwd(),  # noqa: PTH109
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
    }
    script = tmp_path / "listed.py"  # ZenML takes no code from `-c`
    script.write_text(LISTED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # without what ZenML, in colour, says of its new store
    lines = [line for line in done.stdout.splitlines() if line and "\x1b" not in line]
    assert lines == [
        "ZenML keeps no schedule; a clock of `posttrain schedule run` is none of ZenML's",
        "weekly  0 3 * * 1  active  on default",
    ]


LISTED = """
from zenml.client import Client
from zenml.models import ScheduleRequest
from cli.schedule import list_schedules
list_schedules()
client = Client()
client.zen_store.create_schedule(ScheduleRequest(
    name="weekly", active=True, cron_expression="0 3 * * 1", project=client.active_project.id,
    orchestrator_id=client.active_stack.orchestrator.id, pipeline_id=None,
))
list_schedules()
"""

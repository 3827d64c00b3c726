"""Whatever a person types or hands over, the answer is words and an exit code, never a traceback.

The whole command runs in this process, as its entry point does.
"""

import contextlib
import io
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import zenml.client as zenml_client
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration

from cli.main import app, main
from posttrain.artifacts import BaseModel
from tests.cli import runs
from tests.cli.generated import FILES, FUZZED, SOUND
from tests.faults import Injected, times
from tests.posttrain.data.test_any_input import PIECES, TEXTS

NUM_COMMANDS = times(quick=30, few=200, full=2_000)


@pytest.fixture
def world(
    base: BaseModel,
    museum: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working directory with data, a model, a recipe and a registry, and no way out of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("ZENML_CONFIG_PATH", "ZENML_STORE_URL"):
        monkeypatch.setenv(name, str(tmp_path / "zenml"))
    monkeypatch.delenv("ZENML_STORE_URL")
    monkeypatch.setitem(sys.modules, "zenml.client", None)  # a machine that has none
    shutil.copy(runs.instructions(tmp_path), tmp_path / "rows.jsonl")
    runs.model_folder(base, tmp_path / "model")
    runs.write(tmp_path / "recipe.yaml", SOUND)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture
def zenml(request: pytest.FixtureRequest, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ZenML of the test's own, empty, or none."""
    if request.param:
        monkeypatch.setitem(sys.modules, "zenml.client", zenml_client)
        monkeypatch.setattr(Client, "_global_client", None)
        monkeypatch.setattr(GlobalConfiguration, "_global_config", None)
        assert Client().list_pipelines().total == 0


def run(words: list[str], typed: bytes) -> tuple[int, str]:
    """The command as `posttrain` runs it: exit code, and what was printed.

    Raises:
        Exception: what would be a traceback.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["posttrain", *words], io.TextIOWrapper(io.BytesIO(typed))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code: Any = 0
    except SystemExit as left:
        code = left.code
    finally:
        sys.argv, sys.stdin = before
    err.flush()
    printed = [one.buffer.getvalue().decode("utf-8", "replace") for one in (out, err)]  # type: ignore[attr-defined]
    return int(code or 0), "".join(printed)


# as an operating system hands them over: no NUL, and bytes that are no UTF-8 as halves of pairs
WORDS = st.lists(
    st.sampled_from([one for one in PIECES if "\0" not in one and "\ud800" not in one and
                     "\udfff" not in one and len(one) < 5_000])
    | st.sampled_from(["\udcff", "..", "/", "*", "[red]", "a'b", "--", "-", "%", "1e9", "\udc80x"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    min_size=1,
    max_size=3,
).map("".join).map(lambda word: word[:4_000])  # fmt: skip
NAMES = WORDS | st.sampled_from(["museum", "champion", "1", "2", "99", "0", "museum@1", "a" * 300])
PATHS = WORDS | st.sampled_from(
    [
        *("recipe.yaml", "rows.jsonl", "folder", "model", ".", "made", "folder/made", "given"),
        *("/dev/null", "/dev/full", "/proc/self/mem", "/", "a/b/c", "x" * 300, "given.csv"),
    ]
)
NUMBERS = WORDS | st.sampled_from(["0", "1", "8", "-1", "nan", "inf", "1e400", "9" * 50, "0.5", ""])

COMMANDS: dict[tuple[str, ...], dict[str, st.SearchStrategy[str]]] = {
    ("check",): {"-c": PATHS, "--pipeline": NAMES, "--gpu-gib": NUMBERS},
    ("pin",): {"-c": PATHS, "--pipeline": NAMES},
    ("pin-images",): {"--root": PATHS, "--absent": WORDS},
    ("schema",): {"--out": PATHS},
    ("init",): {
        "--from": PATHS,
        "--out": PATHS,
        "--name": NAMES,
        "--base": PATHS,
        "--force": WORDS,
    },
    ("generate",): {
        **{"--input": PATHS, "--output": PATHS, "--recipe": PATHS, "--role": NAMES},
        **{"--name": NAMES, "--folder": PATHS, "--limit": NUMBERS, "--temperature": NUMBERS},
    },
    ("chat",): {"--prompt": WORDS, "--name": NAMES, "--folder": PATHS, "--seed": NUMBERS},
    ("export", "--format", "peft"): {"--out": PATHS, "--name": NAMES, "--alias": NAMES},
    ("report",): {"--run": NAMES, "--out": PATHS},
    ("lineage",): {"": NAMES | PATHS, "--name": NAMES},
    ("registry", "list"): {"--name": NAMES},
    ("registry", "show"): {"": NAMES, "--name": NAMES},
    ("registry", "compare"): {"": NAMES, "--name": NAMES},
    ("registry", "history"): {"--name": NAMES},
    ("registry", "promote"): {"": NAMES, "--why": WORDS, "--who": WORDS, "--name": NAMES},
    ("registry", "approve"): {"": NAMES, "--why": WORDS, "--who": WORDS, "--name": NAMES},
    ("registry", "reject"): {"": NAMES, "--why": WORDS, "--who": WORDS, "--name": NAMES},
    ("registry", "rollback"): {"--why": WORDS, "--who": WORDS, "--name": NAMES},
    ("preferences", "import"): {"": PATHS, "--key": PATHS, "--out": PATHS},
    ("preferences", "export"): {"--out": PATHS, "--run": NAMES, "--between": WORDS, "--n": WORDS},
    ("preferences", "versions"): {"": NAMES, "--name": NAMES, "--number": NUMBERS},
    ("schedule", "run"): {"--cron": WORDS, "-c": PATHS, "--attempts": NUMBERS, "--pause": NUMBERS},
    ("schedule", "pause"): {"": NAMES},
    ("schedule", "resume"): {"": NAMES},
    ("schedule", "delete"): {"": NAMES},
    ("schedule", "list"): {"--x": WORDS},
    ("stack", "embedded"): {"--x": WORDS},
    ("stack", "docker"): {"--gpus": NUMBERS, "--mount": PATHS, "--x": WORDS},
    ("doctor", "--dry-run"): {"--x": WORDS},
    ("sbom",): {"--packages": PATHS, "--name": NAMES, "--release": NAMES, "--out": PATHS},
    ("licences",): {"--rules": PATHS},
    ("review", "--port", "no"): {"--host": WORDS},
    ("dashboard", "--zenml-port", "no"): {"--log": PATHS},
}


SOUND_WORDS = {
    **{"-c": "recipe.yaml", "--recipe": "recipe.yaml", "--from": "rows.jsonl", "--base": "model"},
    **{"--input": "rows.jsonl", "--output": "made", "--out": "made", "--key": "rows.jsonl"},
    **{"--name": "museum", "--alias": "challenger", "--role": "instructions", "--limit": "1"},
    **{"--why": "reads well", "--who": "Kim", "--pipeline": "fine_tuning", "--between": "1,1"},
    **{"--number": "1", "--seed": "1", "--temperature": "0", "--prompt": "안녕?", "": "1"},
}
"""What a command makes something of."""


def needed(named: tuple[str, ...]) -> list[str]:
    """Options that a command can't do without, and "" for each of its arguments."""
    command: Any = typer.main.get_command(app)
    for name in named:
        command = getattr(command, "commands", {}).get(name, command)
    return [
        ""
        if one.param_type_name == "argument"
        else next(name for name in one.opts if name in COMMANDS[named])
        for one in command.params
        if one.required and not set(one.opts) & set(named)
    ]


@st.composite
def commands(draw: st.DrawFn, known: Sequence[tuple[str, ...]]) -> list[str]:
    """One command with what it needs and some of its options, now and then without."""
    named = draw(st.sampled_from(known))
    words, options = [*named], COMMANDS[named]
    some = draw(st.lists(st.sampled_from(sorted(options)), max_size=4))
    for option in [*(needed(named) if draw(st.integers(0, 9)) else ()), *some]:
        sound = SOUND_WORDS.get(option)
        known_value = sound is not None and draw(st.booleans())
        values = options.get(option, WORDS)
        words += [option] * bool(option) + [sound if known_value and sound else draw(values)]
    return words


@pytest.mark.fault("Input", "a command of anything", "generated words, files and stdin")
@pytest.mark.parametrize("zenml", [False, True], indirect=True, ids=["no ZenML", "a ZenML"])
@pytest.mark.usefixtures("zenml")
def test_a_command_answers_in_words(
    request: pytest.FixtureRequest, world: Path, injected: Injected
) -> None:
    # with a ZenML it would wait for the clock
    endless = {("schedule", "run")} if request.node.callspec.params["zenml"] else set()

    @settings(FUZZED, max_examples=NUM_COMMANDS)
    @given(commands(sorted(COMMANDS.keys() - endless)), FILES, TEXTS)
    def check(words: list[str], content: bytes, typed: str) -> None:
        injected.add()
        (world / "given").write_bytes(content)
        (world / "given.csv").write_bytes(content)
        with little_memory():
            code, printed = run(words, typed.encode("utf-8", "surrogatepass"))
        assert code in (0, 1, 2, 3, 4), (code, printed)
        assert "Traceback" not in printed
        assert code == 0 or len(printed.split()) >= 3, (words, printed)
        assert not (code and "object at 0x" in printed)

    check()


ENDLESS = "/dev/full"
"""Reading it gives zeros for ever."""

GIB = 2**30
WITH_FILES = [
    (named, option)
    for named, options in COMMANDS.items()
    for option, values in options.items()
    if values is PATHS
]


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Room for two GiB more than there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * GIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    ("named", "option"),
    WITH_FILES,
    ids=["-".join([*named, option]) for named, option in WITH_FILES],
)
def test_a_file_without_end_is_refused(named: tuple[str, ...], option: str, world: Path) -> None:
    sound = SOUND_WORDS | {"--cron": "0 0 * * *"}
    others = [one for one in needed(named) if one != option]
    words = [*named, *[option] * bool(option), ENDLESS]
    for other in others:
        words += [*[other] * bool(other), sound[other]]
    with little_memory():
        code, printed = run(words, b"")
    assert code in (1, 2) or option == "--base", printed  # it may be a hub's name: `check` reads it
    assert "memory" not in printed


def every_command(app: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Names of the commands below a typer application."""
    found = []
    for name, command in app.commands.items():
        inner = (*before, name)
        found += every_command(command, inner) if hasattr(command, "commands") else [inner]
    return found


def test_no_command_is_left_out() -> None:
    listed = every_command(typer.main.get_command(app))
    assert len(listed) > 20
    assert [one for one in listed if not any(named[: len(one)] == one for named in COMMANDS)] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["schema", "--out", "folder"], "posttrain: folder: cannot be read or written: Is a"),
        (["schema", "--out", "/dev/full"], "posttrain: cannot be read or written: No space left"),
        (["schema", "--out", "x" * 300], "cannot be read or written: File name too long"),
        (["check", "-c", "\udcff.yaml"], r"posttrain: \udcff.yaml: no such file"),
        (["licences", "--rules", "/dev/full"], "posttrain: /dev/full: no such file"),  # has no end
        (["sbom", "--packages", "/dev/full"], "posttrain: /dev/full: no such file"),
        (["generate", "--input", "/dev/full", "--output", "made"], "/dev/full: is a device"),
        (["schedule", "list"], "this command needs a package that is not installed here"),
    ],
)
def test_what_the_fuzzing_found_stays_mended(words: list[str], told: str, world: Path) -> None:
    code, printed = run(words, b"")
    assert code == 1
    assert told in printed

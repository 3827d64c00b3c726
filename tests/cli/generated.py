"""Files of anything: what the fuzzing of recipes and commands is given."""

import json
from typing import Any

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.cli import runs
from tests.posttrain.data.test_any_input import TEXTS, VALUES

FUZZED = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
SOUND = runs.recipe("rows.jsonl", "model")

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
SNIPPETS = (
    *("parameters:\n", "  recipe:\n", "    ingest: *x\n", "&x ", "*x", "&a [*a]", "? {a: b}\n: c"),
    *("2021-99-99", "!!int x", "!!float y", "!!timestamp z", "!!binary '='", "!!python/name:os"),
    *("[" * 3_000, "{" * 3_000, "- " * 3_000, "<<: *x\n", "<<: 1\n", "%YAML 9.9\n---\n", "---\n"),
    *("\t", "'", '"', "|\n", ">\n", "0b", "0o9", "1_000", ".inf", "~", "!!set {a}", "1:60", BOMB),
)  # fmt: skip
"""What YAML makes something else of than it seems."""

YAML_TEXTS = st.lists(st.sampled_from(SNIPPETS) | TEXTS, max_size=8).map("".join)
KEYS = ["ingest", "base_model", "sft", "evaluation", "promotion", "tokenize", "seed", "settings"]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A sound run with anything in any place of it."""
    content: dict[str, Any] = {"parameters": {"recipe": json.loads(json.dumps(SOUND))}}
    for _ in range(draw(st.integers(1, 3))):
        at: Any = content
        for _ in range(draw(st.integers(0, 4))):
            inner = [key for key, value in at.items() if isinstance(value, dict)]
            if not inner:
                break
            at = at[draw(st.sampled_from(inner))]
        key = draw(st.sampled_from([*map(str, at), *KEYS]) | TEXTS)
        at[key] = draw(VALUES | TEXTS | st.sampled_from(["model", "rows.jsonl", ["rows.jsonl"]]))
    return content


def as_yaml(content: Any) -> bytes:
    """Half a pair of surrogates as YAML's own escape."""
    return yaml.safe_dump(content, sort_keys=False).encode("utf-8", "surrogatepass")


FILES = (
    mutated().map(as_yaml)
    | mutated().map(lambda content: json.dumps(content).encode())
    | YAML_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary(max_size=40)
)

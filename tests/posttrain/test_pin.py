"""Values written into a YAML by hand: nothing else of the file changes."""

import pytest
import yaml

from posttrain.pin import Pin, write

COMMIT, PRINT = "a1" * 20, "b2" * 32
RUN = """# The head of the file.

parameters:
  recipe:
    seed: 0     # one for all
    ingest:
      instructions: {source: me/data, format: hub, split: train}   # flow
      probes:
        source: me/data
        format: hub
        revision: v1   # a tag
    base_model:
      source: "me/model"   # quoted

    sft: {method: lora}

settings: {}   # the end
"""
REVISIONS = [
    Pin(section=("ingest", "instructions"), field="revision", value=COMMIT),
    Pin(section=("ingest", "probes"), field="revision", value=COMMIT),
    Pin(section=("base_model",), field="revision", value=COMMIT),
    Pin(
        section=("base_model",),
        field="fingerprint",
        value=PRINT,
        after=("source", "revision"),
    ),
]


def test_values_stand_where_they_belong_and_nothing_else_changes() -> None:
    text, changes = write(RUN, REVISIONS)
    assert text == RUN.replace(
        "{source: me/data, format: hub, split: train}",
        f"{{source: me/data, revision: {COMMIT}, format: hub, split: train}}",
    ).replace("revision: v1   # a tag", f"revision: {COMMIT}   # a tag").replace(
        '"me/model"   # quoted\n',
        f'"me/model"   # quoted\n      revision: {COMMIT}\n      fingerprint: {PRINT}\n',
    )
    assert changes == [
        f"ingest.instructions.revision: absent -> {COMMIT}",
        f"ingest.probes.revision: v1 -> {COMMIT}",
        f"base_model.revision: absent -> {COMMIT}",
        f"base_model.fingerprint: absent -> {PRINT}",
    ]


def test_a_second_time_changes_nothing() -> None:
    text, _ = write(RUN, REVISIONS)
    assert write(text, REVISIONS) == (text, [])


def test_windows_line_ends_stay() -> None:
    text, _ = write(RUN.replace("\n", "\r\n"), REVISIONS)
    assert text == write(RUN, REVISIONS)[0].replace("\n", "\r\n")


def test_a_file_that_ends_in_the_section_keeps_its_end() -> None:
    short = "parameters:\n  recipe:\n    base_model:\n      source: me/model"
    text, _ = write(short, REVISIONS[2:3])
    assert text == f"{short}\n      revision: {COMMIT}"


def test_digits_that_would_be_a_number_are_quoted() -> None:
    number = "1" * 40
    text, _ = write(RUN, [Pin(section=("base_model",), field="revision", value=number)])
    assert yaml.safe_load(text)["parameters"]["recipe"]["base_model"]["revision"] == number


def test_a_section_that_refers_to_another_gets_a_value_of_its_own() -> None:
    merged = RUN.replace("{source: me/data,", "&data {source: me/data,").replace(
        "      probes:\n        source: me/data\n", "      probes:\n        <<: *data\n"
    )
    text, _ = write(merged, REVISIONS[1:2])
    ingest = yaml.safe_load(text)["parameters"]["recipe"]["ingest"]
    assert ingest["probes"]["revision"] == COMMIT
    assert "revision" not in ingest["instructions"]


def test_one_section_for_two_roles_cannot_hold_two_commits() -> None:
    shared = RUN.replace("{source: me/data,", "&data {source: me/data,")
    start = shared.index("      probes:")
    end = shared.index("    base_model:")
    shared = f"{shared[:start]}      probes: *data\n{shared[end:]}"
    other = REVISIONS[1].model_copy(update={"value": "c3" * 20})
    with pytest.raises(ValueError, match=r"ingest.instructions.revision: is 'c3c3.* by an anchor"):
        write(shared, [REVISIONS[0], other])

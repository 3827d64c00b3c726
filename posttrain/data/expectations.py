"""Great Expectations suites, one a role, over the derived columns of `rules`.

GX sees findings and figures, never the text itself: its Data Docs show values, and personal data
must not reach them. Every expectation bears the reason that its failing rows are quarantined for.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.core.expect_column_values_to_be_between import (
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_in_set import (
    ExpectColumnValuesToBeInSet,
)
from great_expectations.expectations.core.expect_column_values_to_be_null import (
    ExpectColumnValuesToBeNull,
)
from great_expectations.expectations.core.expect_column_values_to_match_regex import (
    ExpectColumnValuesToMatchRegex,
)
from great_expectations.expectations.core.expect_column_values_to_not_be_null import (
    ExpectColumnValuesToNotBeNull,
)

from posttrain.facts import Role
from posttrain.recipe.validation import RoleRules

_FINDINGS = ("mojibake", "control_token")
_PII = ("rrn", "email", "phone")
_ORDERS = {
    "instructions": r"\A(?:system )?user assistant(?: user assistant)*\Z",
    **dict.fromkeys(("preferences", "prompts"), r"\A(?:system )?(?:user assistant )*user\Z"),
}


@dataclass
class Outcome:
    """What became of one expectation over all batches."""

    expectation: str
    column: str
    reason: str
    num_rows: int = 0
    num_failing: int = 0


@dataclass(frozen=True)
class Failure:
    """A row that failed an expectation."""

    row: int
    """Number within the batch."""

    reason: str
    detail: str


@dataclass
class Suite:
    """One role's suite in a context, and its outcomes so far."""

    role: Role
    definition: Any
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def run(self, rows: pd.DataFrame) -> list[Failure]:
        """Evaluate one batch and give its failing rows."""
        result = self.definition.run(
            batch_parameters={"dataframe": rows}, result_format={"result_format": "COMPLETE"}
        )
        return [failure for each in result.results for failure in self._failures(each, rows)]

    def _failures(self, result: Any, judged: pd.DataFrame) -> list[Failure]:
        config = result.expectation_config
        if result.exception_info.get("raised_exception"):
            raise RuntimeError(f"{self.role}: {config.type}: {result.exception_info}")
        column, meta = config.kwargs["column"], config.meta
        fresh = Outcome(config.type, column, meta["reason"])
        outcome = self.outcomes.setdefault((config.type, column + meta["detail"]), fresh)
        rows = result.result["unexpected_index_list"]
        outcome.num_rows += result.result["element_count"]
        outcome.num_failing += len(rows)
        # GX names every row, but the values of the first 200 alone
        values = judged[column].iloc[rows]
        return [
            Failure(int(row), meta["reason"], meta["detail"].format(value=value))
            for row, value in zip(rows, values, strict=True)
        ]


def new_context() -> Any:
    """A context in memory: no project folder, no progress bars, nothing sent anywhere."""
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def new_suite(context: Any, role: Role, rules: RoleRules) -> Suite:
    """The role's suite, ready to run on batches."""
    suite = context.suites.add(
        gx.ExpectationSuite(name=role, expectations=expectations(role, rules))
    )
    asset = context.data_sources.add_pandas(role).add_dataframe_asset(role)
    rows = asset.add_batch_definition_whole_dataframe("rows")
    definition = gx.ValidationDefinition(name=role, data=rows, suite=suite)
    return Suite(role, context.validation_definitions.add(definition))


def expectations(role: Role, rules: RoleRules) -> list[Any]:
    """What the derived columns of a role must satisfy."""
    short, long = rules.min_chars, rules.max_chars
    found = [
        ExpectColumnValuesToNotBeNull(column="id", meta=_meta("schema", "id is missing")),
        ExpectColumnValuesToBeInSet(
            column="split",
            value_set=["train", "held_out"],
            meta=_meta("schema", "split is {value!r}; train or held_out is wanted"),
        ),
        _nothing_found("schema"),
        _nothing_found("unknown_column"),
        ExpectColumnValuesToBeBetween(
            column="shortest_chars",
            min_value=short,
            meta=_meta("empty", f"a text of {{value:.0f}} characters; at least {short} are wanted"),
        ),
        ExpectColumnValuesToBeBetween(
            column="longest_chars",
            max_value=long,
            meta=_meta("too_long", f"a text of {{value:.0f}} characters; at most {long} may be"),
        ),
        *(_nothing_found(name) for name in (*_FINDINGS, *(_PII if rules.pii else ()))),
        _nothing_found("held_out_overlap"),
    ]
    if role in _ORDERS:
        found.append(
            ExpectColumnValuesToMatchRegex(
                column="role_order", regex=_ORDERS[role], meta=_meta("role_order", "{value}")
            )
        )
    if share := rules.min_language_share:
        detail = f"{{value:.0%}} of letters in the recipe's languages; {share:.0%} are wanted"
        found.append(
            ExpectColumnValuesToBeBetween(
                column="language_share", min_value=share, meta=_meta("language", detail)
            )
        )
    return found


def _nothing_found(column: str) -> Any:
    return ExpectColumnValuesToBeNull(column=column, meta=_meta(column, "{value}"))


def _meta(reason: str, detail: str) -> dict[str, str]:
    return {"reason": reason, "detail": detail}


def save_data_docs(context: Any, folder: Path) -> None:
    """Copy the context's Data Docs into a folder."""
    with tempfile.TemporaryDirectory(prefix="data-docs-") as temporary:
        context.add_data_docs_site(
            "posttrain",
            {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": temporary,
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
        context.build_data_docs(site_names=["posttrain"])
        # GX's tutorial animations: 3 MB that no page shows
        shutil.copytree(temporary, folder, ignore=shutil.ignore_patterns("*.gif"))

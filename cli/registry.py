"""`posttrain registry`: what is registered, what was decided about it, and to decide anew.

Exit codes: 0 done; 1 a mistake, or somebody else was quicker; 2 the command was mistyped; 3 the
gate refuses.
"""

import json
import sys
from typing import Annotated, Any, Literal

import typer

from cli import options
from cli.named import check_store, only_model
from cli.who import who_decides
from posttrain.registry.one_line import is_blank, one_line

REFUSED = 3
SAID = ("figure.", "gate")
"""Beginnings of tags whose content has fields of its own."""

registry = typer.Typer(
    help="Versions, the champion among them, and the history of who made it that.",
    no_args_is_help=True,
)

Which = Annotated[str, typer.Argument(help="Number of a version, or an alias.")]
Why = Annotated[str, typer.Option(help="Your reason; the history keeps it.")]
Who = Annotated[str | None, typer.Option(help="Your name; your login name where absent.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@registry.command("list")
def list_(name: options.Name = None, as_json: AsJson = False) -> None:
    """Show every version, the newest first."""
    from cli.registry_tables import listed
    from posttrain.registry.overview import versions

    client, name = _opened(name)
    found = versions(client, name)
    if as_json:
        _print([_plain(one) for one in found])
    else:
        listed(name, found)
    _tell_doubts(client, name)


@registry.command()
def show(which: Which, name: options.Name = None, as_json: AsJson = False) -> None:
    """Show one version: figures, the gate's word, decisions, where it came from."""
    from cli.registry_tables import shown
    from posttrain.registry.overview import versions
    from posttrain.registry.promotions import history
    from posttrain.registry.versions import read_evaluation, resolve

    client, name = _opened(name)
    version = resolve(client, name, which)
    (found,) = (one for one in versions(client, name) if one.number == int(version.version))
    entries = tuple(one for one in history(client, name) if one.version == found.number)
    if as_json:
        _print({**_plain(found), "history": _dumped(entries)})
    else:
        shown(name, found, entries, read_evaluation(client, version))


@registry.command()
def compare(a: Which, b: Which, name: options.Name = None, as_json: AsJson = False) -> None:
    """Show two versions side by side; differences are B less A."""
    from cli.registry_tables import compared
    from posttrain.registry.overview import compare

    client, name = _opened(name)
    found = compare(client, name, a, b)
    if as_json:
        figures = [{**one.model_dump(mode="json"), "verdict": one.verdict} for one in found.figures]
        sides = {"a": _plain(found.a), "b": _plain(found.b)}
        _print({**sides, "figures": figures, "differing": found.differing})
    else:
        compared(name, found)


@registry.command()
def history(name: options.Name = None, as_json: AsJson = False) -> None:
    """Show who decided what, when, and why."""
    from cli.registry_tables import told
    from posttrain.registry.promotions import history

    client, name = _opened(name)
    entries = history(client, name)
    if as_json:
        _print(_dumped(entries))
    else:
        told(name, entries)
    _tell_doubts(client, name)


@registry.command()
def promote(
    which: Which,
    why: Why,
    who: Who = None,
    name: options.Name = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Promote although the gate refuses.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, if the gate passes it anew."""
    from posttrain.registry.by_hand import Refused, judge_again, promote_judged

    client, name = _opened(name)
    decider = who_decides(who)
    judged = judge_again(client, name, which)
    override = "overruled by hand" if overrule else None
    try:
        entry = promote_judged(
            client, judged, action="promote", who=decider, why=_said(why), override=override
        )
    except Refused as error:
        _tell_refusal(error.judged)
        raise typer.Exit(REFUSED) from None
    _report(name, entry, as_json)


@registry.command()
def approve(
    which: Which,
    why: Why,
    who: Who = None,
    name: options.Name = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Approve although the gate refuses.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say yes to a version: to the run that waits for a word on it, else at once."""
    from posttrain.registry.by_hand import Refused

    try:
        _say("approve", which, why, who, name, as_json, overrule)
    except Refused as error:
        _tell_refusal(error.judged)
        raise typer.Exit(REFUSED) from None


@registry.command()
def reject(
    which: Which, why: Why, who: Who = None, name: options.Name = None, as_json: AsJson = False
) -> None:
    """Say no to a version: to the run that waits for a word on it, else at once."""
    _say("reject", which, why, who, name, as_json)


@registry.command()
def rollback(why: Why, who: Who = None, name: options.Name = None, as_json: AsJson = False) -> None:
    """Take the champion back; the one before it is champion again."""
    from posttrain.registry.promotions import champion_of, roll_back

    client, name = _opened(name)
    champion = champion_of(client, name)
    entry = roll_back(
        client, name, who=who_decides(who), why=_said(why), expected_champion=champion
    )
    _report(name, entry, as_json)


def _say(
    decision: Literal["approve", "reject"],
    which: str,
    why: str,
    who: str | None,
    name: str | None,
    as_json: bool,
    overrules: bool = False,
) -> None:
    from cli.waiting import say
    from posttrain.registry.versions import resolve

    client, name = _opened(name)
    number, decider = int(resolve(client, name, which).version), who_decides(who)
    entry = say(name, number, decision, who=decider, why=_said(why), overrules=overrules)
    _report(name, entry, as_json)


def _tell_refusal(judged: Any) -> None:
    print(f"the gate refuses {judged.name} version {judged.version}:", file=sys.stderr)
    for outcome in judged.failed:
        print(f"  {one_line(outcome.reason)}", file=sys.stderr)
    print("nothing was changed; --overrule makes it champion all the same", file=sys.stderr)


def _opened(name: str | None) -> tuple[Any, str]:
    """MLflow's client, and the model that was named or the only one."""
    check_store()
    from mlflow import MlflowClient

    return MlflowClient(), name or only_model()


def _said(why: str) -> str:
    if is_blank(why):
        raise ValueError("--why: say in a few words why; the history keeps it")
    return one_line(why)


def _report(name: str, entry: Any, as_json: bool) -> None:
    if as_json:
        _print(entry.model_dump(mode="json"))
        return
    instead = f", in place of version {entry.from_version}" if entry.from_version else ""
    champion = f"version {entry.to_version} is the champion{instead}"
    rejected = f"version {entry.version} is rejected"
    print(f"{name}: {rejected if entry.action == 'reject' else champion}")
    print(f"line {entry.number} of the history: {entry.who}: {entry.why}")


def _tell_doubts(client: Any, name: str) -> None:
    """On stderr, with JSON too: a script's output stays what it is."""
    from posttrain.registry.history import doubts
    from posttrain.registry.promotions import champion_of, history

    for doubt in doubts(history(client, name), champion_of(client, name)):
        print(f"note: {doubt}", file=sys.stderr)


def _plain(version: Any) -> dict[str, Any]:
    """A version as JSON; what stands in fields of its own is not said by a tag again."""
    told: dict[str, Any] = version.model_dump(mode="json")
    tags = {tag: text for tag, text in version.tags.items() if not tag.startswith(SAID)}
    return {**told, "tags": tags}


def _dumped(entries: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [entry.model_dump(mode="json") for entry in entries]


def _print(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))

"""`posttrain chat`: answers by a registered version, loaded afresh and verified."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Answer = Callable[[list[dict[str, str]]], str]


def chat(
    alias: Annotated[str, typer.Option(help="Alias or number of the version.")] = "champion",
    name: Annotated[
        str | None, typer.Option(help="Registered model; may be absent where there is one.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Answer this and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
) -> None:
    """Talk to a registered version."""
    check_store()
    answer = load_answerer(name or only_model(), alias, temperature, max_new_tokens, seed)
    start = [{"role": "system", "content": system}] if system else []
    if prompt is not None:
        print(answer([*start, {"role": "user", "content": prompt}]))
        return
    print("An empty line or Ctrl-D ends; /new forgets what was said.", file=sys.stderr)
    converse(answer, start)


def converse(answer: Answer, start: list[dict[str, str]]) -> None:
    """Read a line, answer, remember."""
    turns = list(start)
    while True:
        try:
            said = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not said:
            return
        if said == "/new":
            turns = list(start)
            continue
        turns.append({"role": "user", "content": said})
        turns.append({"role": "assistant", "content": answer(turns)})
        print(turns[-1]["content"])


def check_store() -> None:
    """Refuse to look into a database that is not there: MLflow would make an empty one.

    Raises:
        ValueError: the tracking URI names a file that does not exist.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        raise ValueError(
            f"{file}: no registry there; run a pipeline first, in the shell that has read "
            ".posttrain/env"
        )


def only_model() -> str:
    """The registered model, where there is exactly one.

    Raises:
        ValueError: there is none, or a choice.
    """
    import mlflow

    found: list[str] = sorted(
        model.name for model in mlflow.MlflowClient().search_registered_models()
    )
    models = [name for name in found if name.removesuffix("-base") not in {*found} - {name}]
    if len(models) == 1:
        return models[0]
    if models:
        raise ValueError(f"say which model by --name: {', '.join(models)}")
    raise ValueError(f"{mlflow.get_tracking_uri()} has no registered model; run a pipeline first")


def load_answerer(
    name: str, alias: str, temperature: float, max_new_tokens: int, seed: int
) -> Answer:
    """Download, verify and load a version; the result answers a conversation."""
    from posttrain.data.chat import encode_prompts, end_tokens
    from posttrain.models.device import prepare
    from posttrain.models.generate import Sampling, generate
    from posttrain.models.load import load_policy
    from posttrain.models.tokenizer import load_tokenizer
    from posttrain.registry.load import download
    from posttrain.runtime import Runtime

    prepare(seed)
    base, policy = download(name, alias, Runtime.from_environment().cache / "registry")
    tokenizer, model = load_tokenizer(base), load_policy(base, policy)
    ends = end_tokens(tokenizer)
    positions = base.facts.max_positions
    sampling = Sampling(
        max_new_tokens=min(max_new_tokens, max(1, positions // 2)),
        temperature=temperature,
        end_ids=ends,
        pad_id=ends[0],
        batch_size=1,
        seed=seed,
    )

    def answer(turns: list[dict[str, str]]) -> str:
        kept = list(turns)
        ids = encode_prompts(tokenizer, [kept])[0]
        while len(ids) + sampling.max_new_tokens > positions and len(kept) > 2:
            oldest = 1 if kept[0]["role"] == "system" else 0
            del kept[oldest : oldest + 2]  # a question and its answer
            ids = encode_prompts(tokenizer, [kept])[0]
        response = generate(model, [ids], sampling)[0]
        return str(tokenizer.decode(response, skip_special_tokens=True)).strip()

    return answer

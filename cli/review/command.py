"""`posttrain review`: the page where people compare versions and decide about them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.version_pairs import REVIEW

TOKEN = "POSTTRAIN_REVIEW_TOKEN"


def review(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8238,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="File of `posttrain preferences versions`, if not in the state folder."),
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder of pairs and verdicts.")] = REVIEW,
    zenml_url: Annotated[
        str | None, typer.Option(help="ZenML's dashboard, for links; else ZENML_STORE_URL.")
    ] = None,
    mlflow_url: Annotated[
        str | None, typer.Option(help="MLflow's UI, for links; else MLFLOW_TRACKING_URI.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Host header to accept too, such as review.example.org:8238."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of which stored answer stands first.")] = 0,
) -> None:
    """Serve the review page: versions, reports, decisions, blind comparison.

    Beyond loopback it asks for the token in POSTTRAIN_REVIEW_TOKEN, and does not start without.
    """
    import uvicorn

    from cli.named import check_store
    from cli.review.app import build
    from cli.review.desk import Desk
    from cli.review.links import links
    from cli.review.security import access
    from posttrain.evaluate.ballots import read_pairs

    check_store()
    for file in pairs or []:
        read_pairs(file)
    desk = Desk(
        access=access(host, port, tuple(allow_host or ()), os.environ.get(TOKEN) or None),
        links=links(zenml_url, mlflow_url),
        state=state,
        files=tuple(pairs or ()),
        seed=seed,
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"Review page: http://{shown}:{port}", flush=True)
    uvicorn.run(build(desk), host=host, port=port, log_level="warning", server_header=False)

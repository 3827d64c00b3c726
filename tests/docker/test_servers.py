"""Nobody gets anything from a team's servers without a password: every route, of the real ones.

MLflow runs as compose.yaml and as k8s/ start it; ZenML's server as compose.yaml does. What runs in
containers alone (the databases, the store of objects) is held to its configuration.
"""

import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import mlflow.server
import pytest
import yaml
from mlflow.server.auth import routes as auth_routes
from mlflow.server.fastapi_app import create_fastapi_app
from mlflow.server.handlers import get_endpoints

from tests.faults import LEVEL, Injected, times
from tests.served import (
    ROOT,
    Started,
    compose_environment,
    compose_mlflow,
    image_environment,
    k8s_mlflow,
    pod_of,
    started,
)

OFF = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
VARIABLE = re.compile(r"<[^>]*>|\{[^}]*\}")
OPEN = re.compile(r"/health|/version|/static-files/.*|/(ajax-)?api/3\.0/mlflow/server-info")
"""MLflow's: whether it lives, the page's scripts, which features are on. Nobody's data."""

CLASSES = {
    "tracking": r"/api/2\.0/mlflow/(runs|experiments|metrics|traces|logged-models)/",
    "registry": r"/api/2\.0/mlflow/(registered-models|model-versions)/",
    "artifacts": r"/api/2\.0/mlflow-artifacts/artifacts",
    "artifacts in the page": r"/(get-artifact|model-versions/get-artifact)",
    "page's own": r"/ajax-api/[23]\.0/mlflow/",
    "GraphQL": r"/graphql",
    "gateway": r"/(ajax-)?api/3\.0/mlflow/gateway/",
    "jobs": r"/ajax-api/3\.0/(mlflow/)?jobs",
    "users": r"/api/2\.0/mlflow/users/",
    "the page": r"/$",
    "traces of others": r"/v1/traces",
}
"""Kinds of routes, of which there must be some: the enumeration is not empty by mistake."""


def mlflow_routes() -> list[tuple[str, str]]:
    """Every method and path that MLflow's code registers, with `x` for what varies."""
    found = {(method, path) for path, _, methods in get_endpoints() for method in methods}
    for rule in mlflow.server.app.url_map.iter_rules():
        found |= {(method, rule.rule) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    described = create_fastapi_app(mlflow.server.app).openapi()["paths"]
    found |= {(m.upper(), path) for path, methods in described.items() for m in methods}
    for name, path in vars(auth_routes).items():
        if name.isupper() and isinstance(path, str) and path.startswith("/"):
            found |= {(method, path) for method in ("GET", "POST", "PATCH", "DELETE")}
    found |= {("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/admin")}
    return sorted({(method, VARIABLE.sub("x", path)) for method, path in found})


def drawn(routes: list[tuple[str, str]], few: int) -> list[tuple[str, str]]:
    """All, or some of every kind: the tests that run at each commit are short."""
    if LEVEL != "quick":
        return routes
    kinds = [[one for one in routes if re.match(kind, one[1])] for kind in CLASSES.values()]
    some = random.Random(1)
    return [one for kind in kinds for one in some.sample(kind, min(few, len(kind)))]


def refuses(server: Started, routes: list[tuple[str, str]], injected: Injected) -> None:
    """Without a password, and with wrong ones, every route but those of OPEN says 401."""
    wrong = [{}, bearer("x"), basic("admin", "password1234"), basic("admin", ""), basic("x", "x")]
    through = []
    for headers in wrong[: times(quick=2, few=2, full=5)]:
        for method, path in routes:
            if OPEN.fullmatch(path):
                continue
            status, told = server.ask(method, path, **headers)
            lost = status != 401
            injected.add(lost=lost)
            if lost:
                through.append(f"{method} {path}: {status} {told[:80]}")
    assert through == []


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.fault("Servers", "a request to MLflow without a password", "each route, compose.yaml")
def test_mlflow_of_compose_refuses(tmp_path: Path, injected: Injected) -> None:
    command, environment = compose_mlflow(tmp_path)
    assert environment.items() >= OFF.items()
    name = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")[-1]
    routes = mlflow_routes()
    for kind, pattern in CLASSES.items():
        assert any(re.match(pattern, path) for _, path in routes), kind
    assert LEVEL == "quick" or len(routes) > 400
    with started(command, environment, tmp_path, name, "/health") as server:
        refuses(server, drawn(routes, 2), injected)
        admin = basic("admin", environment["MLFLOW_AUTH_ADMIN_PASSWORD"])
        assert server.ask("GET", "/api/2.0/mlflow/users/list", **admin)[0] == 200
        if LEVEL != "quick":
            assert_no_jobs(server, admin)
        foreign = Started(server.url, "evil.example", environment)
        status, _ = foreign.ask("GET", "/api/2.0/mlflow/users/list", **admin)
        assert status == 403  # a name that somebody let resolve to it


def assert_no_jobs(server: Started, admin: dict[str, str]) -> None:
    """Not even an administrator can have one run."""
    job = json.dumps({"job_name": "invoke_scorer", "params": {}}).encode()
    status, told = server.ask("POST", "/ajax-api/3.0/jobs/", job, **admin)
    assert status >= 400 and ("not enabled" in told or "Invalid job name" in told), told


@pytest.mark.slow
@pytest.mark.fault("Servers", "a request to MLflow without a password", "each route, k8s/")
def test_mlflow_of_the_cluster_refuses(tmp_path: Path, injected: Injected) -> None:
    command, environment = k8s_mlflow(tmp_path)
    assert environment.items() >= OFF.items()
    name = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")[-1]
    with started(command, environment, tmp_path, name, "/health") as server:
        refuses(server, mlflow_routes(), injected)
        password = Path(environment["MLFLOW_AUTH_CONFIG_PATH"]).read_text("utf-8").split()[-1]
        assert server.ask("GET", "/api/2.0/mlflow/users/list", **basic("admin", password))[0] == 200


ZENML = ["uvicorn", "zenml.zen_server.zen_server_api:app", "--host=0.0.0.0", "--port=8080"]
"""What ZenML's image runs, which compose.yaml and the chart leave as it is."""

SOME_ID = "00000000-0000-4000-8000-000000000000"
ASKED = "?token=x&source_type=pipeline"
"""Routes that hand files out take a signed token; all others pass over what they do not know."""

ZENML_OPEN = re.compile(
    r"/health|/ready|/api/v1/(info|version|login|logout|device_authorization|activate)"
    rf"|/api/v1/users/{SOME_ID}/activate|/api/v1/webhooks/.*/events|/api/v1/supported-events"
)
"""Whether it lives, its version, ways to sign in, what brings a token or signature of its own, and
a list of words that stands in ZenML's code."""


def zenml_routes() -> list[tuple[str, str]]:
    """Of all that its REST interface has."""
    from zenml.zen_server.zen_server_api import app  # noqa: PLC0415 -- reads its folder's variable

    described = app.openapi()["paths"]
    return sorted(
        (method.upper(), VARIABLE.sub(SOME_ID, path))
        for path, methods in described.items()
        for method in methods
    )


def zenml_of_compose(folder: Path) -> dict[str, str]:
    """compose.yaml's variables; MySQL gives way to SQLite in `folder`."""
    environment = compose_environment("zenml")
    del environment["ZENML_STORE_URL"]
    return environment | {"ZENML_CONFIG_PATH": str(folder), "ZENML_SERVER": "true"}


@pytest.mark.slow
@pytest.mark.fault("Servers", "a request to ZenML without signing in", "each route, compose.yaml")
def test_zenml_of_compose_refuses(
    tmp_path: Path, injected: Injected, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = zenml_of_compose(tmp_path)
    with started(ZENML, environment, tmp_path, "127.0.0.1", "/health") as server:
        monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "client"))
        routes = [one for one in zenml_routes() if not ZENML_OPEN.fullmatch(one[1])]
        assert len(routes) > 200
        through = []
        for headers in [{}, bearer("x"), basic("admin", "")][: times(quick=1, few=1, full=3)]:
            for method, path in routes:
                status, told = server.ask(method, path + ASKED, **headers)
                lost = status not in (401, 403)
                injected.add(lost=lost)
                if lost:
                    through.append(f"{method} {path}: {status} {told[:200]}")
        assert through == []
        assert server.ask("POST", "/api/v1/login")[0] == 400  # no name, no token
        assert '"auth_scheme":"OAUTH2_PASSWORD_BEARER"' in server.ask("GET", "/api/v1/info")[1]


def test_the_clusters_zenml_signs_in_as_composes_does() -> None:
    """The chart hands both to the server, which refuses as the one above does."""
    values = yaml.safe_load((ROOT / "k8s/zenml-server.values.yaml").read_text("utf-8"))["zenml"]
    assert values["auth"]["authType"] == "OAUTH2_PASSWORD_BEARER"
    assert values["debug"] is False
    assert "ZENML_SERVER_AUTH_SCHEME" not in compose_environment("zenml")  # its default, as above


def test_mlflow_runs_no_jobs_and_opens_no_pickles_wherever_it_is_started() -> None:
    assert image_environment("mlflow.Dockerfile").items() >= OFF.items()
    for image in ("data", "train", "registry"):
        assert image_environment(f"{image}.Dockerfile").items() >= OFF.items(), image
    in_pod = {one["name"]: one.get("value") for one in pod_of("mlflow")["env"]}
    assert in_pod.items() >= OFF.items()
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(f"{name}={value}" in makefile for name, value in OFF.items())


def test_what_is_not_started_here_asks_for_a_password() -> None:
    """The databases and the store of objects: their variables, and the network they are on."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    services = found["services"]
    assert found["networks"]["stores"] == {"internal": True}
    for name, variable in {
        "mlflow-db": "POSTGRES_PASSWORD",
        "zenml-db": "MYSQL_ROOT_PASSWORD",
        "objects": "AWS_SECRET_ACCESS_KEY",
    }.items():
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", services[name]["environment"][variable]), name
    for name in ("mlflow-db", "zenml-db"):
        assert services[name]["networks"] == ["stores"] and "ports" not in services[name]
    assert "POSTGRES_HOST_AUTH_METHOD" not in str(found) and "ALLOW_EMPTY" not in str(found)

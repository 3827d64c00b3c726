"""Who gets nothing: foreign names, foreign forms, no token; and what every answer carries."""

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from cli.review.desk import Desk
from cli.review.links import links
from cli.review.security import LARGEST_FORM, access
from tests.cli.review.museum import NAME, PORT, aliases, browser_of, code_of

HERE = f"/models/{NAME}/versions/2"
TOKEN = "a-token-of-some-length"
FORM = {"decision": "approve", "who": "Kim", "why": "better", "expected": "1"}


def sent(site: TestClient, changed: dict[str, str], **headers: str) -> int:
    """An approval, sent as a browser would, but for what is changed."""
    fields = {"code": code_of(site.get(HERE).text), **FORM, **changed}
    answer = site.post(
        f"{HERE}/decision", data=fields, headers={"origin": f"http://127.0.0.1:{PORT}", **headers}
    )
    return int(answer.status_code)


def test_an_approval_as_a_browser_sends_it_is_taken(site: TestClient, museum: MlflowClient) -> None:
    assert sent(site, {}) == 303
    assert aliases(museum)["champion"] == 2


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        ({"code": ""}, {}),
        ({"code": "0" * 64}, {}),
        ({"code": "ü"}, {}),
        ({}, {"origin": "http://evil.example"}),
        ({}, {"origin": "null"}),
        ({}, {"origin": ""}),
        ({}, {"origin": f"https://127.0.0.1:{PORT}"}),
        ({}, {"origin": "http://127.0.0.1:9999"}),
        ({}, {"origin": f"http://127.0.0.1:{PORT}.evil.example"}),
        ({}, {"sec-fetch-site": "cross-site"}),
        ({}, {"sec-fetch-site": "same-site"}),
    ],
)
def test_a_form_that_is_not_ours_is_refused(
    site: TestClient, museum: MlflowClient, changed: dict[str, str], headers: dict[str, str]
) -> None:
    assert sent(site, changed, **headers) == 403
    assert aliases(museum)["champion"] == 1


def test_a_code_of_another_session_is_refused(desk: Desk, museum: MlflowClient) -> None:
    theirs = code_of(browser_of(desk).get(HERE).text)
    assert sent(browser_of(desk), {"code": theirs}) == 403
    assert aliases(museum)["champion"] == 1


def test_a_form_without_any_session_is_refused(site: TestClient, museum: MlflowClient) -> None:
    fields = {"code": code_of(site.get(HERE).text), **FORM}
    site.cookies.clear()
    origin = {"origin": f"http://127.0.0.1:{PORT}"}
    assert site.post(f"{HERE}/decision", data=fields, headers=origin).status_code == 403
    assert aliases(museum)["champion"] == 1


@pytest.mark.parametrize("path", ["/rollback", "/versions/2/decision", "/blind/1/2"])
def test_every_form_wants_the_code(site: TestClient, museum: MlflowClient, path: str) -> None:
    before = aliases(museum)
    origin = {"origin": f"http://127.0.0.1:{PORT}"}
    answer = site.post(f"/models/{NAME}{path}", data=FORM, headers=origin)
    assert answer.status_code == 403
    assert aliases(museum) == before


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", ""]
)
def test_a_foreign_name_gets_nothing(site: TestClient, host: str) -> None:
    answer = site.get(f"/models/{NAME}", headers={"host": host})
    assert answer.status_code == 421
    assert "0.97" not in answer.text


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_loopback_has_three_names(site: TestClient, host: str) -> None:
    assert site.get(f"/models/{NAME}", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"x" * (LARGEST_FORM + 1), "application/x-www-form-urlencoded", 413),
        (b'{"decision": "approve"}', "application/json", 400),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a=1" for _ in range(50)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_form_of_another_kind_is_refused(
    site: TestClient, content: bytes, kind: str, status: int
) -> None:
    headers = {"origin": f"http://127.0.0.1:{PORT}", "content-type": kind}
    answer = site.post(f"{HERE}/decision", content=content, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/", HERE, "/review.css", "/nothing", f"{HERE}/report"])
def test_every_answer_forbids_scripts_frames_and_foreign_requests(
    site: TestClient, path: str
) -> None:
    headers = site.get(path).headers
    policy = headers["content-security-policy"]
    if path.endswith("/report"):
        assert "default-src 'none'" in policy
    else:
        assert "default-src 'self'; script-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_cookies_are_for_this_site_alone(site: TestClient) -> None:
    kept = site.get(f"{HERE}?lang=ko").headers.get_list("set-cookie")
    assert len(kept) == 2
    assert all("HttpOnly" in one and "SameSite=strict" in one for one in kept)


def test_beyond_loopback_a_token_is_a_must() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.5", "review.example.org"):
        with pytest.raises(ValueError, match=r"set a token in POSTTRAIN_REVIEW_TOKEN"):
            access(host, PORT, (), None)
    with pytest.raises(ValueError, match=r"has 5 characters and needs 16"):
        access("127.0.0.1", PORT, (), "short")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_without_a_name_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(ValueError, match=rf"--host {host} names no address; add --allow-host NAME"):
        access(host, PORT, (), TOKEN)


def test_every_address_has_only_the_names_that_are_allowed(desk: Desk) -> None:
    rules = access("0.0.0.0", PORT, ("Review.example.org",), TOKEN)
    assert rules.hosts == {"review.example.org"}


@pytest.fixture
def guarded(desk: Desk) -> TestClient:
    """The page on an address that other machines reach."""
    rules = access("10.0.0.5", PORT, (), TOKEN)
    return browser_of(Desk(rules, links(None, None), desk.state), f"10.0.0.5:{PORT}")


def give(site: TestClient, token: str) -> int:
    code = code_of(site.get("/sign-in").text)
    origin = {"origin": f"http://10.0.0.5:{PORT}"}
    return int(
        site.post("/sign-in", data={"code": code, "token": token}, headers=origin).status_code
    )


def test_without_the_token_nothing_is_shown(guarded: TestClient) -> None:
    answer = guarded.get(HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert guarded.post(f"{HERE}/decision", data=FORM).status_code == 401


def test_the_token_opens_and_a_wrong_one_does_not(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.review.app.PAUSE_SECONDS", 0.0)
    assert give(guarded, f"{TOKEN}x") == 403
    assert guarded.get(HERE).status_code == 303
    before = guarded.cookies["posttrain_review"]
    assert give(guarded, TOKEN) == 303
    assert guarded.get(HERE).status_code == 200
    assert not guarded.cookies["posttrain_review"].startswith(before)  # no session fixation


def test_a_cookie_that_somebody_wrote_does_not_open(guarded: TestClient) -> None:
    for cookie in (f"{'a' * 32}.9999999999.{'0' * 64}", f"{'a' * 32}.x.y", "..", "a" * 32):
        guarded.cookies.set("posttrain_review", cookie)
        assert guarded.get(HERE).status_code == 303


def test_a_session_ends() -> None:
    rules = access("10.0.0.5", PORT, (), TOKEN)
    assert rules.read(rules.signed_in(4_000_000_000))[1] is True
    assert rules.read(rules.signed_in(1_000_000_000))[1] is False


def test_there_is_no_sign_in_without_a_token(site: TestClient) -> None:
    assert site.get("/sign-in").status_code == 404


@pytest.mark.parametrize("address", ["javascript:alert(1)", "127.0.0.1:8237", "http://"])
def test_a_link_must_be_an_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address"):
        links(address, None)


def test_a_password_in_an_address_is_not_shown() -> None:
    found = links(None, "https://user:secret@mlflow.example.org/ui/")
    assert found.mlflow == "https://mlflow.example.org/ui"

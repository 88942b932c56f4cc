"""Who may ask: the server's names, other sites' pages, the token."""

import base64
from collections.abc import Callable

import pytest
from asking import Client, png, refused

from disa.serving.guard import Access

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1:8017", "localhost", "[::1]:80", "LocalHost:99"])
def test_the_servers_own_names(serve: Callable[..., Client], host: str):
    assert serve().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example:80", "", "[::1"]
)
def test_a_name_that_was_rebound_to_this_machine(serve: Callable[..., Client], host: str):
    client = serve()
    for path in ("/", "/health", "/sessions/x"):
        refused(client.get(path, headers={"host": host}), 421, "--host-name")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_may_not_ask(serve: Callable[..., Client], origin: str):
    client = serve()
    headers = {"origin": origin}
    refused(client.post("/sessions", content=png(), headers=headers), 403, "--allow-origin")
    assert len(client.service.sessions) == 0
    response = client.get("/model", headers=headers)
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_own_page_and_named_sites_may_ask(serve: Callable[..., Client]):
    own = {"origin": "http://127.0.0.1:8017"}
    assert serve().post("/sessions", content=png(), headers=own).status_code == 201

    friend = {"origin": "https://friend.example"}
    client = serve(Access(TOKEN, origins=("https://friend.example",)))
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    preflight = client.options("/sessions", headers=friend | asked)
    assert preflight.headers["access-control-allow-origin"] == "https://friend.example"
    token = {"authorization": f"Bearer {TOKEN}"}
    response = client.post("/sessions", content=png(), headers=friend | token)
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == "https://friend.example"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer 0123456789abcdeF",
        "Basic !!!",
        "Basic " + base64.b64encode(b"x").decode(),
        "Bearer \xff",
        f"Digest {TOKEN}",
    ],
)
def test_a_token_is_needed_for_the_page_too(serve: Callable[..., Client], header: str | None):
    client = serve(Access(TOKEN))
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/sessions/x", "/nothing"):
        response = client.get(path, headers=headers)
        refused(response, 401, "Bearer")
        assert response.headers["www-authenticate"].startswith("Basic")
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()]
)
def test_the_right_token(serve: Callable[..., Client], header: str):
    assert serve(Access(TOKEN)).get("/", headers={"authorization": header}).status_code == 200


def test_a_page_may_run_its_own_script_alone(serve: Callable[..., Client]):
    response = serve().get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    for mark in ("http://", "https://", "//cdn"):
        assert mark not in response.text.replace("http://www.w3.org/2000/svg", "")

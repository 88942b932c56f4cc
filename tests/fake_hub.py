"""A Hugging Face Hub on loopback with a few files, as far as downloading and uploading go."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories as folders: root/models/OWNER/NAME and root/spaces/OWNER/NAME."""

    def __init__(self, root: Path, address: str) -> None:
        self.root, self.address = root, address
        self.asked: list[str] = []  # "METHOD path"

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path, offline: bool = False) -> None:
        """Let huggingface_hub in this process use this hub and an own cache."""
        from huggingface_hub import constants

        template = f"{self.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in (
            ("ENDPOINT", self.address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_CACHE", str(cache / "hf" / "hub")),
            ("HF_HUB_OFFLINE", offline),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("DISA_CACHE", str(cache / "disa"))

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the variables by which another process uses this hub and an own cache."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(cache / "hf"),
            "DISA_CACHE": str(cache / "disa"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


@contextmanager
def hub(root: Path) -> Iterator[Hub]:
    """Serve `root` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._serve(body=False)

        def do_GET(self) -> None:
            self._serve(body=True)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            served.asked.append(f"POST {path}")
            if path == "/api/repos/create":
                made = json.loads(data)
                name = "/".join(part for part in (made.get("organization"), made["name"]) if part)
                self._json({"url": f"{served.address}/{name}", "name": name, "id": "1"})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif path.endswith("/preupload/main"):
                files = json.loads(data)["files"]
                self._json(
                    {
                        "files": [
                            {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                            for f in files
                        ]
                    }
                )
            elif path.endswith("/commit/main"):
                repository = root / path.removeprefix("/api/").removesuffix("/commit/main")
                self._commit(repository, [json.loads(line) for line in data.splitlines()])
            else:
                self._json({"error": f"no {path}"}, 404)

        def _commit(self, repository: Path, lines: list[dict]) -> None:
            import base64

            for line in lines:
                if line["key"] == "file":
                    target = repository / line["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"{served.address}/{repository.relative_to(root / 'models')}/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

        def _serve(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            served.asked.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                self._json(
                    {
                        "id": path.removeprefix("/api/models/"),
                        "sha": COMMIT,
                        "siblings": [],
                        "private": False,
                    }
                )
                return
            name, _, file = path.lstrip("/").partition("/resolve/")
            repository = root / (name if name.startswith("spaces/") else f"models/{name}")
            target = repository / file.partition("/")[2]
            if not repository.is_dir():
                self._fail("RepoNotFound", 404)
            elif not target.is_file():
                self._fail("EntryNotFound", 404)
            else:
                data = target.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data)

        def _fail(self, code: str, status: int) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _json(self, data: object, status: int = 200) -> None:
            text = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Hub(root, f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()

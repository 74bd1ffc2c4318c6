"""A stand-in for the Hugging Face hub on loopback: as much of its protocol as publishing and loading an adapter take.

Repositories, pre-upload, LFS batches, commits, facts about models, files by revision, the check of a card's metadata.
Files end in memory; every request is kept.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml


@dataclass
class Repository:
    """A repository: its files by commit, the last commit, who may read it."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = "0" * 40

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the last commit."""
        return self.commits.get(self.head, {})

    def commit(self, files: dict[str, bytes]) -> str:
        """Add files to those of the last commit; return the new one's name."""
        tree = {**self.files, **files}
        self.head = hashlib.sha1(repr(sorted(tree.items())).encode() + self.head.encode()).hexdigest()
        self.commits[self.head] = tree
        return self.head


@dataclass
class Hub:
    """What the stand-in holds.

    Attributes:
        url: for ``HF_ENDPOINT``.
        repositories: by ``owner/name``.
        requests: method and path of each, in order.
        sizes: file name -> size that is claimed in place of the true one.
        token: that is asked of whoever changes something.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    token: str = "hf_stand_in"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the terminal quiet."""

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", self._path()):
            repository = self.hub.repositories.get(match[1])
            if repository is None:
                self._error(404, "RepoNotFound", "Repository Not Found")
                return
            siblings = [{"rfilename": name} for name in repository.files]
            facts = {"id": match[1], "private": repository.private, "sha": repository.head, "siblings": siblings}
            self._json(facts)
            return
        self._file(with_body=True)

    def do_PUT(self) -> None:
        content = self._body()
        self.hub.large[self._path().rpartition("/")[2]] = content
        self._json({})

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
            return
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._error(401, "", "Invalid credentials in Authorization header")
            return
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            self._json({"files": modes})
        elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            wanted = json.loads(body)["objects"]
            actions = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}} for one in wanted
            ]
            self._json({"transfer": "basic", "objects": actions})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(match[1], body)
        else:
            self._error(404, "", f"the stand-in knows no {path}")

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._json({"url": f"{self.hub.url}/{name}", "error": "You already created this model repo"}, 409)
            return
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[name] = Repository(private)
        self._json({"url": f"{self.hub.url}/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        files = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self.hub.large[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                assert len(content) == value["size"]
                files[value["path"]] = content
        commit = self.hub.repositories[name].commit(files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def _validate(self, card: str) -> None:
        """Refuse what the hub refuses: metadata that are no YAML, or have no known shape."""
        wrong = []
        try:
            found = yaml.safe_load(card.split("---\n")[1])
            for key in ("license", "library_name", "pipeline_tag"):
                if key in found and not isinstance(found[key], str):
                    wrong.append(f"{key} must be a string")
            for entry in found.get("model-index", []):
                for result in entry["results"]:
                    if not (result["task"]["type"] and result["dataset"]["name"] and result["dataset"]["type"]):
                        wrong.append("model-index: task and dataset must be named")
                    wrong += [
                        f"metric without {key}" for one in result["metrics"] for key in ("type", "value") - one.keys()
                    ]
        except (IndexError, KeyError, TypeError, yaml.YAMLError) as error:
            wrong.append(f"not readable: {error!r}")
        if wrong:
            self._json({"errors": wrong}, 400)
        else:
            self._json({"errors": [], "warnings": []})

    def _file(self, with_body: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._path())
        repository = self.hub.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            self._error(404, "RepoNotFound", "Repository Not Found")
            return
        commit = repository.head if match[2] == "main" else match[2]
        content = repository.commits.get(commit, {}).get(match[3])
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(self.hub.sizes.get(match[3], len(content))))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _path(self) -> str:
        if getattr(self, "_kept", None) is not self.requestline:
            self._kept = self.requestline
            self.hub.requests.append((self.command, self.path))
        return self.path.partition("?")[0]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _error(self, status: int, code: str, message: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-Error-Code": code, "X-Error-Message": message, **(more or {})}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """Serve an empty hub on loopback while the context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

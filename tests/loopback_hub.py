"""The hub's endpoints for writing and reading datasets, on the loopback interface, with faults on request."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.loopback import Fault

TOKEN = "hf_" + "loopbackSecret" * 2
SIGNATURE = "X-Amz-Signature=presignedSecret"
LOST = -2
"""``cut`` of a fault: the request is done, its answer never comes."""


@dataclass
class Repository:
    """Commits hold whole trees; a branch or tag is the id of one."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def tree(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        name = revision.removeprefix("refs/heads/")
        commit = self.refs.get(name) or self.tags.get(name) or name
        return (commit, self.commits[commit]) if commit in self.commits else None

    def put(self, branch: str, files: dict[str, bytes]) -> str:
        commit = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[commit] = files
        self.refs[branch] = commit
        return commit


class Hub(ThreadingHTTPServer):
    """``faults`` are met in turn by requests that match ``METHOD path``; ``before_commit`` runs once, before one."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[tuple[str, Fault]] = []
        self.asked: list[str] = []
        self.put_bytes = 0
        self.tokens = {TOKEN}
        self.before_commit: Callable[[], None] | None = None
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, request: str) -> Fault:
        with self.lock:
            self.asked.append(request)
            for number, (pattern, fault) in enumerate(self.faults):
                if re.search(pattern, request):
                    del self.faults[number]
                    return fault
        return Fault()

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, request) is not None for request in self.asked)


@contextmanager
def hub_serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    with Hub() as hub:
        Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.handle_request()

    def do_HEAD(self) -> None:
        self.handle_request()

    def do_POST(self) -> None:
        self.handle_request()

    def do_PUT(self) -> None:
        self.handle_request()

    def handle_request(self) -> None:
        self.where = unquote(urlsplit(self.path).path)
        fault = self.server.fault(f"{self.command} {self.where}")
        size = int(self.headers.get("Content-Length") or 0)
        if fault.cut >= 0 and self.command in ("PUT", "POST"):
            self.rfile.read(min(fault.cut, size))
            self.close_connection = True
            return None
        self.body = self.rfile.read(size)
        if fault.code:
            return self.send(fault.code, b"{}")
        self.met = fault
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        writes = (
            self.command in ("PUT", "POST") and "paths-info" not in self.where and not self.where.startswith("/lfs")
        )
        if (writes and token not in self.server.tokens) or (token and token not in self.server.tokens):
            return self.send(401, b'{"error": "Invalid credentials in Authorization header"}')
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {self.where}"):
                return method(self, *found.groups())
        return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if getattr(self, "met", Fault()).cut == LOST:
            self.close_connection = True
            return
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.met_download() and self.met.cut >= 0:
            body, self.close_connection = body[: self.met.cut], True
        self.wfile.write(body)

    def met_download(self) -> bool:
        return self.command == "GET" and hasattr(self, "met")

    def tell(self, value: Any, code: int = 200) -> None:
        self.send(code, json.dumps(value).encode())

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        exists = name in self.server.repositories
        if not exists:
            repository = Repository({}, {}, private=asked.get("visibility") == "private" or bool(asked.get("private")))
            repository.put("main", {".gitattributes": b"*.parquet filter=lfs\n"})
            self.server.repositories[name] = repository
        self.tell({"url": f"{self.server.url}/datasets/{name}"}, 409 if exists else 200)

    def tree_of(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.server.repositories.get(name)
        found = repository.tree(revision) if repository else None
        if found is None:
            code = "RevisionNotFound" if repository else "RepoNotFound"
            self.send(404, b"{}", {"X-Error-Code": code})
        return found

    def info(self, name: str, revision: str | None) -> None:
        if found := self.tree_of(name, revision or "main"):
            commit, files = found
            siblings = [{"rfilename": path, "size": len(data)} for path, data in sorted(files.items())]
            self.tell({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def refs(self, name: str) -> None:
        repository = self.server.repositories[name]
        self.tell(
            {
                "branches": [_ref("heads", one, commit) for one, commit in repository.refs.items()],
                "tags": [_ref("tags", one, commit) for one, commit in repository.tags.items()],
                "converts": [],
            }
        )

    def branch(self, name: str, branch: str) -> None:
        repository = self.server.repositories[name]
        exists = branch in repository.refs
        repository.refs.setdefault(branch, repository.refs["main"])
        self.tell({}, 409 if exists else 200)

    def tag(self, name: str, revision: str) -> None:
        repository, tag = self.server.repositories[name], json.loads(self.body)["tag"]
        exists = tag in repository.tags
        repository.tags.setdefault(tag, revision)
        self.tell({}, 409 if exists else 200)

    def tree(self, name: str, revision: str, folder: str | None) -> None:
        if found := self.tree_of(name, revision):
            inside = f"{folder}/" if folder else ""
            self.tell(_entries(found[1], inside, "recursive=true" in self.path.lower()))

    def paths_info(self, name: str, revision: str) -> None:
        if found := self.tree_of(name, revision):
            if self.headers["Content-Type"].startswith("application/json"):
                paths = json.loads(self.body)["paths"]
            else:
                pairs = (pair.split("=") for pair in self.body.decode().split("&"))
                paths = [unquote(value.replace("+", " ")) for key, value in pairs if key == "paths"]
            every = {entry["path"]: entry for entry in _entries(found[1], "", True)}
            self.tell([every[path] for path in paths if path in every])

    def preupload(self, name: str, revision: str) -> None:
        if found := self.tree_of(name, revision):
            files = []
            for one in json.loads(self.body)["files"]:
                large = one["path"].endswith(".parquet") or one["size"] > 5_000
                old = found[1].get(one["path"])
                oid = None if old is None else hashlib.sha256(old).hexdigest() if large else _git(old)
                mode = "lfs" if large else "regular"
                files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self.tell({"files": files})

    def lfs_batch(self, name: str) -> None:
        objects = json.loads(self.body)["objects"]
        for one in objects:
            if one["oid"] not in self.server.objects:
                one["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}?{SIGNATURE}"}}
        self.tell({"objects": objects, "transfer": "basic"})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.send(400, b"wrong bytes")
        self.server.objects[oid] = self.body
        self.server.put_bytes += len(self.body)
        return self.send(200, b"")

    def commit(self, name: str, branch: str) -> None:
        if hook := self.server.before_commit:
            self.server.before_commit = None
            hook()
        repository = self.server.repositories[name]
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.server.lock:
            head = repository.refs[branch]
            if lines[0]["value"].get("parentCommit", head) != head:
                return self.send(412, b'{"error": "A commit has happened since. Please refresh and try again."}')
            files = dict(repository.commits[head])
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
                else:
                    del files[value["path"]]
            commit = repository.put(branch, files)
        return self.tell({"commitUrl": f"{self.server.url}/datasets/{name}/commit/{commit}", "commitOid": commit})

    def yaml(self) -> None:
        self.tell({"errors": [], "warnings": []})

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.tree_of(name, revision)
        if found is None:
            return None
        commit, files = found
        if path not in files:
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data = files[path]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        code = 200
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
            data, code = data[start : stop + 1], 206
        if self.command == "GET" and self.met.flip:
            data = bytes(byte ^ 1 for byte in data[: self.met.flip]) + data[self.met.flip :]
        return self.send(code, data, headers)

    def log_message(self, *_: object) -> None:
        pass


def _ref(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entries(files: dict[str, bytes], inside: str, recursive: bool) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for path, data in sorted(files.items()):
        if not path.startswith(inside):
            continue
        parts = path.removeprefix(inside).split("/")
        for depth in range(1, len(parts)):
            if recursive or depth == 1:
                folder = inside + "/".join(parts[:depth])
                entries.setdefault(
                    folder, {"type": "directory", "path": folder, "oid": _git(folder.encode()), "size": 0}
                )
        if recursive or len(parts) == 1:
            entries[path] = {"type": "file", "path": path, "oid": _git(data), "size": len(data)}
    return list(entries.values())


_NAME = r"/api/datasets/([^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.yaml),
    (rf"GET {_NAME}(?:/revision/([^/]+(?:/[^/]+)*))?", Handler.info),
    (rf"GET {_NAME}/refs", Handler.refs),
    (rf"POST {_NAME}/branch/(.+)", Handler.branch),
    (rf"POST {_NAME}/tag/(.+)", Handler.tag),
    (rf"GET {_NAME}/tree/([^/]+)(?:/(.+))?", Handler.tree),
    (rf"POST {_NAME}/paths-info/(.+)", Handler.paths_info),
    (rf"POST {_NAME}/preupload/(.+)", Handler.preupload),
    (rf"POST {_NAME}/commit/(.+)", Handler.commit),
    (r"POST /datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (r"PUT /lfs/([0-9a-f]{64})", Handler.lfs_put),
    (r"(?:GET|HEAD) /datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", Handler.resolve),
]

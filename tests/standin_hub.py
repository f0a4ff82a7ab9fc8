"""A stand-in of the Hugging Face hub on this machine: the four answers that a download needs.

    GET  /api/models/NAME/revision/REVISION    what the revision is: its commit
    GET  /api/models/NAME/tree/COMMIT          the files of the commit
    HEAD /NAME/resolve/COMMIT/FILE             size, hash and commit of a file
    GET  /NAME/resolve/COMMIT/FILE             the file

Whatever else is asked for is answered with 404; every request is kept in `requests`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StandinHub:
    """What the hub holds, and how it misbehaves."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)  # name: path: content
    gated: set[str] = field(default_factory=set)  # names that ask for a token
    broken: set[str] = field(default_factory=set)  # names that are answered with status 500
    cut_after: dict[str, int] = field(default_factory=dict)  # path: bytes sent, then hung up (once)
    stalled: dict[str, int] = field(default_factory=dict)  # path: bytes sent, then silence
    swapped: dict[str, bytes] = field(default_factory=dict)  # path: other content than announced
    requests: list[str] = field(default_factory=list)  # "GET /path", in the order of arrival
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)  # ends the silence

    @property
    def files_sent(self) -> set[str]:
        """Return the paths of the files that were asked for with GET."""
        sent = [request for request in self.requests if "GET /" in request]
        return {
            path.split("/resolve/")[1].partition("/")[2] for path in sent if "/resolve/" in path
        }

    def commit(self, name: str) -> str:
        """Return the commit of a repository: it follows from the content."""
        digest = hashlib.sha1(name.encode(), usedforsecurity=False)
        for path, content in sorted(self.repositories[name].items()):
            digest.update(path.encode() + b"\0" + content)
        return digest.hexdigest()


@contextlib.contextmanager
def serving(hub: StandinHub) -> Iterator[StandinHub]:
    """Serve `hub` on a free port of this machine; sets its `url`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: StandinHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client was killed or went away
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            self.hub.requests.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                self.describe(path.removeprefix("/api/models/"))
            elif "/resolve/" in path:
                self.send_file(path.removeprefix("/"))
            else:
                self.refuse(404, "")

    def describe(self, path: str) -> None:
        if "/revision/" in path:
            name, revision = path.split("/revision/")
            if self.may_see(name, revision):
                self.send_json({"id": name, "sha": self.hub.commit(name), "siblings": []})
        else:
            name, _, commit = path.partition("/tree/")
            if self.may_see(name, commit):
                files = self.hub.repositories[name].items()
                self.send_json(
                    [
                        {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                        for path, content in files
                    ]
                )

    def may_see(self, name: str, revision: str) -> bool:
        if name in self.hub.broken:
            self.refuse(500, "")
        elif name in self.hub.gated and "Authorization" not in self.headers:
            self.refuse(401, "GatedRepo")
        elif name not in self.hub.repositories:
            self.refuse(
                401, "RepoNotFound"
            )  # as the real one does, to tell nothing of private ones
        elif revision not in {"main", "v1", self.hub.commit(name)}:
            self.refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def send_file(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        commit, _, file = rest.partition("/")
        if not self.may_see(name, commit):
            return
        if file not in self.hub.repositories[name]:
            self.refuse(404, "EntryNotFound")
            return
        content = self.hub.repositories[name][file]
        etag = f'"{_oid(content)}"'
        if self.command == "GET":
            content = self.hub.swapped.get(file, content)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", self.hub.commit(name))
        self.end_headers()
        if self.command == "GET":
            self.send_content(file, content)

    def send_content(self, file: str, content: bytes) -> None:
        for bounds in (self.hub.cut_after, self.hub.stalled):
            if file in bounds:
                self.wfile.write(content[: bounds[file]])
                self.wfile.flush()
                self.close_connection = True
                if bounds is self.hub.stalled:
                    self.hub.released.wait(60)
                else:
                    del bounds[file]
                return
        self.wfile.write(content)

    def send_json(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the test reads `requests`."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()

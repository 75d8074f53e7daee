"""A small Hugging Face Hub on this machine: what huggingface_hub asks for when it downloads.

Repositories are listed with sizes and checksums, LFS files are redirected to another host name
(as the real Hub does with its CDN), ranges are honoured, and faults can be switched on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_good"
_LFS_FROM = 200  # bytes; larger files count as LFS files


@dataclass
class Seen:
    """One request: method, path, the value of Range, the token it carried, the host it named."""

    method: str
    path: str
    range: str | None
    token: str | None
    host: str


@dataclass
class FakeHub:
    """Contents and faults; change them between downloads.

    Attributes:
        repos: repository -> path -> content.
        gated: repositories that want a token.
        corrupt: paths whose content arrives with a bit flipped.
        broken: path -> bytes after which the connection is cut, each time.
        status: repository -> status its listing is refused with.
        ignore_range: answer a range request with the whole file.
        seen: every request.
    """

    port: int
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ignore_range: bool = False
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def got(self, path: str) -> list[Seen]:
        """Requests for the bytes of a file, redirects not counted."""
        return [
            s
            for s in self.seen
            if s.method == "GET" and s.path.endswith(path) and "/cdn/" in s.path
        ]

    def listing(self, repo: str) -> dict:
        entries = []
        for path, data in self.repos[repo].items():
            entry = {"rfilename": path, "size": len(data)}
            if len(data) > _LFS_FROM:
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entries.append(entry)
        return {"_id": "1", "id": repo, "modelId": repo, "sha": REVISION, "siblings": entries}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: 40 ms each otherwise
    hub: FakeHub

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        self.hub.seen.append(
            Seen(self.command, path, self.headers["Range"], token, self.headers["Host"] or "")
        )
        if path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/"), token)
        elif "/resolve/" in path:
            repo, _, rest = path[1:].partition("/resolve/")
            self._resolve(repo, *rest.split("/", 1), token)
        elif path.startswith("/cdn/"):
            owner, name, inner = path.removeprefix("/cdn/").split("/", 2)
            self._send(f"{owner}/{name}", inner)
        else:
            self._error(404, "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _list(self, repo: str, token: str | None) -> None:
        if repo in self.hub.status:
            self._error(self.hub.status[repo], None)
        elif repo not in self.hub.repos:
            self._error(401 if token is None else 404, "RepoNotFound")
        else:
            self._reply(200, json.dumps(self.hub.listing(repo)).encode(), {})

    def _resolve(self, repo: str, revision: str, path: str, token: str | None) -> None:
        if repo in self.hub.gated and token != TOKEN:
            self._error(401 if token is None else 403, "GatedRepo")
        elif revision != REVISION:
            self._error(404, "RevisionNotFound")
        elif path not in self.hub.repos.get(repo, {}):
            self._error(404, "EntryNotFound")
        else:
            data = self.hub.repos[repo][path]
            headers = {
                "Location": f"http://localhost:{self.hub.port}/cdn/{repo}/{path}?signature=1",
                "X-Repo-Commit": REVISION,
                "X-Linked-Size": str(len(data)),
                "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            }
            self._reply(302, b"", headers)

    def _send(self, repo: str, path: str) -> None:
        data = self.hub.repos[repo][path]
        if path in self.hub.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        status, headers = 200, {"ETag": '"x"', "Accept-Ranges": "bytes"}
        wanted = self.headers["Range"]
        if wanted and not self.hub.ignore_range:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, data = 206, data[start:]
        self._reply(status, data, headers, self.hub.broken.get(path))

    def _error(self, status: int, code: str | None) -> None:
        self._reply(status, b"{}", {"X-Error-Code": code} if code else {})

    def _reply(
        self, status: int, data: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub on a free port; stopped at the end."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.hub = FakeHub(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

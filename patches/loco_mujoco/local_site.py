"""A local web site of data sets, with the faults of real ones, for probes and tests."""

import contextlib
import hashlib
import io
import json
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


def zipped(members):
    """Return the bytes of a zip file. members: {name: bytes}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@contextlib.contextmanager
def local_site(files, *, cuts=(), ranges=True, refuses=None, checksums=None, status=None):
    """Serve files, {name: bytes}, as Zenodo does; yields an object with `url` and `requests`, [(path, headers)].

    cuts: bytes after which the first, second, ... transfer of a file breaks off. ranges: True where parts of files can be
    requested. refuses: beginnings of user agents that get 403. checksums: false ones to declare, {name: checksum}. status: an
    HTTP error to answer with in place of the files.
    """
    cuts = list(cuts)
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            if refuses and self.headers["User-Agent"].startswith(refuses):
                self.send_error(403)
            elif self.path.startswith("/api/records/"):
                self._answer(json.dumps({"files": [self._entry(name) for name in files]}).encode(), 200)
            elif status:
                self.send_error(status)
            else:
                self._file(files.get(self.path.split("?")[0].split("/")[-1]))

        def _entry(self, name):
            true = "md5:" + hashlib.md5(files[name]).hexdigest()
            return {"key": name, "size": len(files[name]), "checksum": (checksums or {}).get(name, true)}

        def _file(self, content):
            if content is None:
                self.send_error(404)
                return
            asked = self.headers["Range"] if ranges else None
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            cut = cuts.pop(0) if cuts else None
            self._answer(content[start:], 206 if asked else 200, cut)

        def _answer(self, body, code, cut=None):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])

        def log_message(self, *arguments):
            pass

    # A proxy would not find this machine.
    direct = mock.patch.dict(os.environ, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = seen
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        with direct:
            yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

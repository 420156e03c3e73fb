"""Serving the folder of a page: the files that lie in it, and nothing else of the machine."""

import http.server
import os
import re
import shutil
import socket
import stat
import urllib.parse
from pathlib import Path

from auxzoo.checks import is_whole
from auxzoo.errors import UserError

LOCAL = "127.0.0.1"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Pictures stay where they are: the page can reach nothing but this server.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
# Both together let a page have several threads, where its address is this machine's own; elsewhere plain HTTP has one,
# and a browser complains of them. (`adb reverse` gives a phone on a cable such an address.)
_HEADERS_HERE = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_SECONDS = 30  # a client that says nothing for so long is let go


class PageServer(http.server.ThreadingHTTPServer):
    """Serves the regular files that lie in a folder itself: no folders in it, no links, no listing.

    Args:
        folder: `str` or `Path`.
        host: address to listen on; that of this machine alone by default.
        port: 0 to 65535; 0 takes a free one.

    Raises:
        UserError: if the address cannot be listened on.

    Example:
        >>> with PageServer("flowers_page", port=8000) as server:
        ...     server.serve_forever()
    """

    daemon_threads = True

    def __init__(self, folder, host=LOCAL, port=0):
        self.folder = Path(folder)
        if not (is_whole(port) and 0 <= port <= 65535):
            raise UserError(f"`port` must be 0 to 65535. Received: {port!r}")
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"`--host` and port cannot be listened on: {reason}. Received: {host} {port}") from None

    @property
    def address(self):
        """The page's address, for people; of a server on all addresses that by which the network knows this machine."""
        host, port = self.server_address[:2]
        if host in ("0.0.0.0", "::"):
            host = _address_in_network(self.address_family) or host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def open_page_file(self, name):
        """Returns an open file of the folder, or `None` if there is no regular file of that name in it."""
        if not name or name.startswith(".") or name != os.path.basename(name) or "\0" in name or "\\" in name:
            return None
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return os.fdopen(descriptor, "rb")

    def handle_error(self, request, client_address):
        """Says nothing of a client that went away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _SECONDS
    server_version, sys_version = "auxzoo", ""

    def do_GET(self):
        self._serve(with_content=True)

    def do_HEAD(self):
        self._serve(with_content=False)

    def _serve(self, with_content):
        path = urllib.parse.unquote(self.path.partition("?")[0].partition("#")[0])
        name = "index.html" if path == "/" else path.removeprefix("/")
        # Only what the page is made of: a type that is not in the table was put there by somebody else.
        kind = _TYPES.get(Path(name).suffix)
        file = self.server.open_page_file(name) if path.startswith("/") and kind else None
        if file is None:
            self.send_error(404)
            return
        with file:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            if with_content:
                shutil.copyfileobj(file, self.wfile)

    def end_headers(self):
        host = self.headers.get("Host", "") if getattr(self, "headers", None) else ""
        for name, value in {**_HEADERS, **(_HEADERS_HERE if _HERE.fullmatch(host) else {})}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        """Says nothing: a page asks for many files."""


def _address_in_network(family):
    """Returns the address by which the network knows this machine, or `None` without a network."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent; the system only chooses the address that it would send from.
            probe.connect(("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]

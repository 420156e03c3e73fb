"""What a page's server gives out: the files of its folder, and nothing else whatever is asked."""

import http.client
import os
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auxzoo.errors import UserError
from auxzoo.export.page_server import LOCAL, PageServer

SECRET = b"the secret outside"
FILES = {
    "index.html": (b"<p>page</p>", "text/html; charset=utf-8"),
    "page.js": (b"start()", "text/javascript; charset=utf-8"),
    "runtime.mjs": (b"export {}", "text/javascript; charset=utf-8"),
    "runtime.wasm": (b"\0asm", "application/wasm"),
    "network.json": (b"{}", "application/json; charset=utf-8"),
    "network.onnx": (bytes(range(256)) * 400, "application/octet-stream"),
    "style.css": (b"", "text/css; charset=utf-8"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    outside = tmp_path_factory.mktemp("served")
    folder = outside / "page"
    folder.mkdir()
    for name, (content, _) in FILES.items():
        (folder / name).write_bytes(content)
    (outside / "secret.json").write_bytes(SECRET)
    (folder / "inner").mkdir()
    (folder / "inner" / "inner.json").write_bytes(SECRET)
    (folder / ".hidden.json").write_bytes(SECRET)
    (folder / "notes.txt").write_bytes(SECRET)
    (folder / "link.json").symlink_to(outside / "secret.json")
    (folder / "folder.json").mkdir()
    (folder / "folder_link").symlink_to(outside)
    os.mkfifo(folder / "pipe.json")
    with PageServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, request):
    """Returns everything that the server sends for raw bytes."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


class TestFiles:
    @pytest.mark.parametrize("name", FILES)
    def test_are_served_with_their_type_and_never_cached(self, server, name):
        connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
        connection.request("GET", f"/{name}?version=1")
        response = connection.getresponse()
        assert (response.status, response.read(), response.headers["Content-Type"]) == (200, *FILES[name])
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]

    def test_several_threads_are_asked_for_on_this_machine_alone(self, server):
        for host, expected in ((b"localhost:80", True), (b"[::1]", True), (b"192.0.2.1:80", False), (b"", False)):
            received = ask(server, b"GET / HTTP/1.0\r\nHost: " + host + b"\r\n\r\n")
            assert (b"Cross-Origin-Opener-Policy: same-origin" in received) == expected

    def test_the_root_is_the_page(self, server):
        assert ask(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"<p>page</p>")

    def test_head_sends_no_content(self, server):
        received = ask(server, b"HEAD /network.onnx HTTP/1.0\r\n\r\n")
        assert b"Content-Length: 102400" in received
        assert received.endswith(b"\r\n\r\n")


class TestNothingElse:
    @pytest.mark.parametrize(
        "path",
        [
            *("/../secret.json", "/%2e%2e/secret.json", "/..%2fsecret.json", "/..%2Fsecret.json", "../secret.json"),
            *(
                "//secret.json",
                "/./../secret.json",
                "/inner/../../secret.json",
                "/..\\secret.json",
                "/..%5csecret.json",
            ),
            *(
                "/%252e%252e/secret.json",
                "/....//secret.json",
                "/folder_link/secret.json",
                "/folder_link%2fsecret.json",
            ),
            *("/inner/inner.json", "/inner", "/inner/", "/folder.json", "/link.json", "/.hidden.json", "/notes.txt"),
            *("/pipe.json", "/index.html%00.json", "/%00", "/gone.json", "/page.js/", "/page.js/../../secret.json"),
            *("http://other/../secret.json", "/" + "a" * 5000 + ".json", "/%ff%fe.json", "/secret.json", "*", "/%"),
        ],
    )
    def test_is_served(self, server, path):
        received = ask(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert received.split()[1] == b"404"
        assert SECRET not in received

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get"])
    def test_no_other_method_is_known(self, server, method):
        assert ask(server, f"{method} /page.js HTTP/1.0\r\n\r\n".encode()).split()[1] == b"501"

    @settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.sampled_from(
                ["/", "..", ".", "%2e", "%2f", "%5c", "\\", "secret.json", "inner", "folder_link", "%", "\0"]
            ),
            max_size=8,
        ).map("".join)
        | st.text(max_size=30)
    )
    def test_whatever_is_asked(self, server, path):
        received = ask(server, b"GET /" + path.encode("utf-8", "surrogatepass") + b" HTTP/1.0\r\n\r\n")
        assert SECRET not in received
        if received.startswith(b"HTTP/1.0 200"):
            assert any(received.endswith(content) for content, _ in FILES.values())

    @pytest.mark.parametrize(
        "request_", [b"", b"\r\n", b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 70000]
    )
    def test_what_is_no_request_does_not_stop_the_server(self, server, request_):
        assert SECRET not in ask(server, request_)
        assert ask(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"<p>page</p>")


class TestAddresses:
    def test_this_machine_alone_by_default(self, server):
        assert server.server_address[0] == LOCAL
        assert server.address == f"http://127.0.0.1:{server.server_address[1]}/"

    def test_a_taken_port_is_told(self, server):
        with pytest.raises(UserError, match=r"cannot be listened on: Address already in use"):
            PageServer(server.folder, port=server.server_address[1])

    @pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("no such host", 0), ("a" * 300, 0)])
    def test_an_address_of_another_machine_is_told(self, server, host, port):
        with pytest.raises(UserError, match=r"cannot be listened on: "):
            PageServer(server.folder, host, port)

    @pytest.mark.parametrize("port", [-1, 65536, "80", True])
    def test_ports(self, server, port):
        with pytest.raises(UserError, match="`port` must be 0 to 65535"):
            PageServer(server.folder, port=port)

    def test_all_addresses_are_told_by_one_that_others_reach(self, server):
        with PageServer(server.folder, "0.0.0.0") as open_server:
            assert not open_server.address.startswith("http://0.0.0.0")

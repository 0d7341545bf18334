"""Fetching files: cache, mirror, and a server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import http.server
import logging
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time

import pytest

from dlcli.data import download
from dlcli.data.download import fetch
from dlcli.data.sources import SOURCES, RemoteFile
from dlcli.errors import DataError, ResourceError

CONTENT = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path. ``server.requests`` lists the paths that were asked for."""

    def do_GET(self):
        self.server.requests.append(self.path)
        kind = self.path.strip("/")
        if kind.isdigit():
            self.send_error(int(kind))
        elif kind == "flaky" and len(self.server.requests) < 3:
            self.send_error(503)
        elif kind.startswith("redirect"):
            self.send_response(302)
            self.send_header("Location", self.server.target)
            self.end_headers()
        elif kind == "refuse-late":
            self.answer(CONTENT[:5000], len(CONTENT))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif kind.startswith("reset-at-"):  # until the third request
            sent = int(kind.removeprefix("reset-at-")) if len(self.server.requests) < 3 else len(CONTENT)
            self.answer(CONTENT[:sent], len(CONTENT))
            if sent < len(CONTENT):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        elif kind == "truncated":
            self.answer(CONTENT[:5000], len(CONTENT))
        elif kind == "short":
            self.answer(CONTENT[:5000], 5000)
        elif kind == "long":
            self.answer(CONTENT + b"more", len(CONTENT) + 4)
        elif kind == "wrong":
            self.answer(CONTENT[::-1], len(CONTENT))
        elif kind == "drip":
            self.send_response(200)
            self.end_headers()
            try:
                for index in range(1000):
                    self.wfile.write(CONTENT[index : index + 1])
                    time.sleep(0.02)
            except OSError:
                pass
        elif kind == "slow":
            time.sleep(0.5)
            self.answer(CONTENT, len(CONTENT))
        else:
            self.answer(CONTENT, len(CONTENT))

    def answer(self, body, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Says nothing about clients that hang up."""

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        running.target = ""
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DLCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DLCLI_DATA_MIRROR", raising=False)
    monkeypatch.setattr(download, "BACK_OFF", 0.01)
    return tmp_path


def remote(server, *kinds, content=CONTENT):
    addresses = tuple(f"http://127.0.0.1:{server.server_address[1]}/{kind}" for kind in kinds)
    return RemoteFile("set/file.bin", hashlib.sha256(content).hexdigest(), len(content), addresses)


def left_over(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_download_lands_in_the_cache_and_is_not_repeated(server, folders):
    file = remote(server, "good")
    path, source = fetch(file)
    assert path == folders / "cache" / "data" / "set" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert source == "upstream"
    assert fetch(file) == (path, "upstream")
    assert server.requests == ["/good"]
    assert left_over(folders) == ["file.bin"]


@pytest.mark.parametrize(
    ("kind", "reason", "tries"),
    [
        ("404", "404 Not Found", 1),
        ("500", "500 Internal Server Error", 3),
        ("429", "429 Too Many Requests", 3),
        ("truncated", r"(broke off|ended) after 5,000 of 102,400 bytes", 3),
        ("refuse-late", r"(broke off|ended) after [\d,]+ of 102,400 bytes", 3),
        ("short", "ended after 5,000 of 102,400 bytes", 3),
        ("long", "longer than the expected 102,400 bytes", 3),
        ("wrong", "wrong checksum", 3),
    ],
)
def test_failures_are_tried_again_and_named(server, folders, kind, reason, tries):
    file = remote(server, kind)
    with pytest.raises(DataError, match=rf"127.0.0.1: {reason}") as caught:
        fetch(file)
    message = str(caught.value)
    assert "\n" not in message
    assert "set/file.bin cannot be downloaded" in message
    assert "DLCLI_DATA_MIRROR" in message
    assert file.sha256 in message
    assert len(server.requests) == tries
    assert left_over(folders) == []


def test_a_later_try_succeeds(server):
    assert fetch(remote(server, "flaky"))[0].read_bytes() == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("sent", [0, 1, 255, 4096, 8191, 32_768, 65_535, 65_536, 65_537, len(CONTENT) - 1])
def test_a_reset_at_any_point_is_survived(server, folders, sent):
    path, _ = fetch(remote(server, f"reset-at-{sent}"))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 3
    assert left_over(folders) == ["file.bin"]


def test_a_later_address_succeeds(server):
    assert fetch(remote(server, "404", "wrong", "good"))[0].read_bytes() == CONTENT
    assert server.requests == ["/404", "/wrong", "/wrong", "/wrong", "/good"]


def test_a_transfer_that_stalls_is_given_up(server, folders, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(DataError, match=r"stalled after \d+ of 102,400 bytes"):
        fetch(remote(server, "drip"))
    with pytest.raises(DataError, match=r"no answer|broke off after 0 of"):
        fetch(remote(server, "slow"))
    assert left_over(folders) == []


def test_nobody_listens():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    file = RemoteFile("set/file.bin", "0" * 64, 10, (f"http://127.0.0.1:{port}/good",))
    with pytest.raises(DataError, match=r"127.0.0.1: connection refused"):
        fetch(file)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "http://example.org/file.bin", "ftp://example.org/x"])
def test_redirects_away_from_https_are_refused(server, target):
    server.target = target
    with pytest.raises(DataError, match="is not https"):
        fetch(remote(server, "redirect"))
    assert len(server.requests) == 1


def test_redirects_are_followed(server):
    server.target = f"http://127.0.0.1:{server.server_address[1]}/good"
    assert fetch(remote(server, "redirect"))[0].read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["http://example.org/x", "file:///etc/hostname"])
def test_addresses_must_be_https(address):
    with pytest.raises(DataError, match="is not https"):
        fetch(RemoteFile("set/file.bin", "0" * 64, 10, (address,)))


def test_a_mirror_is_used_in_place(server, folders, monkeypatch):
    mirrored = folders / "mirror of ours é" / "set" / "file.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(CONTENT)
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(folders / "mirror of ours é"))
    assert fetch(remote(server, "good")) == (mirrored, "mirror")
    assert server.requests == []
    assert not (folders / "cache").exists()


def test_a_damaged_mirror_is_passed_over(server, folders, monkeypatch, caplog):
    (folders / "mirror" / "set").mkdir(parents=True)
    (folders / "mirror" / "set" / "file.bin").write_bytes(b"damaged")
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(folders / "mirror"))
    with caplog.at_level(logging.WARNING, "dlcli"):
        assert fetch(remote(server, "good"))[1] == "upstream"
    assert "ignored (SHA-256" in caplog.text


def test_a_damaged_cache_is_said_and_fetched_again(server, caplog):
    file = remote(server, "good")
    path, _ = fetch(file)
    path.write_bytes(CONTENT[:-1])
    with caplog.at_level(logging.WARNING, "dlcli"):
        assert fetch(file)[0].read_bytes() == CONTENT
    assert "damaged (SHA-256" in caplog.text
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_is_replaced(server, folders, monkeypatch, caplog):
    (folders / "file").write_text("no folder")
    monkeypatch.setenv("DLCLI_CACHE", str(folders / "file" / "cache"))
    monkeypatch.setattr(download.tempfile, "tempdir", str(folders))
    with caplog.at_level(logging.WARNING, "dlcli"):
        path, _ = fetch(remote(server, "good"))
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(folders)
    assert "cannot be written; downloads go to" in caplog.text
    assert fetch(remote(server, "good"))[0] == path
    assert len(server.requests) == 1


def test_a_cache_in_an_odd_place(server, folders, monkeypatch):
    odd = folders / ("ö " + "x" * 200) / "a b"
    monkeypatch.setenv("DLCLI_CACHE", str(odd))
    assert fetch(remote(server, "good"))[0].is_relative_to(odd)


def test_a_full_disk_is_a_resource_error(server, folders, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(ResourceError, match=r"set/file.bin: the disk is full \(102,400 bytes needed, [\d,]+ free"):
        fetch(remote(server, "good"))
    assert left_over(folders) == []


def test_a_place_that_cannot_hold_the_file(server, folders):
    (folders / "cache" / "data").mkdir(parents=True)
    (folders / "cache" / "data" / "set").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"set/file.bin: cannot be stored .*set DLCLI_CACHE"):
        fetch(remote(server, "good"))


def test_an_interrupt_leaves_no_file(server, folders, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(server, "good"))
    assert left_over(folders) == []


def _fetch_into(queue, file):
    queue.put(fetch(file)[0].read_bytes() == CONTENT)


def test_processes_at_once_download_once(server):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    file = remote(server, "slow")
    children = [context.Process(target=_fetch_into, args=(queue, file)) for _ in range(8)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [True] * 8
    for child in children:
        child.join()
    assert server.requests == ["/slow"]


def test_the_death_of_who_downloads_frees_the_others(server, folders):
    context = multiprocessing.get_context("fork")
    first = context.Process(target=_fetch_into, args=(context.Queue(), remote(server, "drip")))
    first.start()
    while not server.requests:
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert fetch(remote(server, "good"))[0].read_bytes() == CONTENT
    assert left_over(folders) == ["file.bin"]


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("DLCLI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder().is_relative_to(tmp_path)


def test_the_table_of_sources_is_sound():
    files = [file for dataset in SOURCES.values() for file in dataset.files]
    assert len({file.path for file in files}) == len(files) >= 219
    for file in files:
        assert len(file.sha256) == 64
        assert file.size > 0
        assert file.addresses or file.path.startswith(("cifar10-jpg/", "enron1/", "hotdog/"))  # nobody publishes them
        assert all(address.startswith("https://") and address.endswith(file.name) for address in file.addresses)
        assert not file.path.startswith("/")
        assert ".." not in file.path

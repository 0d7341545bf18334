"""Files of public data sets: from the cache, from a mirror folder, or from their publishers. Torch-free.

Environment:
    DLCLI_CACHE: the folder that keeps downloads (default: the user's cache folder).
    DLCLI_DATA_MIRROR: a folder laid out like the cache, for machines without a network. Its files are used in place.

No file is used before its SHA-256 was compared, and none appears under its final name before it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from dlcli.data.sources import SOURCES, RemoteFile
from dlcli.errors import ConfigError, DataError, ResourceError, suggestion
from dlcli.hyperparameters import PUBLISHED

log = logging.getLogger("dlcli")

TRIES = 3  # per address
BACK_OFF = 0.5  # seconds before the second try; doubles with each further one
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without STALL_BYTES more, a transfer is given up
STALL_BYTES = 4096
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def cache_folder() -> Path:
    """Where downloads are kept. The folder need not exist."""
    chosen = os.environ.get("DLCLI_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "data"
    import platformdirs

    return Path(platformdirs.user_cache_dir("dlcli")) / "data"


def mirror_folder() -> Path | None:
    """The folder that DLCLI_DATA_MIRROR names, if any."""
    chosen = os.environ.get("DLCLI_DATA_MIRROR")
    return Path(chosen).expanduser() if chosen else None


def sha256_of(file: Path) -> str | None:
    """The SHA-256 of a file in hex, or None if it is not there or cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def fetch(file: RemoteFile) -> tuple[Path, str]:
    """A verified copy of the file, and where it came from: "mirror" or "upstream".

    Raises:
        DataError: nothing that can be reached has the file with its checksum.
        ResourceError: the disk is full.
    """
    cached = cache_folder() / file.path
    found = sha256_of(cached)
    if found == file.sha256:
        return cached, "upstream"
    if found is not None:
        log.warning("%s: damaged (SHA-256 %s…, expected %s…); fetching it again", cached, found[:12], file.sha256[:12])
    mirror = mirror_folder()
    if mirror is not None:
        mirrored = mirror / file.path
        found = sha256_of(mirrored)
        if found == file.sha256:
            return mirrored, "mirror"
        if found is not None:
            log.warning("%s: ignored (SHA-256 %s…, expected %s…)", mirrored, found[:12], file.sha256[:12])
    return _download_once(file), "upstream"


def fetch_all(name: str) -> tuple[list[Path], str]:
    """Verified copies of every file of a data set of ``sources.SOURCES``, and where they came from."""
    paths, sources = zip(*[fetch(file) for file in SOURCES[name].files], strict=True)
    return list(paths), "upstream" if "upstream" in sources else "mirror"


def fetch_folder(name: str) -> tuple[Path, str]:
    """The folder that holds the verified files of a data set as ``sources.SOURCES`` lays them out, and their source.

    Raises:
        DataError: as ``fetch``; or some files are in the cache, and others in the mirror.
    """
    paths, source = fetch_all(name)
    tops = {path.parents[file.path.count("/")] for path, file in zip(paths, SOURCES[name].files, strict=True)}
    if len(tops) > 1:
        raise DataError(f"{name}: its files are spread over {' and '.join(sorted(map(str, tops)))}; put them into one")
    return tops.pop() / SOURCES[name].files[0].path.partition("/")[0], source


def located(path: str) -> tuple[Path, str]:
    """What a path option names, and its source: people's own file or folder, or a data set's, which is then fetched.

    Raises:
        DataError: as ``fetch_folder``. ConfigError: no such data set, or no such file of it.
    """
    if not path.startswith(PUBLISHED):
        return Path(path).expanduser(), "own file"
    name, _, file = path.removeprefix(PUBLISHED).partition("/")
    if name not in SOURCES:
        raise ConfigError(f"{path}: no published data '{name}'; {suggestion(name, SOURCES)}")
    if not file:
        return fetch_folder(name)
    files = {remote.name: remote for remote in SOURCES[name].files}
    if file not in files:
        raise ConfigError(f"{path}: data '{name}' have no such file; {suggestion(file, files)}")
    return fetch(files[file])


def _download_once(file: RemoteFile) -> Path:
    """Download into the cache; whoever else wants the file waits and finds it there."""
    from filelock import FileLock

    try:
        target = writable_cache() / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):  # the system frees it when its holder dies
            if sha256_of(target) == file.sha256:
                return target
            reasons = []
            for address in file.addresses:
                reason = _try_address(address, file, target)
                if reason is None:
                    return target
                reasons.append(f"{urlsplit(address).hostname}: {reason}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{file.path}: cannot be stored ({error.strerror}); set DLCLI_CACHE") from error
        free = shutil.disk_usage(target.parent).free
        raise ResourceError(
            f"{file.path}: the disk is full ({file.size:,} bytes needed, {free:,} free at {target.parent}); "
            "free some space or set DLCLI_CACHE"
        ) from None
    why = "; ".join(reasons) or "nobody publishes it in this form"
    raise DataError(
        f"{file.path} cannot be downloaded ({why}); set DLCLI_DATA_MIRROR to a folder that holds "
        f"{file.path} with SHA-256 {file.sha256}"
    )


def _try_address(address: str, file: RemoteFile, target: Path) -> str | None:
    """Download from one address, TRIES times if need be. Returns the reason of the failure, None if it worked."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    partial = target.with_name(f".{target.name}.partial")
    log.info("downloading %s (%s bytes) from %s", file.path, f"{file.size:,}", urlsplit(address).hostname)
    reason = ""
    try:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BACK_OFF * 2 ** (attempt - 1))
            shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
            try:
                received = pooch.retrieve(
                    address, f"sha256:{file.sha256}", target.name, partial, downloader=_Downloader(file.size)
                )
                os.replace(received, target)
                return None
            except _Refused as error:
                return str(error)  # asking again would not help
            except _Broken as error:
                reason = str(error)
            except requests.Timeout:
                reason = "no answer"
            except requests.RequestException as error:
                reason = _in_words(error)
            except ValueError:
                reason = "wrong checksum"
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return reason


class _Refused(Exception):
    """The server's answer is final."""


class _Broken(Exception):
    """The transfer broke off; another try may work."""


class _Downloader:
    """What pooch calls to transfer an address into a file: watches size, stalls and redirects."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, url: str, output_file: str | IO[bytes], pooch: Any) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        _check_address(url)
        response = requests.get(
            url,
            stream=True,
            timeout=(CONNECT_SECONDS, STALL_SECONDS),
            headers={"Accept-Encoding": "identity"},  # the checksum is that of the file as published
            hooks={"response": _check_redirect},
        )
        with response, open(output_file, "wb") as output:  # type: ignore[arg-type]
            if response.status_code >= 400:
                kind = _Broken if response.status_code >= 500 or response.status_code == 429 else _Refused
                raise kind(f"{response.status_code} {response.reason}")
            received, mark, mark_time = 0, 0, time.monotonic()
            try:
                while chunk := response.raw.read1(1 << 16):
                    output.write(chunk)
                    received += len(chunk)
                    if received > self.size:
                        raise _Broken(f"longer than the expected {self.size:,} bytes")
                    if received - mark >= STALL_BYTES:
                        mark, mark_time = received, time.monotonic()
                    elif time.monotonic() - mark_time > STALL_SECONDS:
                        raise _Broken(f"stalled after {received:,} of {self.size:,} bytes")
            except (HTTPError, ConnectionError):
                raise _Broken(f"broke off after {received:,} of {self.size:,} bytes") from None
            if received < self.size:
                raise _Broken(f"ended after {received:,} of {self.size:,} bytes")


def _check_redirect(response: Any, **_: Any) -> None:
    if response.is_redirect:
        _check_address(urljoin(response.url, response.headers["location"]))


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise _Refused(f"{parts.scheme}://{parts.hostname or ''} is not https")


def _in_words(error: Exception) -> str:
    text = str(error).lower()
    for sign, words in (
        ("refused", "connection refused"),
        ("resolve", "name not found"),
        ("certificate", "bad certificate"),
        ("reset", "connection reset"),
        ("aborted", "connection reset"),
        ("proxy", "the proxy refused"),
    ):
        if sign in text:
            return words
    return "no connection"


def writable_cache() -> Path:
    """The cache folder, or a folder of this user among the temporary files if the cache cannot be written."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
    spare = Path(tempfile.gettempdir()) / f"dlcli-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    spare.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and spare.lstat().st_uid != os.getuid():
        spare = Path(tempfile.mkdtemp(prefix="dlcli-"))
    log.warning("%s cannot be written; downloads go to %s (set DLCLI_CACHE to keep them)", folder, spare)
    return spare

"""Archives: what is plain is unpacked; what could hurt is refused, and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from dlcli.data.archives import Limits, extract, is_archive
from dlcli.errors import DataError

SMALL = Limits(files=20, bytes=10**8, ratio=10, free_bytes=1000)


def tar(path: Path, *members: tarfile.TarInfo, content: bytes = b"x", mode: str = "w:gz", **options) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for member in members:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def refused(archive: Path, message: str, limits: Limits | None = None) -> None:
    """The archive is refused in one line that names it, and nothing is left beside it."""
    place = archive.parent / "place" / "inner"
    before = {file for file in archive.parent.rglob("*") if file not in (place, place.parent)}
    with pytest.raises(DataError, match=message) as caught:
        extract(archive, place / "target", limits)
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    after = {file for file in archive.parent.rglob("*") if file not in (place, place.parent)}
    assert after == before
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_tar_archives_are_unpacked(tmp_path, mode):
    archive = tar(
        tmp_path / "a", member("top", tarfile.DIRTYPE), member("./top/b/c.txt"), member("top/empty.png"), mode=mode
    )
    assert is_archive(archive)
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/top/b/c.txt").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]


def test_zip_archives_are_unpacked(tmp_path):
    archive = zipped(tmp_path / "a.zip", cats__one=b"1" * 5000, dogs__two=b"")
    assert is_archive(archive)
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/cats/one").read_bytes() == b"1" * 5000
    assert (tmp_path / "out/dogs/two").read_bytes() == b""


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/tmp/evil",
        "//evil",
        "..\\evil",
        "C:/evil",
        "C:evil",
        "a/" + "n" * 300,
        "d/" * 1500 + "f",
    ],
)
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    refused(tar(tmp_path / "a.tar.gz", member(name)), "is not a plain relative path; the archive is refused")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    refused(tmp_path / "a.zip", "is not a plain relative path")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a special file"),
        (tarfile.BLKTYPE, "a special file"),
        (tarfile.FIFOTYPE, "a special file"),
    ],
)
@pytest.mark.parametrize("target", ["/etc/passwd", "inside.txt", ".."])
def test_links_and_devices_in_tar_are_refused(tmp_path, kind, words, target):
    archive = tar(tmp_path / "a.tar", member("inside.txt"), member("link", kind, target), mode="w")
    refused(archive, f"member 'link' is {words}; only files and folders are unpacked")


def test_writing_through_a_link_is_impossible(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar(tmp_path / "a.tar", member("d", tarfile.SYMTYPE, str(outside)), member("d/evil"), mode="w")
    refused(archive, "is a link")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(("kind", "words"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a special file")])
def test_links_and_devices_in_zip_are_refused(tmp_path, kind, words):
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", f"member 'link' is {words}")


@pytest.mark.parametrize(
    ("first", "second"), [("Cat/1", "cat/1"), ("cat/1", "CAT/2"), ("\u00e9", "e\u0301"), ("a", "a/b"), ("a", "a")]
)
def test_names_that_some_systems_confuse_are_refused(tmp_path, first, second):
    refused(tar(tmp_path / "a.tar.gz", member(first), member(second)), "clashes with|is there twice")


def test_a_folder_may_be_named_more_than_once(tmp_path):
    archive = tar(
        tmp_path / "a.tar", member("d", tarfile.DIRTYPE), member("d/1"), member("d/", tarfile.DIRTYPE), mode="w"
    )
    extract(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out/d") == ["1"]


def test_a_nul_in_a_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("abc.txt", "x")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"abc.txt", b"ab\0.txt"))
    refused(tmp_path / "a.zip", r"member 'ab\\x00.txt' is not a plain")
    info = member("x")
    info.pax_headers = {"path": "ab\0.txt"}
    refused(tar(tmp_path / "a.tar", info, mode="w", format=tarfile.PAX_FORMAT), r"member 'ab\\x00.txt' is not a plain")


def test_bombs_stop_at_the_limit(tmp_path):
    zeros = bytes(20_000_000)
    refused(zipped(tmp_path / "a.zip", one=zeros), "unpacks to more than 10,000,000 bytes; unpack it yourself")
    refused(tar(tmp_path / "a.tar.gz", member("one"), content=zeros), "unpacks to more than")
    refused(zipped(tmp_path / "b.zip", one=bytes(60_000)), "more than 1,6..? bytes|more than 1,... bytes", SMALL)
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(bytes(200_000_000), 9))  # nothing but the end of an archive
    extract(tmp_path / "c.tar.gz", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_name_of_many_megabytes_stops_at_the_limit(tmp_path):
    info = member("x")
    info.pax_headers = {"path": "n" * 60_000_000}
    refused(tar(tmp_path / "a.tar.gz", info, format=tarfile.PAX_FORMAT), "unpacks to more than|plain relative path")


def test_many_files_stop_at_the_limit(tmp_path):
    refused(zipped(tmp_path / "a.zip", **{f"f{i}": b"" for i in range(30)}), "more than 20 members", SMALL)
    refused(
        tar(tmp_path / "a.tar", *(member(f"f{i}", tarfile.DIRTYPE) for i in range(30)), mode="w"), "more than 20", SMALL
    )


def test_an_archive_within_an_archive_stays_packed(tmp_path):
    inner = tar(tmp_path / "inner.tar", member("../evil"), mode="w").read_bytes()
    (tmp_path / "inner.tar").unlink()
    extract(zipped(tmp_path / "a.zip", inner=inner), tmp_path / "out")
    assert (tmp_path / "out/inner").read_bytes() == inner


def test_an_encrypted_archive_is_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", secret=b"abc").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "member 'secret' is encrypted; only files and folders are unpacked")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a tar nor a zip archive"),
        (b"text, and more text", "neither a tar nor a zip archive"),
        (b"PK\x03\x04" + bytes(100), "damaged or incomplete"),
        (b"\x1f\x8b" + bytes(100), "damaged or incomplete"),
        (gzip.compress(b"no archive at all " * 100), "damaged or incomplete"),
        (b"\xfd7zXZ\x00" + bytes(100), "damaged or incomplete"),
    ],
    ids=["empty", "text", "zip", "gzip", "text in gzip", "xz"],
)
def test_what_is_no_archive_is_said(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path / "a", message)


def test_damage_anywhere_is_one_line(tmp_path):
    """Cuts and flipped bytes: unpacked or refused, nothing else."""
    for archive in (
        tar(tmp_path / "t.tar.gz", *(member(f"d/{i}") for i in range(20)), content=os.urandom(500)),
        zipped(tmp_path / "z.zip", **{f"d__{i}": os.urandom(500) for i in range(20)}),
    ):
        content = archive.read_bytes()
        for number in range(60):
            place = len(content) * number // 60
            damaged = (
                content[:place]
                if number % 2
                else content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :]
            )
            file = tmp_path / f"{archive.name}-{number}"
            file.write_bytes(damaged)
            try:
                extract(file, tmp_path / f"out-{archive.name}-{number}")
            except DataError as error:
                lines = str(error).splitlines()
                if len(lines) != 1:
                    pytest.fail(f"{file.name}: {lines}")

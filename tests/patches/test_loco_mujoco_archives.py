"""Archives are fetched whole, checked, and put in place only then: against a real server with real servers' faults."""

import random
import zipfile

import pytest

from patches.loco_mujoco import archives
from patches.loco_mujoco.archives import Archive, DownloadError
from patches.loco_mujoco.local_site import local_site, zipped

ARCHIVE = Archive("1", "walks.zip", "quadrupeds/real")
MEMBERS = {"walk.npz": random.Random(0).randbytes(200_000), "mini_datasets/walk.npz": b"small"}
CONTENT = zipped(MEMBERS)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(archives, "_WAIT", 0.0)


@pytest.fixture
def serve(monkeypatch):
    """A site that holds ARCHIVE, as `local_site` takes its faults, and is the one asked."""
    contexts = []

    def start(content=CONTENT, **faults):
        context = local_site({ARCHIVE.name: content}, **faults)
        server = context.__enter__()
        contexts.append(context)
        monkeypatch.setattr(archives, "SITE", server.url)
        return server

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


def files(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def installed(directory):
    """What lies where data sets are looked for."""
    return {name: content for name, content in files(directory).items() if not name.startswith(".incoming")}


EXPECTED = {f"{ARCHIVE.folder}/{name}": content for name, content in MEMBERS.items()}


def transfers(server):
    return [headers.get("Range") for path, headers in server.requests if "/files/" in path]


def test_contents_are_put_in_place_and_nothing_else_is_left(serve, tmp_path):
    serve()
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED
    assert not (tmp_path / ".incoming").exists()


def test_installing_again_replaces_what_is_there(serve, tmp_path):
    serve()
    archives.install([ARCHIVE], tmp_path)
    (tmp_path / ARCHIVE.folder / "walk.npz").write_bytes(b"damaged")
    (tmp_path / ARCHIVE.folder / "mine.npz").write_bytes(b"mine")
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED | {f"{ARCHIVE.folder}/mine.npz": b"mine"}


def test_transfer_that_breaks_off_goes_on_from_there(serve, tmp_path):
    server = serve(cuts=[3 * archives._PIECE, archives._PIECE + 1])
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED
    assert transfers(server) == [None, f"bytes={3 * archives._PIECE}-", f"bytes={4 * archives._PIECE}-"]


def test_server_without_ranges_is_asked_for_the_whole_again(serve, tmp_path):
    serve(cuts=[60_000, 50_000], ranges=False)
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


def test_transfer_that_brings_nothing_ends_and_goes_on_when_called_again(serve, tmp_path):
    came = archives._PIECE
    server = serve(cuts=[came] + [0] * archives._ATTEMPTS)
    with pytest.raises(DownloadError, match=f"{came} of {len(CONTENT)} bytes came.*run it again to go on from there"):
        archives.install([ARCHIVE], tmp_path)
    assert not installed(tmp_path)
    server.requests.clear()
    archives.install([ARCHIVE], tmp_path)
    assert transfers(server) == [f"bytes={came}-"]
    assert files(tmp_path) == EXPECTED


@pytest.mark.parametrize("left", [b"another file", b"x" * (len(CONTENT) + 1), b"x" * len(CONTENT)])
def test_what_another_download_left_is_never_installed(serve, tmp_path, left):
    serve()
    (tmp_path / ".incoming").mkdir()
    (tmp_path / ".incoming" / ARCHIVE.name).write_bytes(left)
    if len(left) <= len(CONTENT):
        with pytest.raises(DownloadError, match="checksum"):
            archives.install([ARCHIVE], tmp_path)
        assert files(tmp_path) == {}
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


def test_wrong_checksum_installs_nothing(serve, tmp_path):
    serve(checksums={ARCHIVE.name: "md5:" + "0" * 32})
    with pytest.raises(DownloadError, match="declares md5:0000"):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("checksum", ["", "none:1234", None])
def test_archive_without_a_checksum_is_not_downloaded(serve, tmp_path, checksum):
    server = serve(checksums={ARCHIVE.name: checksum})
    with pytest.raises(DownloadError, match="does not say the size and checksum"):
        archives.install([ARCHIVE], tmp_path)
    assert transfers(server) == []


def test_archive_that_the_record_does_not_hold_is_named(serve, tmp_path):
    serve()
    with pytest.raises(DownloadError, match="checksum of other.zip"):
        archives.install([Archive("1", "other.zip", "x")], tmp_path)


@pytest.mark.parametrize("name", ["../escaped.npz", "/escaped.npz", "a/../../escaped.npz", "..\\escaped.npz", "C:escaped.npz"])
def test_member_outside_of_the_folder_installs_nothing(serve, tmp_path, name):
    serve(zipped({"walk.npz": b"good", name: b"evil"}))
    with pytest.raises(DownloadError, match="outside of its folder"):
        archives.install([ARCHIVE], tmp_path / "sets")
    assert files(tmp_path) == {}


def test_link_installs_nothing(serve, tmp_path):
    link = zipfile.ZipInfo("link.npz")
    link.external_attr = 0o120777 << 16
    serve(zipped({"walk.npz": b"good", link: b"/etc/passwd"}))
    with pytest.raises(DownloadError, match="link.npz is a link"):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}


def test_damaged_member_installs_nothing(serve, tmp_path):
    content = bytearray(zipped({"a.npz": b"good", "walk.npz": bytes(range(256)) * 20}))
    content[content.index(b"walk.npz") + 60] ^= 0xFF
    serve(bytes(content))
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}


def test_something_that_is_no_zip_installs_nothing(serve, tmp_path):
    serve(b"<html>maintenance</html>")
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}


def test_server_that_is_not_there_is_named_in_one_line(serve, tmp_path, monkeypatch):
    with local_site({}) as server:
        gone = server.url
    monkeypatch.setattr(archives, "SITE", gone)
    with pytest.raises(DownloadError, match=f"{gone} does not answer.*check the network") as caught:
        archives.install([ARCHIVE], tmp_path)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("status", [404, 503])
def test_servers_error_is_named(serve, tmp_path, status):
    serve(status=status)
    with pytest.raises(DownloadError, match=str(status)):
        archives.install([ARCHIVE], tmp_path)
    assert not installed(tmp_path)


def test_server_that_refuses_pythons_user_agents_is_answered(serve, tmp_path):
    serve(refuses=("Python-urllib", "python-requests"))
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


def test_full_disk_is_noticed_before_the_download(serve, tmp_path, monkeypatch):
    server = serve()
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DownloadError, match="make room"):
        archives.install([ARCHIVE], tmp_path)
    assert transfers(server) == []

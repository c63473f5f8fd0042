"""Archives are fetched whole, checked, and put in place only then: from a local server with the faults of real ones."""

import contextlib
import random
import zipfile

import pytest

from patches.loco_mujoco import archives
from patches.loco_mujoco.archives import Archive, DownloadError
from patches.loco_mujoco.local_site import local_site, zipped

ARCHIVE = Archive("1", "walks.zip", "quadrupeds/real")
MEMBERS = {"walk.npz": random.Random(0).randbytes(200_000), "mini_datasets/walk.npz": b"small"}
CONTENT = zipped(MEMBERS)
EXPECTED = {f"{ARCHIVE.folder}/{name}": content for name, content in MEMBERS.items()}
PIECE = archives._PIECE


@pytest.fixture
def serve(monkeypatch):
    """serve(content, **faults): a site that holds ARCHIVE, with faults as `local_site` takes them; it is the one asked."""
    monkeypatch.setattr(archives, "_WAIT", 0.0)
    with contextlib.ExitStack() as sites:

        def start(content=CONTENT, **faults):
            server = sites.enter_context(local_site({ARCHIVE.name: content}, **faults))
            monkeypatch.setattr(archives, "SITE", server.url)
            return server

        yield start


def files(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def installed(directory):
    """Files where data sets are looked for."""
    return {name: content for name, content in files(directory).items() if not name.startswith(".incoming")}


def transfers(server):
    return [headers.get("Range") for path, headers in server.requests if "/files/" in path]


def test_contents_replace_what_is_there_and_nothing_else_changes(serve, tmp_path):
    serve()
    (tmp_path / ARCHIVE.folder).mkdir(parents=True)
    (tmp_path / ARCHIVE.folder / "walk.npz").write_bytes(b"damaged")
    (tmp_path / ARCHIVE.folder / "mine.npz").write_bytes(b"mine")
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED | {f"{ARCHIVE.folder}/mine.npz": b"mine"}
    assert not (tmp_path / ".incoming").exists()


def test_a_transfer_that_breaks_off_goes_on_from_there(serve, tmp_path):
    server = serve(cuts=[3 * PIECE, PIECE + 1])
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED
    assert transfers(server) == [None, f"bytes={3 * PIECE}-", f"bytes={4 * PIECE}-"]


def test_a_server_without_ranges_is_asked_for_the_whole_again(serve, tmp_path):
    serve(cuts=[60_000, 50_000], ranges=False)
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


def test_a_transfer_that_brings_nothing_ends_and_goes_on_when_called_again(serve, tmp_path):
    server = serve(cuts=[PIECE] + [0] * archives._ATTEMPTS)
    with pytest.raises(DownloadError, match=f"{PIECE} of {len(CONTENT)} bytes came.*run it again to go on from there"):
        archives.install([ARCHIVE], tmp_path)
    assert not installed(tmp_path)
    server.requests.clear()
    archives.install([ARCHIVE], tmp_path)
    assert transfers(server) == [f"bytes={PIECE}-"]
    assert files(tmp_path) == EXPECTED


def test_what_another_download_left_is_never_installed(serve, tmp_path):
    serve()
    left = tmp_path / ".incoming" / ARCHIVE.name
    left.parent.mkdir()
    left.write_bytes(b"another file")
    with pytest.raises(DownloadError, match="checksum"):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}
    left.parent.mkdir()
    left.write_bytes(b"x" * (len(CONTENT) + 1))
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


LINK = zipfile.ZipInfo("link.npz")
LINK.external_attr = 0o120777 << 16


def damaged():
    content = bytearray(zipped({"a.npz": b"good", "walk.npz": bytes(range(256)) * 20}))
    content[content.index(b"walk.npz") + 60] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"walk.npz": b"good", "a/../../escaped.npz": b"evil"}), "outside of its folder"),
        (zipped({"walk.npz": b"good", "/escaped.npz": b"evil"}), "outside of its folder"),
        (zipped({"walk.npz": b"good", "..\\escaped.npz": b"evil"}), "outside of its folder"),
        (zipped({"walk.npz": b"good", "C:escaped.npz": b"evil"}), "outside of its folder"),
        (zipped({"walk.npz": b"good", LINK: b"/etc/passwd"}), "link.npz is a link"),
        (damaged(), "cannot be unpacked"),
        (b"<html>maintenance</html>", "cannot be unpacked"),
    ],
)
def test_an_archive_that_is_harmful_or_damaged_installs_nothing(serve, tmp_path, content, message):
    serve(content)
    with pytest.raises(DownloadError, match=message):
        archives.install([ARCHIVE], tmp_path / "sets")
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("checksum", "message", "n_transfers"),
    [
        ("md5:" + "0" * 32, "declares md5:0000", 1),
        ("none:1234", "does not say the size and checksum of walks.zip", 0),
        (None, "does not say the size and checksum of walks.zip", 0),
    ],
)
def test_an_archive_without_its_checksum_installs_nothing(serve, tmp_path, checksum, message, n_transfers):
    server = serve(checksums={ARCHIVE.name: checksum})
    with pytest.raises(DownloadError, match=message):
        archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == {}
    assert len(transfers(server)) == n_transfers


def test_a_transfer_past_the_declared_size_is_broken_off(serve, tmp_path, monkeypatch):
    server = serve(b"x" * (100 * PIECE))
    declared = archives.declared
    monkeypatch.setattr(archives, "declared", lambda archive: (1000, declared(archive)[1]))
    sizes, digest = [], archives._digest
    monkeypatch.setattr(archives, "_digest", lambda path, checksum: sizes.append(path.stat().st_size) or digest(path, checksum))
    with pytest.raises(DownloadError, match="it was deleted"):
        archives.install([ARCHIVE], tmp_path)
    assert sizes == [PIECE] and len(transfers(server)) == 1
    assert files(tmp_path) == {}


def test_an_archive_or_server_that_is_not_there_is_named_in_one_line(serve, tmp_path, monkeypatch):
    serve()
    with pytest.raises(DownloadError, match="checksum of other.zip"):
        archives.install([Archive("1", "other.zip", "x")], tmp_path)
    with local_site({}) as server:
        gone = server.url
    monkeypatch.setattr(archives, "SITE", gone)
    with pytest.raises(DownloadError, match=f"{gone} does not answer.*check the network") as caught:
        archives.install([ARCHIVE], tmp_path)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_of_the_server_is_named(serve, tmp_path, status):
    serve(status=status)
    with pytest.raises(DownloadError, match=str(status)):
        archives.install([ARCHIVE], tmp_path)
    assert not installed(tmp_path)


def test_a_server_that_refuses_pythons_user_agents_is_answered(serve, tmp_path):
    serve(refuses=("Python-urllib", "python-requests"))
    archives.install([ARCHIVE], tmp_path)
    assert files(tmp_path) == EXPECTED


def test_a_full_disk_is_noticed_before_the_download(serve, tmp_path, monkeypatch):
    server = serve()
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DownloadError, match="make room"):
        archives.install([ARCHIVE], tmp_path)
    assert transfers(server) == []

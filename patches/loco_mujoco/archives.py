"""Fetch published zip archives: resumed where they broke off, checked against the declared checksum, unpacked as a whole."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import open_zip

SITE = "https://zenodo.org"

_HEADERS = {"User-Agent": "loco-mujoco-data-sets/1", "Accept-Encoding": "identity"}
_TIMEOUT = (10.0, 60.0)  # s, to connect, and between two pieces
_ATTEMPTS = 5  # fruitless ones in a row, after which it gives up
_WAIT = 2.0  # s, longer with every fruitless attempt
_MAX_RECORD = 1 << 22  # bytes of what the site says of a record
_MAX_UNPACKED = 1 << 40  # bytes; as many as are free, besides
_CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
_PIECE = 1 << 14  # bytes; an incomplete one is lost when a connection ends


class DownloadError(OSError):
    """Raised for a failed download or unpacking; the message is one line that says what to do."""


@dataclass(frozen=True)
class Archive:
    """A zip file of a Zenodo record. folder: where its contents go, below the directory of the data sets."""

    record: str
    name: str
    folder: str

    @property
    def url(self):
        return f"{SITE}/records/{self.record}/files/{self.name}?download=1"


def install(archives, data_sets):
    """Download and unpack archives into the directory data_sets.

    An interrupted download goes on where it broke off when this is called again. Files of an archive appear in their place
    after all of it has been checked. Raises DownloadError, and OSError where the directory cannot be written.
    """
    incoming = Path(data_sets) / ".incoming"  # on the same disk, so that files are put in place by renaming
    incoming.mkdir(parents=True, exist_ok=True)
    try:
        for archive in archives:
            path = fetch(archive, incoming)
            unpack(path, Path(data_sets) / archive.folder, incoming)
            path.unlink()
            print(f"loco-mujoco: {archive.name} is installed in {Path(data_sets) / archive.folder}")
    finally:
        if not any(incoming.iterdir()):
            incoming.rmdir()


def fetch(archive, directory):
    """Download an archive, or what is missing of it, into a directory; check size and checksum; return its path."""
    from tqdm import tqdm

    size, checksum = declared(archive)
    path = directory / archive.name
    _need_regular(path)
    if _size(path) > size:
        path.unlink()
    best, fruitless = _size(path), 0
    _need_space(directory, size - best)
    with tqdm(desc=archive.name, total=size, initial=best, unit="B", unit_scale=True) as progress:
        while (have := _size(path)) < size:
            problem = _transfer(archive.url, path, have, size, progress) or "the connection ended"
            fruitless = 0 if _size(path) > best else fruitless + 1
            best = max(best, _size(path))
            if fruitless == _ATTEMPTS:
                raise DownloadError(
                    f"loco-mujoco: {archive.url}: {_size(path)} of {size} bytes came, then {problem}; "
                    "run it again to go on from there"
                )
            time.sleep(_WAIT * fruitless)
    found = _digest(path, checksum)
    if _size(path) != size or found != checksum:
        path.unlink()
        raise DownloadError(
            f"loco-mujoco: {archive.url}: what came has checksum {found}, and {SITE} declares {checksum}; "
            "it was deleted: run it again, and if that does not help, report it to the site"
        )
    return path


def declared(archive):
    """Ask the site for the size of an archive in bytes, and its checksum, "md5:..."."""
    import requests

    url = f"{SITE}/api/records/{archive.record}"
    try:
        with requests.get(url, headers=_HEADERS, stream=True, timeout=_TIMEOUT) as answer:
            _need_success(answer, url)
            text = b""
            for piece in answer.iter_content(_PIECE):
                text += piece
                if len(text) > _MAX_RECORD:
                    break
    except requests.RequestException as error:
        raise DownloadError(
            f"loco-mujoco: {archive.name} cannot be downloaded, {SITE} does not answer ({type(error).__name__}); "
            "check the network, and the proxy in HTTPS_PROXY if there is one"
        ) from error
    try:
        if len(text) > _MAX_RECORD:
            raise ValueError("too long")
        entry = next(entry for entry in json.loads(text)["files"] if entry["key"] == archive.name)
        size, checksum = int(entry["size"]), entry["checksum"].lower()
        if not 0 < size < 2**50 or checksum.split(":")[0] not in _CHECKSUMS:
            raise ValueError("of another kind")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, StopIteration, TypeError, ValueError) as error:
        raise DownloadError(
            f"loco-mujoco: {url} does not say the size and checksum of {archive.name}, so that it could not be checked; "
            f"download it by hand from {archive.url} and unpack it into {archive.folder} of loco_mujoco's datasets folder"
        ) from error
    return size, checksum


def unpack(path, folder, staging):
    """Unpack a zip file into folder by way of the directory staging, so that each file appears complete or not at all."""
    try:
        with open_zip(path, _MAX_UNPACKED) as archive, tempfile.TemporaryDirectory(dir=staging) as directory:
            for member in archive.infolist():
                _need_harmless(member, path)
            _need_space(staging, sum(member.file_size for member in archive.infolist()))
            damaged = _damaged(archive)
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            archive.extractall(directory)
            for source in sorted(Path(directory).rglob("*")):
                if source.is_file():
                    target = folder / source.relative_to(directory)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(source, target)
    except (UserError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        said = str(error).removeprefix(f"{path}: ")
        _need_regular(path)
        path.unlink()
        raise DownloadError(f"loco-mujoco: {path.name} cannot be unpacked: {said}; it was deleted: run it again") from error


def _transfer(url, path, have, size, progress):
    """Append what is missing of `size` bytes to the file, and no more but for a piece; return the error that ended the
    transfer, "" for none that was noticed."""
    import requests

    try:
        with requests.get(
            url, headers=_HEADERS | {"Range": f"bytes={have}-"} if have else _HEADERS, stream=True, timeout=_TIMEOUT
        ) as answer:
            if answer.status_code >= 500 or answer.status_code == 429:
                return f"the server answered {answer.status_code}"
            _need_success(answer, url)
            goes_on = answer.status_code == 206
            progress.n = have if goes_on else 0
            with open(path, "ab" if goes_on else "wb") as file:
                for piece in answer.iter_content(_PIECE):
                    file.write(piece)
                    progress.update(len(piece))
                    if file.tell() > size:  # it is another file
                        break
    except requests.RequestException as error:
        return type(error).__name__
    return ""


def _need_success(answer, url):
    if not answer.ok:
        raise DownloadError(f"loco-mujoco: {url}: the server answered {answer.status_code} {answer.reason}; try again later")


def _damaged(archive):
    """Name of a member that cannot be read whole, or None."""
    try:
        return archive.testzip()
    except OSError as error:  # of a place in the file that cannot be
        raise zipfile.BadZipFile(str(error)) from None


def _need_harmless(member, path):
    name = PurePosixPath(member.filename.replace("\\", "/"))
    outside = name.is_absolute() or ".." in name.parts or ":" in member.filename
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        kind = "would be written outside of its folder" if outside else "is a link"
        raise zipfile.BadZipFile(f"its member {member.filename} {kind}")


def _need_regular(path):
    """Raise DownloadError where something else than a file is there, which might be waited on for ever."""
    if path.exists() and not path.is_file():
        raise DownloadError(f"loco-mujoco: {path} is no file; remove it")


def _need_space(directory, needed):
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DownloadError(
            f"loco-mujoco: {directory}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; "
            "make room and run it again"
        )


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _digest(path, checksum):
    algorithm = checksum.split(":")[0]
    with open(path, "rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"

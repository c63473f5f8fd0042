"""Wheel and sdist: complete, and usable from anywhere; what pip cannot install is told in one line."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import qi_ext
from qi_ext.utils.programs import SCRIPTS
from qi_ext.utils.upstream import how_to_install

ROOT = Path(__file__).parents[1]
DATA = [path for suffix in ("npz", "safetensors", "html") for path in (ROOT / "qi_ext").rglob(f"*.{suffix}")]
MODULES = [path for package in ("qi_ext", "patches") for path in (ROOT / package).rglob("*.py")]


def files(paths):
    return {str(path.relative_to(ROOT)) for path in paths}


def python(*words, **options):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of a wheel and an sdist, built of a copy: setuptools writes into the folder that it builds."""
    folder, source = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("source") / "qi_ext"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "runs", "build", "dist"))
    program = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
    for build in ("build_wheel", "build_sdist"):
        done = python("-c", program, build, folder, cwd=source)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Folder that holds the content of the wheel, as an installation does."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_wheel_has_every_module_and_data_file(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert files(MODULES + DATA) | {"qi_ext/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "launchers/", "benchmarks/"))]


def test_an_sdist_has_what_a_checkout_needs(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("benchmarks", "docs", "examples", "launchers", "results", "tests")
    others = [path for folder in folders for path in (ROOT / folder).rglob("*.*") if "__pycache__" not in path.parts]
    needed = files([*MODULES, *DATA, *(path for path in others if path.is_file())])
    assert needed | {"Makefile", "install.sh", "requirements.txt", "README.md", "LICENSE", "patches/README.md"} <= names


@pytest.mark.extensive
def test_an_installed_package_works_from_anywhere(installed, tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import qi_ext; "
        "print(qi_ext.__file__, qi_ext.load_agent('pretrained/hard').metadata['task'])"
    )
    done = python("-P", "-c", program, installed, cwd=tmp_path)
    assert done.stdout.split() == [str(installed / "qi_ext" / "__init__.py"), "hard"], done.stderr
    main = "import sys; sys.path.insert(0, sys.argv.pop(1)); from qi_ext.__main__ import main; main()"
    done = python("-P", "-c", main, installed, "evaluate", "--agent", "pretrained/simple", "--episodes", 1, cwd=tmp_path)
    assert done.returncode == 0 and "pretrained/simple" in done.stdout, done.stderr


def test_every_command_has_its_help_and_its_script():
    listed = python("-m", "qi_ext", "--help", cwd=ROOT).stdout
    for name, script in SCRIPTS.items():
        assert f"\n  {name} " in listed
        assert python("-m", "qi_ext", name, "--help", cwd=ROOT).stdout.startswith(f"usage: qi-ext {name} ")
        assert (ROOT / "launchers" / script).is_file()


def test_an_unknown_command_is_one_line_with_the_nearest():
    done = python("-m", "qi_ext", "evaluat", cwd=ROOT)
    assert (done.returncode, done.stderr) == (
        2,
        "qi-ext: evaluat: no such command; did you mean evaluate?; qi-ext --help lists them\n",
    )


@pytest.mark.parametrize("library", ["loco_mujoco", "mushroom_rl"])
def test_a_library_that_pip_cannot_install_is_told_in_one_line(library, tmp_path):
    hide = f"import sys; sys.modules[{library!r}] = None; "
    expected = f"{library} is not installed; pip install --no-deps loco-mujoco==0.4.1 "
    done = python("-c", hide + "from qi_ext.__main__ import main; main()", "train", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n"), expected in done.stderr) == (2, 1, True), done.stderr
    assert list(tmp_path.iterdir()) == []
    for use in (
        "from qi_ext.tasks import QuadrupedDirection",
        "import gymnasium; gymnasium.make('qi_ext.tasks:QuadrupedDirection-v0')",
        "from qi_ext.sampling import ParallelCore",
    ):
        if library == "mushroom_rl" or "ParallelCore" not in use:
            done = python("-c", hide + use)
            assert expected in done.stderr.splitlines()[-1], done.stderr


def test_the_advised_versions_are_those_of_the_lock():
    advised = re.findall(r"\S+==\S+", how_to_install(ModuleNotFoundError(name="loco_mujoco")))
    locked = (ROOT / "requirements.txt").read_text().split()
    assert len(advised) == 3 and not {each for each in advised if each != "dm-control==1.0.14"} - set(locked)


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == qi_ext.__version__
    assert f"\n## {qi_ext.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()

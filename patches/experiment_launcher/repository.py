"""Patch of saving the commit: experiments run in any git repository."""

import subprocess
import tempfile
from types import SimpleNamespace

from patches.experiment_launcher import LIBRARY
from patches.library import Seen, crash


def _probe():
    from experiment_launcher.utils import save_args

    with tempfile.TemporaryDirectory() as directory:
        git = ["git", "-C", directory, "-c", "user.name=probe", "-c", "user.email=probe@example.org"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "first"], check=True)
        return crash(save_args, directory, {"seed": 0}, git_repo_path=directory)


@LIBRARY.patch(
    "git-remote",
    target="experiment_launcher.utils:save_args",
    sees="in a git repository without a remote called origin, each experiment ends: IterableList has no attribute 'origin'",
    remedy="git_url is that of another remote, '' where there is none; git_hash stays",
    probe=_probe,
)
def _git_remote(edits):
    import experiment_launcher.utils as utils

    class Repo(utils.git.Repo):
        @property
        def remotes(self):
            found = super().remotes
            if any(remote.name == "origin" for remote in found):
                return found
            return SimpleNamespace(origin=SimpleNamespace(url=found[0].url if found else ""))

    edits.replace(utils, "git", Seen(utils.git, Repo=Repo))

"""The list of packages and a clean build; everything else about the distribution is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class CleanBuild(build_py):
    """What an earlier build left, such as weights that have been replaced since, gets into no wheel."""

    def run(self) -> None:
        """Copy the packages into an empty folder."""
        shutil.rmtree(Path(self.build_lib, "fun_asr"), ignore_errors=True)
        super().run()


# kernels/ and configs/ are named here, not found through their links in fun_asr/, because a checkout may lack links
# (Windows); configs/ holds no Python, and is a package only in being installed as one.
setup(
    packages=sorted({*find_packages(include=["fun_asr", "fun_asr.*"]), "fun_asr.kernels", "fun_asr.configs"}),
    cmdclass={"build_py": CleanBuild},
)

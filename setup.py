"""The list of packages; everything else about the distribution is in pyproject.toml."""

from setuptools import find_packages, setup

# kernels/ and configs/ are named here, not found through their links in fun_asr/, because a checkout may lack links
# (Windows); configs/ holds no Python, and is a package only in being installed as one.
setup(packages=sorted({*find_packages(include=["fun_asr", "fun_asr.*"]), "fun_asr.kernels", "fun_asr.configs"}))

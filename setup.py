"""The list of packages; everything else about the distribution is in pyproject.toml."""

from setuptools import find_packages, setup

# kernels/ is named here, not found through the link fun_asr/kernels, because a checkout may lack links (Windows).
setup(packages=sorted({*find_packages(include=["fun_asr", "fun_asr.*"]), "fun_asr.kernels"}))

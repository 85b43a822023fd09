"""`.nemo` archives: tar files with a YAML configuration, tokenizers and weights, read in place.

Nothing of an archive is written under the names in it, and none of its pickles runs.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fun_asr.errors import CheckpointError
from fun_asr.models.published import parse_yaml

__all__ = ["NemoArchive", "open_nemo"]

CONFIG_FILE = "model_config.yaml"
WEIGHTS_FILE = "model_weights.ckpt"
MAX_MEMBERS = 1000
LARGEST_CONFIG = 16 * 2**20  # bytes; the labels of a large vocabulary are some hundred thousand
LARGEST_TOKENIZER = 64 * 2**20
LARGEST_WEIGHTS = 64 * 2**30
_ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, OverflowError)


@dataclass(frozen=True)
class NemoArchive:
    """An open archive."""

    path: Path
    config: Any
    """What the configuration holds."""
    tokenizer: bytes
    """The SentencePiece model."""
    tokenizer_name: str
    _tar: tarfile.TarFile
    _weights: tarfile.TarInfo
    _compressed: bool

    def weights(self, largest: int) -> IO[bytes]:
        """The file of the weights, seekable.

        Arguments:
            largest: bytes that weights of the configured sizes can take.

        Raises:
            CheckpointError: when it is larger, or cut off.
        """
        where = f"{self.path}: {self._weights.name}"
        if self._weights.size > largest:
            raise CheckpointError(f"{where} has {self._weights.size} bytes; the configured network has {largest}")
        try:
            file = self._tar.extractfile(self._weights)
            assert file is not None
            if not self._compressed:
                return file
            # In a compressed file every step back starts from the beginning.
            copy = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the weights are read)
            shutil.copyfileobj(file, copy, 2**20)
            if copy.tell() != self._weights.size:
                raise EOFError("unexpected end")
            copy.seek(0)
            return copy
        except _ERRORS as error:
            raise _damaged(where, error) from None


def open_nemo(path: Path) -> NemoArchive:
    """Open an archive and read what is small in it.

    Raises:
        CheckpointError: when it is damaged, lacks a part, or has a member that would be written outside its folder, a
            link, a device, or more than such an archive holds.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        tar = tarfile.open(path, "r:gz" if compressed else "r:")  # noqa: SIM115  (stays open for the weights)
    except _ERRORS as error:
        raise _damaged(str(path), error) from None
    try:
        members = _members(tar, path, compressed)
        config_member = members.get(CONFIG_FILE)
        if config_member is None or WEIGHTS_FILE not in members:
            missing = CONFIG_FILE if config_member is None else WEIGHTS_FILE
            raise CheckpointError(f"{path}: {missing} is missing; this is no model of NeMo")
        config = parse_yaml(_read(tar, config_member, LARGEST_CONFIG, path), f"{path}: {CONFIG_FILE}")
        tokenizer = _tokenizer(members, config, path)
        model = _read(tar, tokenizer, LARGEST_TOKENIZER, path)
    except BaseException:
        tar.close()
        raise
    return NemoArchive(path, config, model, tokenizer.name, tar, members[WEIGHTS_FILE], compressed)


def _members(tar: tarfile.TarFile, path: Path, compressed: bool) -> dict[str, tarfile.TarInfo]:
    """The files of the archive by their base names."""
    length = path.stat().st_size
    found: dict[str, tarfile.TarInfo] = {}
    count = 0
    while True:
        try:
            member = tar.next()
        except _ERRORS as error:
            raise _damaged(str(path), error) from None
        if member is None:
            return found
        count += 1
        if count > MAX_MEMBERS:
            raise CheckpointError(f"{path}: more than {MAX_MEMBERS} members; this is no model of NeMo")
        name = PurePosixPath(member.name)
        shown = repr(member.name[:80])
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
            raise CheckpointError(f"{path}: the member {shown} lies outside the archive's folder; nothing was read")
        if member.isdir():
            continue
        if not member.isreg():
            raise CheckpointError(f"{path}: the member {shown} is a link or device, no file; nothing was read")
        if member.size > LARGEST_WEIGHTS or (not compressed and member.offset_data + member.size > length):
            raise CheckpointError(f"{path}: the member {shown} is cut off; download the archive again")
        if name.name in found:
            raise CheckpointError(f"{path}: has two members named {name.name[:80]!r}")
        found[name.name] = member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, largest: int, path: Path) -> bytes:
    if member.size > largest:
        raise CheckpointError(f"{path}: {member.name} has {member.size} bytes, more than any known model's")
    try:
        file = tar.extractfile(member)
        assert file is not None
        data = file.read()
    except _ERRORS as error:
        raise _damaged(f"{path}: {member.name}", error) from None
    if len(data) != member.size:
        raise CheckpointError(f"{path}: {member.name} is cut off; download the archive again")
    return data


def _tokenizer(members: dict[str, tarfile.TarInfo], config: Any, path: Path) -> tarfile.TarInfo:
    """The member that the configuration names, or the only SentencePiece model."""
    section = config.get("tokenizer") if isinstance(config, dict) else None
    named = section.get("model_path") if isinstance(section, dict) else None
    if isinstance(named, str) and named.startswith("nemo:") and named.removeprefix("nemo:") in members:
        return members[named.removeprefix("nemo:")]
    models = [member for name, member in members.items() if name.endswith(".model")]
    if len(models) != 1:
        raise CheckpointError(f"{path}: has {len(models)} SentencePiece models (*.model), not one")
    return models[0]


def _damaged(where: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
    return CheckpointError(f"{where}: damaged, or no archive of NeMo ({reason})")

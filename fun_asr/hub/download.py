"""Fetch a published model into a folder: the files that loading it needs, a cut-off download from where it was cut."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fun_asr.errors import CheckpointError, FunASRError

__all__ = ["DownloadError", "download", "needed_files"]

SINGLE_FILE, INDEX_FILE, CTRANSLATE2_FILE = "model.safetensors", "model.safetensors.index.json", "model.bin"
CONFIG_FILE = "config.json"
DESCRIPTIONS = (
    CONFIG_FILE, "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
"""What is read beside the weights, where a model has it."""
PART_PREFIX, PART_SUFFIX = ".fun-asr-", ".part"
"""Of the name of a file that is not complete; between them is its checksum."""
SPARE_BYTES = 64 * 2**20
"""Left free on the disk."""


class DownloadError(FunASRError):
    """A model cannot be fetched."""


def needed_files(names: Collection[str], hub: str) -> tuple[list[str], list[str]]:
    """Which files of a repository a model is loaded from: descriptions, and weights.

    Of several forms of the weights one is taken: safetensors, then CTranslate2's, then NeMo's archive, which holds all
    that is needed. The shards are not among them: the index names them.

    Arguments:
        names: of its files.
        hub: the repository, for messages.

    Raises:
        DownloadError: when it holds no weights in a form that is known.
    """
    descriptions = [name for name in DESCRIPTIONS if name in names]
    if SINGLE_FILE in names:
        return descriptions, [SINGLE_FILE]
    if INDEX_FILE in names:
        return [*descriptions, INDEX_FILE], []
    if CTRANSLATE2_FILE in names:
        return descriptions, [CTRANSLATE2_FILE]
    archives = [name for name in names if name.endswith(".nemo") and "/" not in name]
    if len(archives) == 1:
        return [], archives
    raise DownloadError(
        f"{hub}: no model to load there: none of {SINGLE_FILE}, {INDEX_FILE}, {CTRANSLATE2_FILE} or one .nemo archive"
    )


def download(hub: str, folder: Path, revision: str | None = None) -> Path:
    """Fetch a model from the Hugging Face hub, or from the server that HF_ENDPOINT names.

    What is there already is not fetched again. The weights come last, once the descriptions say that this model can be
    loaded.

    Arguments:
        hub: owner/name.
        folder: where the files go; made if missing.
        revision: a branch, tag or commit of the repository; None for its main branch.

    Returns:
        the folder.

    Raises:
        DownloadError: when huggingface_hub is not installed, the hub cannot be reached, or has no such model.
        CheckpointError: when the model is of no known family.
        OSError: when the disk is full or the folder cannot be written to.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    except ImportError:
        raise DownloadError(
            "downloading needs the package huggingface_hub: pip install .[hub] (or huggingface_hub)"
        ) from None
    if not sys.stderr.isatty():
        disable_progress_bars()
    with _explained(hub):
        found = HfApi().model_info(hub, revision=revision, files_metadata=True)
    files = {
        file.rfilename: _File(file.size or 0, None if file.lfs is None else file.lfs.sha256, file.blob_id)
        for file in found.siblings or []
    }
    descriptions, weights = needed_files(files, hub)
    folder.mkdir(parents=True, exist_ok=True)
    for name in descriptions:
        _fetch(hub, found.sha, name, files[name], folder)
    if CONFIG_FILE in descriptions and CTRANSLATE2_FILE not in weights:
        from fun_asr.models.registry import identify  # the network's imports take seconds

        identify(folder)
    if not weights:
        weights = _shards(folder / INDEX_FILE, files)
    _check_room(folder, {name: files[name].size for name in weights})
    for name in weights:
        _fetch(hub, found.sha, name, files[name], folder)
    return folder


@dataclass(frozen=True)
class _File:
    """What the hub says of a file."""

    size: int
    sha256: str | None
    """Of a large file."""
    blob: str | None
    """Git's name of a small one, which is a checksum of it."""

    def is_at(self, path: Path) -> bool:
        """Whether a path holds this very file."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                if self.sha256 is not None:
                    return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
                header = f"blob {self.size}\0".encode()
                return hashlib.sha1(header + file.read(), usedforsecurity=False).hexdigest() == self.blob
        except FileNotFoundError:
            return False


def _fetch(hub: str, revision: str | None, name: str, file: _File, folder: Path) -> None:
    """Fetch one file, or the rest of it, and move it into place once its checksum is right."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if file.is_at(folder / name):
        return
    part = folder / f"{PART_PREFIX}{file.sha256 or file.blob}{PART_SUFFIX}"
    with part.open("ab") as begun, _explained(hub):
        have = begun.tell()
        if have > file.size:
            begun.truncate(have := 0)
        # The client itself begins anew after it was killed.
        url = hf_hub_url(hub, name, revision=revision)
        http_get(url, begun, resume_size=have, headers=build_hf_headers(), expected_size=file.size)
    if not file.is_at(part):
        part.unlink()
        raise DownloadError(f"{hub}: {name} arrived damaged; repeat the command to fetch it again")
    os.replace(part, folder / name)


def _shards(index: Path, known: Collection[str]) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: has no weight_map from tensors to files") from None
    for name in names:
        # A name that leads elsewhere is in no listing that this folder could hold.
        if name not in known or "/" in name:
            raise CheckpointError(f"{index}: names the file {name!r}, which is not beside it")
    return names


def _check_room(folder: Path, wanted: Mapping[str, int]) -> None:
    """Before gigabytes are fetched, not after."""
    missing = sum(size for name, size in wanted.items() if not (folder / name).exists())
    begun = sum(path.stat().st_size for path in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"))
    free = shutil.disk_usage(folder).free
    if missing and missing - begun + SPARE_BYTES > free:
        raise DownloadError(f"{folder}: {missing / 1e9:.1f} GB to fetch, but only {free / 1e9:.1f} GB free on the disk")


@contextlib.contextmanager
def _explained(hub: str) -> Iterator[None]:
    """Errors of the client as one line that says what to do."""
    from huggingface_hub import constants, errors

    server = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(
            f"{hub}: its publisher asks for consent first: accept at {server}/{hub}, then set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"{hub}: no such model at {server} (a private one needs HF_TOKEN)") from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{hub}: no such revision") from None
    except errors.HFValidationError as error:
        raise DownloadError(f"{hub}: no name of a model ({_line(error)})") from None
    except errors.EntryNotFoundError as error:
        if error.__cause__ is not None and _is_of_transport(error.__cause__):
            raise _unreachable(hub, server, error.__cause__) from None
        raise DownloadError(f"{hub}: {_line(error)}") from None
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{hub}: {server} refused: {_line(error)}") from None
    except Exception as error:
        if _is_of_transport(error):
            raise _unreachable(hub, server, error) from None
        raise


def _is_of_transport(error: BaseException) -> bool:
    """Whether a connection failed. The library below the client has changed its name, not those of its errors."""
    return isinstance(error, ConnectionError) or "TransportError" in {kind.__name__ for kind in type(error).__mro__}


def _unreachable(hub: str, server: str, error: BaseException) -> DownloadError:
    return DownloadError(
        f"{hub}: {server} cannot be reached ({_line(error)}); the same command goes on where the download was cut"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

"""What a family of models offers to the training loop."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from fun_asr.errors import ConfigError
from fun_asr.layers.lora import LoRALinear, adapted, add_lora, merged_state
from fun_asr.layers.moe import Router
from fun_asr.training.acoustics import Wave
from fun_asr.training.config import LoRAConfig, OptimizerConfig, TrainConfig
from fun_asr.training.data import Utterance, WaveReader
from fun_asr.weights.adapter import write_adapter
from fun_asr.weights.published import PublishedNames

__all__ = ["StepLosses", "Trainee", "TrainingBatch", "Verdict"]


class TrainingBatch(Protocol):
    """A batch of one family."""

    @property
    def seconds(self) -> float:
        """Audio in the batch, padding left out."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


@dataclass(frozen=True)
class StepLosses:
    """What a batch says of the model."""

    total: Tensor
    """To be made smaller."""
    shown: Mapping[str, Tensor]
    """By the names under which `log.csv` has them."""


@dataclass(frozen=True)
class Verdict:
    """Whether an utterance can be trained on."""

    utterance: Utterance
    """With its text as it is trained on."""
    problem: str = ""
    """Why it is left out; empty where it is not."""
    note: str = ""
    """What was changed of it; empty where nothing was."""


class Trainee(ABC):
    """A model in training.

    Arguments:
        network: in float32, on the CPU.
        names: of its tensors in the published layout.
        config: of the run.
    """

    family: str
    longest_seconds: float = 30.0
    """The longest utterance that is trained on."""
    window_seconds: float = 0.0
    """What every utterance is padded to at least."""
    targets: tuple[str, ...]
    """Parts of the names of the layers that LoRA adapts where the config names none."""
    unread: tuple[str, ...] = ()
    """Keys of the config that say nothing to this family."""

    def __init__(self, network: nn.Module, names: PublishedNames, config: TrainConfig) -> None:
        self.network, self.names, self.config = network, names, config
        self.device = torch.device("cpu")
        usual = {field.name: field for field in dataclasses.fields(TrainConfig)}
        for key in self.unread:
            field = usual[key]
            default = field.default if field.default is not dataclasses.MISSING else _made(field)
            if getattr(config, key) != default:
                raise ConfigError(f"{key}: says nothing to a model of the family {self.family}; leave it out")

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self.network.to(device)
        self.device = device

    @abstractmethod
    def reader(self) -> WaveReader:
        """What makes batches of planned utterances, when called with them and a random generator."""

    @abstractmethod
    def judge(self, utterance: Utterance) -> Verdict:
        """Whether an utterance's language and text can be trained on; its sound is not looked at."""

    @abstractmethod
    def losses(self, batch: Any) -> StepLosses:
        """Of a batch of `reader`, on the network's device."""

    @abstractmethod
    def recognise(self, waves: Sequence[Wave], languages: Sequence[str]) -> dict[str, list[str]]:
        """What the network in evaluation mode writes of some waves, by the names under which `dev.csv` has its error
        rates; the first is what counts."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write the model as a folder that `fun-asr --model` takes, adapters merged."""

    def peak(self, name: str, optimizer: OptimizerConfig) -> float:
        """The highest learning rate of a parameter."""
        return optimizer.learning_rate

    def start(self) -> None:
        """Put the network into training mode."""
        self.network.train()

    def knows(self, language: str) -> bool:
        """Whether the model can be told this language, a code."""
        return True

    def expect(self, *, taught: bool) -> None:  # noqa: B027  (most families have no teacher)
        """Be told before the run whether any utterance has a teacher."""

    def after_update(self, step: int) -> Iterator[Tensor]:
        """What follows the update of a step; yields losses that are to be made smaller by an update of their own."""
        return iter(())

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a run needs beside the network and the optimizer to go on: tensors by names of files."""
        return {}

    def load_state(self, read: Callable[[str], dict[str, Tensor]]) -> None:  # noqa: B027  (see `state`)
        """The inverse of `state`; `read` gives a file's tensors."""

    def balance(self, combine: Callable[[Tensor], None]) -> None:  # noqa: B027  (most families have no experts)
        """Where experts are chosen, choose them evenly; `combine` sums a tensor over the processes, in place."""

    def adapt(self, lora: LoRAConfig, seed: int) -> int:
        """Freeze the network and give some of its layers thin matrices to train; returns how many.

        Raises:
            ConfigError: when the targets are in no layer's name.
        """
        targets = lora.targets or self.targets
        gates = {f"{name}.gate" for name, module in self.network.named_modules() if isinstance(module, Router)}

        def rows_of(name: str, layer: nn.Linear) -> Tensor | bool:
            if name in gates:
                return False
            if any(target in name for target in targets):
                return True
            theirs = self.names.names.get(f"{name}.weight", ())
            chosen = [part is not None and any(target in part for target in targets) for part in theirs]
            return torch.tensor(chosen).repeat_interleave(layer.out_features // len(chosen)) if chosen else False

        count = add_lora(self.network, lora.rank, lora.alpha or 2.0 * lora.rank, rows_of, seed)
        if not count:
            raise ConfigError(f"lora.targets: no linear layer of the model has {', '.join(targets)} in its name")
        return count

    def save_adapter(self, directory: Path, base: str) -> None:
        """Write what LoRA trained, in PEFT's format."""
        thin: dict[str, tuple[Tensor, Tensor]] = {}
        layers = dict(adapted(self.network))
        for name, layer in layers.items():
            for theirs, B in self.names.parts(f"{name}.weight", layer.added_rows()):
                if theirs is None or not bool(_adapted_rows(layer, theirs, self.names, name)):
                    continue
                # A convolution over one frame is a linear layer here; PEFT adapts it by two convolutions.
                axes = len(self.names.shapes.get(theirs, (0, 0)))
                A = layer.lora_A
                thin[theirs] = (A[..., None], B[..., None]) if axes == 3 else (A, B)
        lora = self.config.lora
        write_adapter(directory, thin, rank=lora.rank, alpha=lora.alpha or 2.0 * lora.rank, base=base)

    def merged(self) -> dict[str, Tensor]:
        """The network's tensors, adapters merged into them."""
        return merged_state(self.network)


def _adapted_rows(layer: LoRALinear, theirs: str, names: PublishedNames, name: str) -> bool:
    """Whether the rows of a published matrix are among those that are adapted."""
    if layer.rows is None:
        return True
    parts = names.parts(f"{name}.weight", layer.rows[:, None])
    return any(bool(rows.any()) for part, rows in parts if part == theirs)


def _made(field: dataclasses.Field[Any]) -> Any:
    assert field.default_factory is not dataclasses.MISSING
    return field.default_factory()

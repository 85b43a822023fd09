"""Training configuration, read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field

from fun_asr.errors import ConfigError
from fun_asr.training.augment import AugmentConfig

FEWEST_KEPT_PER_REPLAY = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A manifest and how often an epoch passes over it."""

    manifest: str
    weight: float = 1.0
    targets: str = "both"
    """both; ctc: the manifest's text is spoken form only, so the decoder, which writes formatted text, skips it; or
    teacher: its text is no target at all, only what the teacher says along it."""

    def __post_init__(self) -> None:
        if self.targets not in ("both", "ctc", "teacher"):
            raise ConfigError(f"targets: expected both, ctc or teacher, got {self.targets!r}")


@dataclass(frozen=True, kw_only=True)
class DevSet:
    """A manifest whose WER is measured at every checkpoint."""

    manifest: str
    utterances: int = 0
    """Only this many, evenly spread; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = 2e-5
    """Peak, for weights that come trained."""
    new_learning_rate: float = 3e-5
    """Peak, for convolution modules, routers and routed experts. AdamW moves weights that start at zero by the learning
    rate whatever the gradient's size: 2e-4 cost 2 % absolute WER within 170 steps, undone by halving their outputs."""
    ctc_learning_rate: float = 1e-3
    """Peak, for the CTC head."""
    final_ratio: float = 0.05
    """Learning rates end at this part of their peak."""
    warmup_steps: int = 50
    weight_decay: float = 0.01
    clip_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What the teacher weighs beside the labels, on the utterances of manifests that bin/teach made."""

    frames_weight: float = 1.0
    """Of the distance between encoder outputs: the part of the teacher's variance that is missed."""
    tokens_weight: float = 1.0
    """Of the KL divergence of the next token's distribution, in nats a token."""


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al. 2021): thin matrices are trained, the model itself stays."""

    rank: int = 0
    """Width of the thin matrices; 0 trains the model itself."""
    alpha: float = 0.0
    """Their product counts alpha / rank times; 0 for twice the rank."""
    targets: tuple[str, ...] = ()
    """Parts of the names of the linear layers that are adapted, as published or as here (`q_proj`, `fc1`, `encoder.`);
    none for the projections of attention."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha < 0:
            raise ConfigError("lora.rank and lora.alpha must not be negative")
        if (self.targets or self.alpha) and not self.rank:
            raise ConfigError("lora: rank is 0, nothing is adapted")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; relative paths are relative to the YAML file."""

    init: str
    """What to start from: a model directory of this package, a Whisper model as it is published (transformers,
    OpenAI, CTranslate2), or a folder of transformers with Parakeet CTC or Granite Speech CTC."""
    output_dir: str
    train: tuple[Source, ...]
    dev: tuple[DevSet, ...] = ()
    noise_dir: str = ""
    """Recordings mixed in as noise; empty: none."""
    room_dir: str = ""
    """Recorded impulse responses of rooms for `augment.room_probability`; empty: rooms are made up."""
    steps: int = 1000
    batch_seconds: float = 80.0
    """Audio of one batch, padding included."""
    accumulate: int = 1
    """Batches of one step, shared out among the processes of `torchrun`: the same run on one and on several."""
    joined: float = 0.0
    """Part of the utterances that are joined in twos and threes: after single sentences only, a decoder stops early."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    ctc_weight: float = 0.3
    """Of the CTC loss beside the decoder's; 0 keeps it from the encoder, which an untrained head harms."""
    ctc_intermediate_weight: float = 0.0
    """Part of the CTC loss that is taken after the head's blocks before its last (Lee & Watanabe 2021)."""
    ctc_consistency_weight: float = 0.0
    """Of the consistency of two masked copies of each spectrogram in the CTC head (CR-CTC, Yao et al. 2024, who take
    0.2); 0 makes one copy. A step of two takes twice as long: halve `batch_seconds`."""
    ctc_replay: int = 0
    """Most extra updates a step of the CTC head alone, on encoder outputs kept from recent steps: one for every
    `FEWEST_KEPT_PER_REPLAY` batches kept, since a head that sees a few again and again learns them by heart."""
    ctc_replay_batches: int = 100
    """Batches kept for it."""
    ctc_replay_dropout: float = 0.1
    """Dropout of the kept encoder outputs."""
    label_smoothing: float = 0.0
    train_language: bool = False
    """Whether the decoder also learns to recognise the language: only where the manifests hold several."""
    freeze: tuple[str, ...] = ()
    """Parameters whose names start so are not trained."""
    balance_rate: float = 1e-3
    """Step of the routers' balancing bias."""
    balance_loss_weight: float = 0.0
    """Of Switch Transformers' load-balancing loss (Fedus et al. 2021), which the bias makes unnecessary."""
    z_loss_weight: float = 0.0
    """Of the routers' z-loss (Zoph et al. 2022)."""
    most_left_out: float = 0.1
    """Part of a manifest's utterances that may be left out because they cannot be trained on; more end the run."""
    checkpoint_minutes: float = 5.0
    average: int = 5
    """Checkpoints kept, and averaged at the end."""
    precision: str = "auto"
    """auto, float32 or bfloat16 (autocast)."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    loader_threads: int = 1
    """Threads that decode and augment; they change nothing but the speed. A GPU waits for a single one."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("train: no manifests")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"precision: expected auto, float32 or bfloat16, got {self.precision!r}")
        counts = (self.steps, self.average, self.ctc_replay_batches, self.loader_threads)
        if min(counts) < 1 or self.batch_seconds <= 0:
            raise ConfigError("steps, average, batch_seconds, loader_threads and ctc_replay_batches must be positive")
        if self.accumulate < 1 or not 0 <= self.most_left_out <= 1:
            raise ConfigError("accumulate must be positive, and most_left_out lie in [0, 1]")
        if not 0 <= self.ctc_intermediate_weight < 1 or self.ctc_consistency_weight < 0:
            raise ConfigError("ctc_intermediate_weight must lie in [0, 1), and ctc_consistency_weight not be negative")
        if self.room_dir and not self.augment.room_probability:
            raise ConfigError("room_dir: no room is heard while augment.room_probability is 0")
        if self.ctc_replay * FEWEST_KEPT_PER_REPLAY > self.ctc_replay_batches:
            raise ConfigError(
                f"ctc_replay_batches: {self.ctc_replay} replays need {self.ctc_replay * FEWEST_KEPT_PER_REPLAY} or more"
            )

"""The network's promises: an utterance's result does not depend on its batch, and new modules add nothing at first."""

import dataclasses

import pytest
import torch

from fun_asr.configuration import from_mapping
from fun_asr.errors import ConfigError
from fun_asr.layers.attention import length_mask
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.network import FunASR

SMALL = ModelConfig(
    encoder=EncoderConfig(n_mels=16, dim=32, num_layers=2, num_heads=4, ffn_dim=64, conv_dim=24, max_frames=200),
    ctc=CTCConfig(vocab_size=12, hidden_dim=32),
    decoder=DecoderConfig(
        vocab_size=60, dim=32, num_layers=2, num_heads=4, ffn_dim=64, num_experts=4, expert_dim=16, max_tokens=32
    ),
)


def random_model(config: ModelConfig = SMALL) -> FunASR:
    """All parameters random, so that nothing hides behind an initial zero."""
    torch.manual_seed(1)
    model = FunASR(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("frames", [3, 4, 57, 120])
def test_batch_equals_single(frames: int) -> None:
    model = random_model()
    features = torch.randn(3, 16, 160)
    lengths = torch.tensor([160, frames, 101])
    for row, length in zip(features, lengths.tolist(), strict=True):
        row[:, length:] = 0
    tokens = torch.randint(0, 60, (3, 6))
    with torch.no_grad():
        encoded, counts = model.encode(features, lengths)
        log_probs, ctc_counts = model.ctc(encoded, counts)
        hidden = model.decoder(tokens, encoded, length_mask(counts, encoded.shape[1]))
        alone, count = model.encode(features[1:2, :, :frames], lengths[1:2])
        alone_log_probs, ctc_count = model.ctc(alone, count)
        alone_hidden = model.decoder(tokens[1:2], alone)
    assert counts[1] == count[0] == -(-frames // 2) == alone.shape[1]
    assert ctc_counts[1] == ctc_count[0] == -(-frames // 4) == alone_log_probs.shape[1]
    torch.testing.assert_close(encoded[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(log_probs[1, : ctc_count[0]], alone_log_probs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden[1], alone_hidden[0], atol=1e-5, rtol=0)


def test_new_modules_add_nothing_at_first() -> None:
    torch.manual_seed(0)
    full = FunASR(SMALL).eval()
    bare_config = dataclasses.replace(
        SMALL,
        encoder=dataclasses.replace(SMALL.encoder, conv_kernel=0),
        decoder=dataclasses.replace(SMALL.decoder, num_experts=0),
    )
    bare = FunASR(bare_config).eval()
    bare.load_state_dict({k: v for k, v in full.state_dict().items() if k in bare.state_dict()})
    features, tokens = torch.randn(1, 16, 80), torch.randint(0, 60, (1, 5))
    with torch.no_grad():
        outputs = []
        for model in (full, bare):
            encoded, _ = model.encode(features, torch.tensor([80]))
            outputs.append((encoded, model.decoder(tokens, encoded)))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_routed_experts_compute_the_weighted_sum_of_their_outputs() -> None:
    layer = random_model().decoder.blocks[0].ffn
    x = torch.randn(7, 32)
    with torch.no_grad():
        ours = layer(x)
        probabilities = (x @ layer.router.gate.weight.T).softmax(dim=-1)
        expected = layer.shared(x)
        for n in range(7):
            chosen = sorted(range(4), key=lambda e: -float(probabilities[n, e]))[:2]
            total = sum(probabilities[n, e] for e in chosen)
            for e in chosen:
                gate, up = (layer.experts.gate_up_EHD[e] @ x[n]).chunk(2)
                y = layer.experts.down_EDF[e] @ (torch.nn.functional.silu(gate) * up)
                expected[n] += probabilities[n, e] / total * y
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_only_counted_tokens_are_load_and_enter_the_router_losses() -> None:
    model = random_model().train()
    tokens = torch.randint(0, 60, (2, 12))
    counted = torch.zeros(2, 12, dtype=torch.bool)
    counted[0, 3:9] = counted[1, 3:5] = True
    encoded = torch.randn(2, 20, 32)
    model.decoder(tokens, encoded, counted_BS=counted)
    partial = [router.losses for router in model.decoder.routers()]
    for router in model.decoder.routers():
        assert int(router.load_E.sum()) == 8 * router.num_experts_per_token
        router.load_E.zero_()
    model.decoder(tokens, encoded)
    for router, losses in zip(model.decoder.routers(), partial, strict=True):
        assert int(router.load_E.sum()) == 24 * router.num_experts_per_token
        assert router.losses is not None and losses is not None
        assert float(router.losses.z.detach()) != float(losses.z.detach())
    model.eval()
    model.decoder(tokens, encoded)
    assert all(router.losses is None for router in model.decoder.routers())


def test_gradients_reach_every_parameter() -> None:
    model = random_model().train()
    features = torch.randn(2, 16, 160)
    encoded, lengths = model.encode(features, torch.tensor([160, 120]))
    log_probs, _ = model.ctc(encoded, lengths)
    hidden = model.decoder(torch.randint(0, 60, (2, 12)), encoded)
    (model.decoder.embedding.logits(hidden).square().mean() + log_probs.square().mean()).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_bfloat16_network_takes_float32_features() -> None:
    model = random_model()
    features, lengths = torch.randn(2, 16, 60), torch.tensor([60, 44])
    with torch.no_grad():
        expected, _ = model.encode(features, lengths)
        encoded, _ = model.bfloat16().encode(features, lengths)
    assert encoded.dtype == torch.bfloat16
    torch.testing.assert_close(encoded.float(), expected, atol=0.1, rtol=0)


def test_too_long_an_utterance_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 200"):
        random_model().encode(torch.randn(1, 16, 402), torch.tensor([402]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": {"widht": 3}}, "unknown key 'widht'"),
        ({"encoder": {"dim": "wide"}}, "expected int"),
        ({"encoder": {"dim": 30, "num_heads": 4}}, "multiple of num_heads"),
        ({"decoder": {"num_experts_per_token": 9}}, "num_experts_per_token"),
        ({"encoder": 5}, "expected a mapping"),
    ],
)
def test_wrong_configurations_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(ModelConfig, values)

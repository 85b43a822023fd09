"""The encoder against transformers' BertModel with the same random weights, and texts that share a row."""

import torch
from transformers import BertConfig as ReferenceConfig
from transformers import BertModel

from fun_asr.convert.bert import encoder_weights
from fun_asr.punctuation.bert import BertConfig, BertEncoder

SIZES = BertConfig(vocab_size=40, dim=24, num_layers=3, num_heads=4, ffn_dim=48, max_positions=20)


def reference() -> BertModel:
    torch.manual_seed(0)
    config = ReferenceConfig(
        vocab_size=SIZES.vocab_size,
        hidden_size=SIZES.dim,
        num_hidden_layers=SIZES.num_layers,
        num_attention_heads=SIZES.num_heads,
        intermediate_size=SIZES.ffn_dim,
        max_position_embeddings=SIZES.max_positions,
        layer_norm_eps=1e-12,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def encoder_of(model: BertModel) -> BertEncoder:
    encoder = BertEncoder(SIZES).eval()
    encoder.load_state_dict(encoder_weights(model.state_dict(), SIZES, list(range(SIZES.vocab_size))))
    return encoder


@torch.inference_mode()
def test_vectors_are_those_of_transformers_bert() -> None:
    theirs = reference()
    pieces = torch.randint(SIZES.vocab_size, (2, 17))
    mask = torch.ones(2, 17, dtype=torch.int64)
    mask[1, 11:] = 0
    expected = theirs(input_ids=pieces, attention_mask=mask).last_hidden_state
    found = encoder_of(theirs)(pieces, torch.arange(17).expand(2, 17), 1 - mask)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1, :11], expected[1, :11], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_texts_in_one_row_do_not_see_each_other() -> None:
    encoder = encoder_of(reference())
    pieces = torch.randint(SIZES.vocab_size, (1, 12))
    positions = torch.cat([torch.arange(7), torch.arange(5)])[None]
    texts = torch.tensor([[0] * 7 + [3] * 5])
    packed = encoder(pieces, positions, texts)
    alone = encoder(pieces[:, 7:], positions[:, 7:], texts[:, 7:])
    torch.testing.assert_close(packed[:, 7:], alone, rtol=1e-5, atol=1e-5)
    joined = encoder(pieces, positions, torch.zeros_like(texts))
    assert not torch.allclose(packed, joined, atol=1e-3)

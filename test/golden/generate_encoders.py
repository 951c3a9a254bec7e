"""Writes test/golden/bert/ and roberta/: tiny models as model directories, and what torch computes.

    python3 test/golden/generate_encoders.py

As generate_distilbert.py; the weights are float32, and torch computes in float64 from them.
expected.json has "types" (token types) besides.
"""

import torch

from case import Random, encode
from encoders import Config, ForSequenceClassification
from model_directory import write_model

SIZES = {
    "vocab_size": 13,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "num_labels": 3,
}
MODELS = {
    "bert": Config(
        model_type="bert",
        hidden_act="gelu",
        max_position_embeddings=9,
        type_vocab_size=2,
        pad_token_id=0,
        layer_norm_eps=1e-12,
        **SIZES,
    ),
    # Another activation than BERT's, so that both of gelu's forms are seen.
    "roberta": Config(
        model_type="roberta",
        hidden_act="gelu_new",
        max_position_embeddings=10,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        **SIZES,
    ),
}


def config_json(config):
    keys = {key: value for key, value in vars(config).items() if key != "num_labels"}
    names = ["bad", "fair", "good"]
    return {
        **keys,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def generate(name, config):
    rand = Random(name)
    model = ForSequenceClassification(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            center = 1.0 if "LayerNorm.weight" in key else 0.0
            parameter.copy_(rand.floats(parameter.shape, torch.float32, -0.7, 0.7) + center)
            if key.endswith("word_embeddings.weight"):
                parameter[config.pad_token_id].zero_()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    model = model.double()
    ids = rand.ints(2, config.vocab_size, (3, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    ids = torch.where(mask == 1, ids, torch.tensor(config.pad_token_id))
    types = rand.ints(0, config.type_vocab_size, (3, 6))
    labels = torch.tensor([2, 0, 1])
    logits, loss = model(ids, types, mask, labels)
    loss.backward()
    expected = {
        "torch": torch.__version__,
        "ids": encode(ids),
        "types": encode(types),
        "mask": encode(mask),
        "labels": encode(labels),
        "logits": encode(logits),
        "loss": encode(loss),
        "grads": {key: encode(p.grad) for key, p in model.named_parameters()},
    }
    write_model(name, config_json(config), weights, expected)


def main():
    torch.set_num_threads(1)
    for name, config in MODELS.items():
        generate(name, config)


if __name__ == "__main__":
    main()

"""Writes test/golden/distilbert/: a tiny DistilBERT as a model directory, and what torch computes.

    python3 test/golden/generate_distilbert.py

The directory has config.json, model.safetensors (float64) and expected.json {"torch", "ids", "mask",
"labels", "logits", "loss", "grads"}: tensors as in case.py, gradients by name. No dropout.
"""

import os
import sys

import torch

from case import HERE, Random, encode
from model_directory import write_model

sys.path.insert(0, os.path.join(HERE, "..", "..", "bench", "rivals"))
from distilbert import Config, DistilBertForSequenceClassification  # noqa: E402

TINY = Config(
    vocab_size=13,
    max_position_embeddings=9,
    dim=8,
    n_layers=2,
    n_heads=2,
    hidden_dim=12,
    dropout=0.0,
    attention_dropout=0.0,
    seq_classif_dropout=0.0,
    num_labels=3,
)


def config_json(config):
    labels = {str(i): f"LABEL_{i}" for i in range(config.num_labels)}
    keys = {key: value for key, value in vars(config).items() if key != "num_labels"}
    return {"model_type": "distilbert", "activation": "gelu", **keys, "id2label": labels}


def main():
    torch.set_num_threads(1)
    rand = Random("distilbert")
    model = DistilBertForSequenceClassification(TINY).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "orm.weight" in name else 0.0
            parameter.copy_(rand.floats(parameter.shape, torch.float64, -0.7, 0.7) + center)
        model.distilbert.embeddings.word_embeddings.weight[TINY.pad_token_id].zero_()
    ids = rand.ints(1, TINY.vocab_size, (3, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    ids = ids * mask
    labels = torch.tensor([2, 0, 1])
    logits, loss = model(ids, mask, labels)
    loss.backward()
    expected = {
        "torch": torch.__version__,
        "ids": encode(ids),
        "mask": encode(mask),
        "labels": encode(labels),
        "logits": encode(logits),
        "loss": encode(loss),
        "grads": {name: encode(p.grad) for name, p in model.named_parameters()},
    }
    write_model("distilbert", config_json(TINY), model.state_dict(), expected)


if __name__ == "__main__":
    main()

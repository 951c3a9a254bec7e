"""Writes test/golden/distilbert/: a tiny DistilBERT as a model directory, and what torch computes.

    python3 test/golden/generate_distilbert.py

The directory has config.json and model.safetensors (float64), written here byte by byte so that the
library reads a file it has not written itself, and expected.json {"torch", "ids", "mask", "labels",
"logits", "loss", "grads"}: tensors as in case.py, gradients by name. No dropout.
"""

import json
import os
import struct
import sys

import torch

from case import HERE, Random, encode

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


DTYPES = {torch.float64: "F64", torch.float32: "F32"}


def safetensors(tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        part = tensor.detach().contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


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
    folder = os.path.join(HERE, "distilbert")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(safetensors(model.state_dict()))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config_json(TINY), file, indent=2)
        file.write("\n")
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump(expected, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()

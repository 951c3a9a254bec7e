"""Writes test/golden/llama/*/: tiny decoders of the LLaMA family, and what torch computes.

    python3 test/golden/generate_llama.py

Each directory has config.json, model.safetensors (float64) and expected.json {"torch", "ids",
"logits", "loss", "grads", "greedy"}: tensors as in case.py, gradients by name, and the ids that a
greedy continuation of the first row gives. The model is written after transformers' modeling_llama,
in float64.
"""

import math
import os

import torch
import torch.nn.functional as F

from case import Random, encode
from model_directory import write_model

BASE = {
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 19,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES = {
    "llama": {},
    "grouped": {"num_key_value_heads": 2, "head_dim": 6, "attention_bias": True, "mlp_bias": True},
    "llama3": {"num_key_value_heads": 2, "rope_theta": 500.0, "rope_scaling": LLAMA3},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"max_position_embeddings": 5, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 1, "sliding_window": 3},
    "qwen2": {
        "model_type": "qwen2",
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "sliding_window": 2,
    },
}


def shapes(c):
    head = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    qkv_bias = c["model_type"] == "qwen2" or c.get("attention_bias", False)
    found = {"model.embed_tokens.weight": (c["vocab_size"], hidden)}

    def layer(name, rows, columns, bias):
        found[name + ".weight"] = (rows, columns)
        if bias:
            found[name + ".bias"] = (rows,)

    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        layer(at + "self_attn.q_proj", q, hidden, qkv_bias)
        layer(at + "self_attn.k_proj", kv, hidden, qkv_bias)
        layer(at + "self_attn.v_proj", kv, hidden, qkv_bias)
        layer(at + "self_attn.o_proj", hidden, q, c.get("attention_bias", False))
        for name in ("gate", "up"):
            layer(at + f"mlp.{name}_proj", inner, hidden, c.get("mlp_bias", False))
        layer(at + "mlp.down_proj", hidden, inner, c.get("mlp_bias", False))
        found[at + "input_layernorm.weight"] = (hidden,)
        found[at + "post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    if not c["tie_word_embeddings"]:
        found["lm_head.weight"] = (c["vocab_size"], hidden)
    return found


def inverse_frequencies(c, dim, length):
    base, scaling = c["rope_theta"], c.get("rope_scaling")
    kind = None if scaling is None else scaling.get("rope_type", scaling.get("type"))
    if kind == "dynamic":
        longest = c["max_position_embeddings"]
        length = max(length, longest)
        base *= ((scaling["factor"] * length / longest) - (scaling["factor"] - 1)) ** (dim / (dim - 2))
    inv = 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if kind == "linear":
        inv = inv / scaling["factor"]
    if kind == "llama3":
        old = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        wavelength = 2 * math.pi / inv
        scaled = torch.where(wavelength > old / low, inv / scaling["factor"], inv)
        smooth = (old / wavelength - low) / (high - low)
        smoothed = (1 - smooth) * scaled / scaling["factor"] + smooth * scaled
        medium = ~(wavelength < old / high) & ~(wavelength > old / low)
        inv = torch.where(medium, smoothed, scaled)
    return inv


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def forward(c, w, ids):
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim", c["hidden_size"] // heads)
    batch, length = ids.shape
    angles = torch.arange(length, dtype=torch.float64)[:, None] * inverse_frequencies(c, dim, length)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos(), angles.sin()
    row, column = torch.arange(length)[:, None], torch.arange(length)
    seen = column <= row
    if c["model_type"] == "mistral":
        seen &= row - column < c["sliding_window"]

    def project(name, x):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def norm(name, x):
        return w[name + ".weight"] * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"])

    def turned(x):
        return x * cos + rotate_half(x) * sin

    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        h = norm(at + "input_layernorm", x)

        def split(name, n):
            return project(at + f"self_attn.{name}_proj", h).view(batch, length, n, dim).transpose(1, 2)

        q, k, v = turned(split("q", heads)), turned(split("k", kv)), split("v", kv)
        k, v = k.repeat_interleave(heads // kv, 1), v.repeat_interleave(heads // kv, 1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(dim)).masked_fill(~seen, -math.inf)
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, heads * dim)
        x = x + project(at + "self_attn.o_proj", attended)
        h = norm(at + "post_attention_layernorm", x)
        gated = F.silu(project(at + "mlp.gate_proj", h)) * project(at + "mlp.up_proj", h)
        x = x + project(at + "mlp.down_proj", gated)
    head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
    return F.linear(norm("model.norm", x), w[head])


def write(name, change):
    config = {**BASE, **change}
    rand = Random("llama " + name)
    weights = {}
    for key, shape in shapes(config).items():
        center = 1.0 if "norm" in key else 0.0
        weights[key] = (rand.floats(shape, torch.float64, -0.5, 0.5) + center).requires_grad_()
    ids = rand.ints(0, config["vocab_size"], (2, 7))
    logits = forward(config, weights, ids)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    greedy = ids[:1, :4]
    with torch.no_grad():
        for _ in range(8):
            chosen = forward(config, weights, greedy)[:, -1:].argmax(-1)
            greedy = torch.cat((greedy, chosen), dim=1)
    expected = {
        "torch": torch.__version__,
        "ids": encode(ids),
        "logits": encode(logits),
        "loss": encode(loss),
        "grads": {key: encode(weight.grad) for key, weight in weights.items()},
        "greedy": greedy[0].tolist(),
    }
    write_model(os.path.join("llama", name), config, weights, expected)


def main():
    torch.set_num_threads(1)
    for name, change in CASES.items():
        write(name, change)


if __name__ == "__main__":
    main()

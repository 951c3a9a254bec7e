"""BERT and RoBERTa for sequence classification in plain torch, with Hugging Face's weight names.

The architectures of transformers' modeling_bert.py and modeling_roberta.py: post-layer-norm layers,
scores divided by the root of the heads' width, masked scores set to the lowest number. They stand in
for transformers, which is not needed to make reference values.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass
class Config:
    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    max_position_embeddings: int
    type_vocab_size: int
    pad_token_id: int
    layer_norm_eps: float
    num_labels: int
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float = None
    initializer_range: float = 0.02


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        size, pad = config.hidden_size, config.pad_token_id
        self.beside_padding = config.model_type == "roberta"
        self.pad = pad
        self.word_embeddings = nn.Embedding(config.vocab_size, size, padding_idx=pad)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, size, padding_idx=pad if self.beside_padding else None
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def positions(self, ids):
        if not self.beside_padding:
            return torch.arange(ids.size(1)).unsqueeze(0).expand_as(ids)
        real = ids.ne(self.pad).int()
        return (torch.cumsum(real, dim=1).type_as(real) * real).long() + self.pad

    def forward(self, ids, types):
        hidden = self.word_embeddings(ids) + self.token_type_embeddings(types)
        return self.LayerNorm(hidden + self.position_embeddings(self.positions(ids)))


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Linear(config.hidden_size, config.hidden_size))

    def forward(self, hidden, mask):
        batch, length, size = hidden.shape
        width = size // self.heads

        def split(x):
            return x.view(batch, length, self.heads, width).permute(0, 2, 1, 3)

        q, k, v = split(self.query(hidden)), split(self.key(hidden)), split(self.value(hidden))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(width)
        hidden_away = (1.0 - mask[:, None, None, :].to(scores.dtype)) * torch.finfo(scores.dtype).min
        weights = F.softmax(scores + hidden_away, dim=-1)
        return torch.matmul(weights, v).permute(0, 2, 1, 3).reshape(batch, length, size)


class Output(nn.Module):
    def __init__(self, inner, config):
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x, residual):
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Output(config.hidden_size, config)

    def forward(self, hidden, mask):
        return self.output(self.self(hidden, mask), hidden)


class Intermediate(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden):
        return self.activation(self.dense(hidden))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Output(config.intermediate_size, config)

    def forward(self, hidden, mask):
        attended = self.attention(hidden, mask)
        return self.output(self.intermediate(attended), attended)


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden, mask):
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return hidden


class Pooler(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden):
        return torch.tanh(self.dense(hidden[:, 0]))


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        if config.model_type == "bert":
            self.pooler = Pooler(config)

    def forward(self, ids, types, mask):
        return self.encoder(self.embeddings(ids, types), mask)


class RobertaHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden):
        return self.out_proj(torch.tanh(self.dense(hidden[:, 0])))


class ForSequenceClassification(nn.Module):
    """BertForSequenceClassification or RobertaForSequenceClassification, as the config says."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        setattr(self, config.model_type, Body(config))
        if config.model_type == "bert":
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        else:
            self.classifier = RobertaHead(config)

    def forward(self, ids, types, mask, labels):
        """The logits and the mean cross entropy."""
        body = getattr(self, self.config.model_type)
        hidden = body(ids, types, mask)
        logits = self.classifier(body.pooler(hidden) if hasattr(body, "pooler") else hidden)
        return logits, F.cross_entropy(logits, labels)

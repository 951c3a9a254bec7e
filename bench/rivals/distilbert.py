"""DistilBERT for sequence classification in plain torch, with Hugging Face's weight names.

The architecture of transformers' modeling_distilbert.py: post-layer-norm blocks, queries scaled before
the product, masked scores set to the lowest number, exact GELU, padding row without gradient. It stands
in for transformers, which is not needed to run the comparison or to make reference values.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab_size: int = 30522
    max_position_embeddings: int = 512
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    initializer_range: float = 0.02
    pad_token_id: int = 0
    num_labels: int = 2


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.dim, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids):
        positions = torch.arange(ids.size(1)).unsqueeze(0).expand_as(ids)
        hidden = self.word_embeddings(ids) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(hidden))


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_heads = config.n_heads
        self.q_lin = nn.Linear(config.dim, config.dim)
        self.k_lin = nn.Linear(config.dim, config.dim)
        self.v_lin = nn.Linear(config.dim, config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)
        self.dropout = nn.Dropout(config.attention_dropout)

    def forward(self, hidden, mask):
        batch, length, dim = hidden.shape
        width = dim // self.n_heads

        def heads(x):
            return x.view(batch, length, self.n_heads, width).transpose(1, 2)

        q = heads(self.q_lin(hidden)) / math.sqrt(width)
        k, v = heads(self.k_lin(hidden)), heads(self.v_lin(hidden))
        scores = torch.matmul(q, k.transpose(2, 3))
        hidden_away = (mask == 0).view(batch, 1, 1, length).expand_as(scores)
        scores = scores.masked_fill(hidden_away, torch.finfo(scores.dtype).min)
        weights = self.dropout(F.softmax(scores, dim=-1))
        context = torch.matmul(weights, v)
        return self.out_lin(context.transpose(1, 2).reshape(batch, length, dim))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)

    def forward(self, hidden):
        return self.dropout(self.lin2(F.gelu(self.lin1(hidden))))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.ffn = FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=1e-12)

    def forward(self, hidden, mask):
        hidden = self.sa_layer_norm(self.attention(hidden, mask) + hidden)
        return self.output_layer_norm(self.ffn(hidden) + hidden)


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.n_layers))

    def forward(self, hidden, mask):
        for block in self.layer:
            hidden = block(hidden, mask)
        return hidden


class DistilBert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)

    def forward(self, ids, mask):
        return self.transformer(self.embeddings(ids), mask)


class DistilBertForSequenceClassification(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.distilbert = DistilBert(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, config.num_labels)
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=config.initializer_range)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.distilbert.embeddings.word_embeddings.weight[config.pad_token_id].zero_()

    def forward(self, ids, mask, labels=None):
        """The logits, and the mean cross entropy where labels are given."""
        first = self.distilbert(ids, mask)[:, 0]
        logits = self.classifier(self.dropout(F.relu(self.pre_classifier(first))))
        return logits, None if labels is None else F.cross_entropy(logits, labels)

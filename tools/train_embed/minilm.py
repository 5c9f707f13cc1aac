# SPDX-License-Identifier: Apache-2.0
"""MiniLM in plain torch: layers that can be left out, frozen and written down again one by one."""

import json
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

from teacher import find

CLS, SEP, VOCAB, D, FF, HEADS, POSITIONS = 101, 102, 30522, 384, 1536, 12, 512


def safetensors(path):
    with open(path, "rb") as f:
        raw = f.read()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__" and t["dtype"] == "F32":
            a, z = t["data_offsets"]
            out[name] = torch.from_numpy(np.frombuffer(raw[8 + n + a:8 + n + z], np.float32).reshape(t["shape"]).copy())
    return out


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, FF), nn.Linear(FF, D)
        self.norm1, self.norm2 = nn.LayerNorm(D, eps=1e-12), nn.LayerNorm(D, eps=1e-12)
        self.drop = 0.0

    def forward(self, x, mask):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, t, D)
        x = self.norm1(x + F.dropout(self.o(a), self.drop, self.training))
        return self.norm2(x + F.dropout(self.down(F.gelu(self.up(x))), self.drop, self.training))


class Bert(nn.Module):
    def __init__(self, folder):
        super().__init__()
        s = safetensors(os.path.join(folder, "model.safetensors"))
        self.word, self.place, self.side = nn.Embedding(VOCAB, D), nn.Embedding(POSITIONS, D), nn.Embedding(2, D)
        self.norm = nn.LayerNorm(D, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(6))
        e = "embeddings."
        with torch.no_grad():
            for part, name in ((self.word, "word_embeddings"), (self.place, "position_embeddings"),
                               (self.side, "token_type_embeddings"), (self.norm, "LayerNorm")):
                part.weight.copy_(s[e + name + ".weight"])
            self.norm.bias.copy_(s[e + "LayerNorm.bias"])
            for i, layer in enumerate(self.layers):
                at = f"encoder.layer.{i}."
                for kind in ("weight", "bias"):
                    own = [s[at + f"attention.self.{x}.{kind}"] for x in ("query", "key", "value")]
                    getattr(layer.qkv, kind).copy_(torch.cat(own))
                    for part, name in ((layer.o, "attention.output.dense"), (layer.norm1, "attention.output.LayerNorm"),
                                       (layer.up, "intermediate.dense"), (layer.down, "output.dense"),
                                       (layer.norm2, "output.LayerNorm")):
                        getattr(part, kind).copy_(s[at + name + "." + kind])

    def forward(self, ids, sides, mask):
        x = self.norm(self.word(ids) + self.place.weight[:ids.shape[1]] + self.side(sides))
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :].bool())
        return x


class Teacher:
    """Texts to tokens and unit vectors."""

    def __init__(self, folder=None):
        self.folder = find(folder)
        self.tok = Tokenizer.from_file(os.path.join(self.folder, "tokenizer.json"))
        self.tok.no_padding(), self.tok.no_truncation()
        with open(os.path.join(self.folder, "vocab.txt"), encoding="utf-8") as f:
            self.vocab = [line.rstrip("\n") for line in f]
        self.net = Bert(self.folder).eval()

    def tokens(self, texts, most=62):
        return [e.ids[:most] for e in self.tok.encode_batch(texts, add_special_tokens=False)]

    @torch.no_grad()
    def encode(self, texts, batch=128):
        ids = [[CLS] + t + [SEP] for t in self.tokens(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = torch.empty(len(ids), D)
        for i in range(0, len(order), batch):
            at = order[i:i + batch]
            rows, sides, mask = batch_of([ids[k] for k in at])
            h = self.net(rows, sides, mask)
            out[at] = F.normalize((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)
        return out


def batch_of(rows, sides=None):
    most = max(map(len, rows))
    ids, kinds, mask = (torch.zeros(len(rows), most, dtype=t) for t in (torch.long, torch.long, torch.float))
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
        mask[i, :len(row)] = 1
        if sides:
            kinds[i, :len(row)] = torch.tensor(sides[i])
    return ids, kinds, mask


def layer_tensors(net, prefix, first=0):
    """Layers from `first` on, as tensors of a file."""
    out = []
    for i, layer in enumerate(net.layers):
        if i < first:
            continue
        at = f"{prefix}blk.{i}."
        parts = list(zip(("attn_q", "attn_k", "attn_v"), layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3)))
        parts += [(name, part.weight, part.bias) for name, part in
                  (("attn_output", layer.o), ("attn_output_norm", layer.norm1), ("ffn_up", layer.up),
                   ("ffn_down", layer.down), ("layer_output_norm", layer.norm2))]
        for name, weight, bias in parts:
            out.append((at + name + ".weight", weight.detach().numpy(), "F32" if "norm" in name else "Q8_0"))
            out.append((at + name + ".bias", bias.detach().numpy(), "F32"))
    return out

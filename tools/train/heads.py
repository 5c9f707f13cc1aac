# SPDX-License-Identifier: Apache-2.0
"""Which heads look things up: the attention that each head of a checkpoint pays, from the token in
front of an answer, to the row the answer is copied from; and from any token to the one before it.

    python heads.py --checkpoint OUT/last.pt --vocab DATA/vocab.json \\
        --words ../../models/recall_words.txt
"""
import argparse
import math

import torch
import torch.nn.functional as F

import recall
import tokenizer
from model import Model


def attention(model, ids):
    """(layers, heads, n, n), in floats."""
    s = model.s
    n, h, kv, half = len(ids), s["heads"], s["kv_heads"], s["head"] // 2
    x = model.embed(torch.tensor([ids]))
    cos, sin = model.cos[:n], model.sin[:n]
    hidden = torch.full((n, n), -math.inf).triu(1)
    out = []
    for b in model.blocks:
        y = b.qkv(F.rms_norm(x, (x.shape[-1],), b.norm1, s["eps"]))
        y = y.view(n, h + 2 * kv, s["head"]).transpose(0, 1)[: h + kv]
        one, two = y[..., :half], y[..., half:]
        y = torch.cat([one * cos - two * sin, one * sin + two * cos], -1)
        k = y[h:].repeat_interleave(h // kv, 0)
        out.append((y[:h] @ k.transpose(1, 2) / math.sqrt(s["head"]) + hidden).softmax(-1))
        x = b(x, cos, sin)
    return torch.stack(out)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--vocab", required=True)
    p.add_argument("--words", required=True)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--samples", type=int, default=10)
    a = p.parse_args()
    c = torch.load(a.checkpoint, weights_only=False)
    model = Model(c["shape"])
    model.load_state_dict(c["model"])
    tok = tokenizer.Tokenizer.load(a.vocab)
    maker = recall.Recall(tok, recall.read_words(a.words), tokenizer.BOS)
    found = before = count = 0
    with torch.no_grad():
        for ids, answers in recall.evaluation(maker, "multi-query", a.length, a.samples, 11):
            w = attention(model, ids)
            before = before + w.diagonal(-1, 2, 3).mean(-1)
            for at, _ in answers:
                found = found + w[:, :, at - 1, ids.index(ids[at - 1]) + 1]
                count += 1
    print("retrieval, layer by head:", *(found / count).tolist(), sep="\n  ")
    print("one back, layer by head:", *(before / a.samples).tolist(), sep="\n  ")


if __name__ == "__main__":
    main()

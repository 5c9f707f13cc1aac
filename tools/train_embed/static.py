# SPDX-License-Identifier: Apache-2.0
"""The static encoder: a table of vectors distilled from the teacher.

1. every token through the teacher alone, main directions, weights a / (a + p) by frequency (model2vec; SIF)
2. the mean of a sentence's rows is drawn to the teacher's vector of it, and the similarities within a batch to the
   teacher's similarities"""

import random

import torch
import torch.nn.functional as F

import gguf
from minilm import CLS, SEP, VOCAB

SIF = 1e-3


@torch.no_grad()
def words(teacher):
    out = []
    for i in range(0, VOCAB, 1024):
        ids = torch.tensor([[CLS, k, SEP] for k in range(i, min(i + 1024, VOCAB))])
        out.append(teacher.net(ids, torch.zeros_like(ids), torch.ones(ids.shape)).mean(1))
    return torch.cat(out)


def frequencies(ids):
    """Half counted, half by rank: WordPiece's tokens stand in the order of their frequency."""
    count = torch.ones(VOCAB)
    for row in ids:
        count.index_add_(0, torch.tensor(row, dtype=torch.long), torch.ones(len(row)))
    rank = 1 / (torch.arange(VOCAB).float().clamp(min=1000) - 990)
    return 0.5 * count / count.sum() + 0.5 * rank / rank.sum()


def train(teacher, lines, vectors, dim, epochs, batch=256, rate=2e-3):
    seen = vectors[:20000]
    main = torch.linalg.svd(seen - vectors.mean(0), full_matrices=False)[2][:dim].T
    target = F.normalize(vectors @ main, dim=1)
    ids = teacher.tokens(lines)
    alone = words(teacher)
    table = (alone - alone[1000:].mean(0)) @ main
    table = torch.nn.Parameter(table / table.norm(dim=1).mean())
    weight = torch.nn.Parameter(SIF / (SIF + frequencies(ids)))
    keep = [i for i, row in enumerate(ids) if row]
    best = torch.optim.Adam([{"params": [table], "lr": rate}, {"params": [weight], "lr": 2.5 * rate}])
    slow = torch.optim.lr_scheduler.LambdaLR(best, lambda s: max(0.0, 1 - s * batch / (epochs * len(keep))))
    for epoch in range(epochs):
        random.Random(epoch).shuffle(keep)
        total = 0.0
        for i in range(0, len(keep) - batch + 1, batch):
            at = keep[i:i + batch]
            flat = torch.tensor([t for k in at for t in ids[k]])
            first = torch.tensor([0] + [len(ids[k]) for k in at]).cumsum(0)[:-1]
            left = (torch.rand(len(flat)) > 0.1).float()
            u = F.normalize(F.embedding_bag(flat, table, first, mode="sum", per_sample_weights=weight[flat] * left), dim=1)
            loss = (1 - (u * target[at]).sum(1)).mean() + 4 * ((u @ u.T - vectors[at] @ vectors[at].T) ** 2).mean()
            best.zero_grad(), loss.backward(), best.step(), slow.step()
            total += loss.item()
        print(f"static: epoch {epoch + 1}/{epochs}: {total / max(1, len(keep) // batch):.4f}", flush=True)
    return table.detach(), weight.detach()


def export(table, weight, vocab, path, licence):
    meta = {"general.architecture": "larder-static", "general.name": "larder-static", "general.license": licence,
            "larder-static.embedding_length": table.shape[1], "larder-static.context_length": 512}
    gguf.write(path, meta | gguf.vocabulary(vocab), [
        ("token_embd.weight", table.numpy(), "Q4_0"), ("token_weight.weight", weight.numpy(), "F32")])

# SPDX-License-Identifier: Apache-2.0
"""The static encoder: a table of vectors distilled from the teacher, then taught which questions are the same.

1. every token through the teacher alone, main directions, weights a / (a + p) by frequency (model2vec; SIF)
2. distilled: the mean of a sentence's rows shall point where the teacher's vector of it points
3. contrastive: generated pairs, logistic on the cosine plus a softmax over the batch (as src/embed/tune.c)"""

import collections

import numpy as np
import torch
import torch.nn.functional as F

import gguf

SIF = 1e-3


class Static(torch.nn.Module):
    def __init__(self, rows, weights):
        super().__init__()
        self.rows = torch.nn.EmbeddingBag.from_pretrained(rows, freeze=False, mode="sum")
        self.weight = torch.nn.Parameter(weights)
        self.place = torch.nn.Parameter(torch.tensor([10.0, 0.6]))

    def forward(self, bags):
        ids = torch.cat(bags)
        at = torch.tensor([0] + [len(b) for b in bags[:-1]]).cumsum(0).to(ids.device)
        return F.normalize(self.rows(ids, at, per_sample_weights=self.weight[ids]), dim=1)


class Bags:
    """Texts as token ids without specials and unknowns; part of them dropped while training."""

    def __init__(self, tok, device):
        self.tok, self.device = tok, device
        self.skip = set(tok.all_special_ids)

    def __call__(self, texts, drop=0.0):
        out = []
        for ids in self.tok(texts, add_special_tokens=False, truncation=True, max_length=128)["input_ids"]:
            ids = [i for i in ids if i not in self.skip] or [self.tok.convert_tokens_to_ids("?")]
            keep = [i for i in ids if not drop or np.random.rand() >= drop] or ids
            out.append(torch.tensor(keep, device=self.device))
        return out


def start(teacher, lines, dim, limit):
    """Rows and weights before any training."""
    x = teacher.words(limit)
    x = torch.cat([x, torch.zeros(len(teacher.vocab) - limit, x.shape[1])])
    mean = x[:limit].mean(0)
    _, _, v = torch.linalg.svd(x[:limit] - mean, full_matrices=False)
    rows = (x - mean) @ v[:dim].T
    rows[limit:] = 0
    seen = collections.Counter(i for ids in teacher.tok(lines, add_special_tokens=False)["input_ids"] for i in ids)
    total = sum(seen.values())
    # Where a token was never seen its rank in the vocabulary, which is by frequency, stands in.
    p = torch.tensor([(seen.get(i, 0) + 1) / (total + len(teacher.vocab)) for i in range(len(teacher.vocab))])
    return F.normalize(rows, dim=1), SIF / (SIF + p), v[:dim]


def pair_loss(model, a, b, same):
    c = (a * b).sum(1)
    loss = F.binary_cross_entropy_with_logits(model.place[0] * (c - model.place[1]), same)
    yes = same > 0
    if yes.any():
        loss = loss + 0.3 * F.cross_entropy(15 * a[yes] @ b.T, torch.arange(len(a), device=a.device)[yes])
    return loss


def train(teacher, lines, pairs, dim, epochs, device, limit, batch=256):
    rows, weights, turn = start(teacher, lines, dim, limit)
    model = Static(rows, weights).to(device)
    bags = Bags(teacher.tok, device)
    texts = lines + [t for p in pairs for t in p[:2]]
    goal = F.normalize(teacher.encode(texts) @ turn.T, dim=1).to(device)
    best = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        total = 0.0
        for at in torch.randperm(len(texts)).split(batch):
            u = model(bags([texts[i] for i in at], 0.1))
            g = goal[at.to(device)]
            near = F.cross_entropy(20 * u @ g.T, torch.arange(len(at), device=device))
            loss = (1 - (u * g).sum(1)).mean() + 0.2 * near
            best.zero_grad(), loss.backward(), best.step()
            total += loss.item() * len(at)
        print(f"static: distil epoch {epoch + 1}/{epochs}: {total / len(texts):.4f}", flush=True)
    best = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        total = 0.0
        for at in torch.randperm(len(pairs)).split(batch):
            part = [pairs[i] for i in at]
            a, b = (model(bags([p[k] for p in part], 0.1)) for k in (0, 1))
            same = torch.tensor([float(p[2]) for p in part], device=device)
            # what the teacher knew must not be forgotten
            g = goal[(len(lines) + 2 * at).to(device)]
            loss = pair_loss(model, a, b, same) + 0.5 * (1 - (a * g).sum(1)).mean()
            best.zero_grad(), loss.backward(), best.step()
            total += loss.item() * len(part)
        print(f"static: pairs epoch {epoch + 1}/{epochs}: {total / len(pairs):.4f}", flush=True)
    return model


@torch.no_grad()
def score(model, tok, pairs, device):
    bags = Bags(tok, device)
    return torch.cat([(model(bags([p[0] for p in pairs[i:i + 512]])) * model(bags([p[1] for p in pairs[i:i + 512]]))).sum(1)
                      for i in range(0, len(pairs), 512)]).cpu()


def export(model, vocab, path, licence):
    meta = {"general.architecture": "larder-static", "general.name": "larder-static-256", "general.license": licence,
            "larder-static.embedding_length": model.rows.weight.shape[1], "larder-static.context_length": 512}
    gguf.write(path, meta | gguf.vocabulary(vocab), [
        ("token_embd.weight", model.rows.weight.detach().cpu().numpy(), "Q8_0"),
        ("token_weight.weight", model.weight.detach().cpu().numpy(), "F32")])

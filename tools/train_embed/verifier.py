# SPDX-License-Identifier: Apache-2.0
"""The pair verifier: the teacher read as a cross-encoder, its last layers taught on pairs; and the file that holds it
beside the teacher itself as the encoder.

Input as src/embed/pair.c makes it: [CLS] a [SEP] b [SEP], segments 0 and 1; both orders while training."""

import os
import random

import torch
import torch.nn.functional as F
from torch import nn

import gguf
from minilm import CLS, D, SEP, Bert, batch_of, layer_tensors

FROZEN = 2    # layers, and the token table: the encoder's own, so the file holds them once
CONTEXT = 256
SOFT = 0.03


class Verifier(nn.Module):
    def __init__(self, folder):
        super().__init__()
        self.net, self.pool, self.out = Bert(folder), nn.Linear(D, D), nn.Linear(D, 1)
        nn.init.eye_(self.pool.weight), nn.init.normal_(self.out.weight, std=0.02)
        for p in self.net.parameters():
            p.requires_grad_(False)
        for layer in self.net.layers[FROZEN:]:
            layer.drop = 0.05
            for p in layer.parameters():
                p.requires_grad_(True)

    def forward(self, ids, sides, mask):
        return self.out(torch.tanh(self.pool(self.net(ids, sides, mask)[:, 0].float())))[:, 0]


def row_of(a, b, most=30):
    a, b = a[:most], b[:most]
    return [CLS] + a + [SEP] + b + [SEP], [0] * (len(a) + 2) + [1] * (len(b) + 1)


def batches(teacher, pairs, at, batch):
    """Eight batches from pair `at` on, of pairs of like length."""
    part, r = pairs[at:at + 8 * batch], random.Random(at)
    a, b = teacher.tokens([p[0] for p in part]), teacher.tokens([p[1] for p in part])
    rows = [row_of(*((x, y) if r.random() < 0.5 else (y, x))) + (min(max(float(p[2]), SOFT), 1 - SOFT),)
            for p, x, y in zip(part, a, b)]
    rows.sort(key=lambda row: len(row[0]))
    rows = [rows[i:i + batch] for i in range(0, len(rows), batch)]
    r.shuffle(rows)
    return rows


def train(teacher, pairs, keep, batch=64, rate=1.5e-4):
    """One pass. `keep`: a file; what was trained so far is read from it and goes on."""
    model = Verifier(teacher.folder)
    params = [p for p in model.parameters() if p.requires_grad]
    best = torch.optim.AdamW(params, lr=rate, weight_decay=0.01)
    steps, step, lost = len(pairs) // (8 * batch) * 8, 0, []
    if os.path.exists(keep):
        saved = torch.load(keep)
        model.load_state_dict(saved["model"]), best.load_state_dict(saved["best"])
        step = saved["step"]
    model.train()
    while step < steps:
        for rows in batches(teacher, pairs, step * batch, batch):
            for group in best.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 100) * max(0.03, 1 - step / steps)
            with torch.autocast("cpu", torch.bfloat16):
                z = model(*batch_of([row[0] for row in rows], [row[1] for row in rows]))
            loss = F.binary_cross_entropy_with_logits(z, torch.tensor([row[2] for row in rows]))
            best.zero_grad(), loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            best.step()
            step += 1
            lost.append(loss.item())
        if step % 200 == 0 or step == steps:
            print(f"verifier: {step} of {steps}: {sum(lost) / len(lost):.4f}", flush=True)
            lost.clear()
            torch.save({"model": model.state_dict(), "best": best.state_dict(), "step": step}, keep + ".new")
            os.replace(keep + ".new", keep)
    return model.eval()


def export(teacher, model, path, licence):
    net = teacher.net
    meta = {"general.architecture": "bert", "general.name": "larder-encoder", "general.license": licence,
            "bert.block_count": 6, "bert.embedding_length": D, "bert.feed_forward_length": 4 * D,
            "bert.context_length": CONTEXT, "bert.attention.head_count": 12,
            "bert.attention.layer_norm_epsilon": 1e-12, "bert.attention.causal": False, "bert.pooling_type": 1,
            "bert.larder.tokens_max": CONTEXT, "larder.pair.scale": 1.0, "larder.pair.bias": 0.0}
    out = [("token_embd.weight", net.word.weight, "Q4_0"), ("position_embd.weight", net.place.weight[:CONTEXT], "F16"),
           ("token_types.weight", net.side.weight, "F32"), ("token_embd_norm.weight", net.norm.weight, "F32"),
           ("token_embd_norm.bias", net.norm.bias, "F32"), ("pair.cls.weight", model.pool.weight, "F16"),
           ("pair.cls.bias", model.pool.bias, "F32"), ("pair.cls.output.weight", model.out.weight, "F32"),
           ("pair.cls.output.bias", model.out.bias, "F32")]
    tensors = [(name, x.detach().numpy(), kind) for name, x, kind in out]
    gguf.write(path, meta | gguf.vocabulary(teacher.vocab),
               tensors + layer_tensors(net, "") + layer_tensors(model.net, "pair.", FROZEN))

# SPDX-License-Identifier: Apache-2.0
"""A Llama in PyTorch: RMSNorm, grouped-query attention with RoPE (pairs p, p + d/2 here; export.py
permutes), SwiGLU, tied embedding. Nothing that the GGUF architecture "llama" does not have."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

SHAPE = {
    "vocab": 2048,
    "width": 256,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head": 64,
    "ff": 640,
    "context": 4096,
    "rope_base": 1e6,
    "eps": 1e-5,
}


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.norm1 = nn.Parameter(torch.ones(s["width"]))
        self.norm2 = nn.Parameter(torch.ones(s["width"]))
        self.qkv = nn.Linear(s["width"], (s["heads"] + 2 * s["kv_heads"]) * s["head"], bias=False)
        self.out = nn.Linear(s["heads"] * s["head"], s["width"], bias=False)
        self.gate_up = nn.Linear(s["width"], 2 * s["ff"], bias=False)
        self.down = nn.Linear(s["ff"], s["width"], bias=False)

    def forward(self, x, cos, sin):
        s = self.s
        b, n, d = x.shape
        h, kv, half = s["heads"], s["kv_heads"], s["head"] // 2
        y = F.rms_norm(x, (d,), self.norm1.to(x.dtype), s["eps"])
        y = self.qkv(y).view(b, n, h + 2 * kv, s["head"]).transpose(1, 2)
        qk, v = y[:, : h + kv], y[:, h + kv :]
        one, two = qk[..., :half], qk[..., half:]
        qk = torch.cat([one * cos - two * sin, one * sin + two * cos], -1)
        q, k = qk[:, :h], qk[:, h:]
        k, v = k.repeat_interleave(h // kv, 1), v.repeat_interleave(h // kv, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, -1))
        y = F.rms_norm(x, (d,), self.norm2.to(x.dtype), s["eps"])
        gate, up = self.gate_up(y).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.embed = nn.Embedding(s["vocab"], s["width"])
        self.blocks = nn.ModuleList(Block(s) for _ in range(s["layers"]))
        self.norm = nn.Parameter(torch.ones(s["width"]))
        half = s["head"] // 2
        freq = s["rope_base"] ** (-torch.arange(half) / half)
        angle = torch.outer(torch.arange(s["context"]).float(), freq)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = p.shape[1] ** -0.5
                if name.endswith(("out.weight", "down.weight")):
                    std /= math.sqrt(2 * s["layers"])
                nn.init.normal_(p, std=std)
        self.plant()

    @torch.no_grad()
    def plant(self):
        """What a Llama lacks: a constant to look back from. Sixteen elements of all embeddings
        begin with the same value, and the first two heads of the first layer begin as heads that
        look one and two tokens back: q is k turned by so many steps. The rest is learned."""
        s, const, far, strength = self.s, 16, 10, 7.0
        nn.init.normal_(self.embed.weight, std=0.05)
        self.embed.weight[:, :const] = 0.1
        unit = strength / (const * 0.1 / self.embed.weight.pow(2).mean(1).sqrt().mean())
        half = s["head"] // 2
        freq = s["rope_base"] ** (-torch.arange(far) / half)
        w = self.blocks[0].qkv.weight
        for back, at in (
            (1, 0),
            (2, s["head"]),
            (0, s["heads"] * s["head"]),
        ):  # two queries, one key
            w[at : at + s["head"]] *= 0.1
            w[at : at + far, :const] = (unit * torch.cos(back * freq))[:, None]
            w[at + half : at + half + far, :const] = (-unit * torch.sin(back * freq))[:, None]

    def forward(self, ids, at=None, half=True):
        """Logits at the places `at` of the flattened batch (all without it)."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            n = ids.shape[1]
            kind = torch.bfloat16 if half else torch.float32
            x = self.embed(ids).to(kind)
            cos, sin = self.cos[:n].to(kind), self.sin[:n].to(kind)
            for b in self.blocks:
                x = b(x, cos, sin)
            x = F.rms_norm(x, (x.shape[-1],), self.norm.to(kind), self.s["eps"]).reshape(
                -1, x.shape[-1]
            )
            if at is not None:
                x = x[at]
            return F.linear(x, self.embed.weight).float()


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by five Newton-Schulz steps (Jordan et al., 2024), for matrices."""

    def __init__(self, params, lr, momentum=0.95, decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = orthogonal(p.grad.lerp(m, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(u, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(g):
    tall = g.shape[0] > g.shape[1]
    x = (g.T if tall else g).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).float()

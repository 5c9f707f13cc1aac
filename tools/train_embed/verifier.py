# SPDX-License-Identifier: Apache-2.0
"""The pair verifier: some layers of the teacher, read as a cross-encoder, taught on generated pairs.

Input as src/embed/pair.c makes it: [CLS] a [SEP] b [SEP], segments 0 and 1; both orders while training, the
lesser text (by bytes) first when used. The probability is calibrated on pairs that were held out."""

import torch
import torch.nn.functional as F
from transformers import AutoModel

import gguf


class Verifier(torch.nn.Module):
    def __init__(self, path, layers):
        super().__init__()
        self.net = AutoModel.from_pretrained(path, add_pooling_layer=False)
        every = self.net.encoder.layer
        self.net.encoder.layer = torch.nn.ModuleList(every[i] for i in layers)
        d = self.net.config.hidden_size
        self.pool, self.out = torch.nn.Linear(d, d), torch.nn.Linear(d, 1)

    def forward(self, b):
        h = self.net(**b).last_hidden_state[:, 0]
        return self.out(torch.tanh(self.pool(h)))[:, 0]


def sides(a, b):
    return (a, b) if a.encode() <= b.encode() else (b, a)


def batch_of(tok, pairs, device):
    return tok([p[0] for p in pairs], [p[1] for p in pairs], padding=True, truncation=True, max_length=96,
               return_tensors="pt").to(device)


def train(teacher, pairs, layers, epochs, device, batch=64, rate=5e-5):
    model = Verifier(teacher.path, layers).to(device)
    steps = max(1, epochs * len(pairs) // batch)
    best = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    slow = torch.optim.lr_scheduler.LambdaLR(best, lambda s: min(1, (s + 1) / (0.1 * steps)) * max(0.02, 1 - s / steps))
    for epoch in range(epochs):
        total = 0.0
        model.train()
        for at in torch.randperm(len(pairs)).split(batch):
            part = [pairs[i] if torch.rand(1) < 0.5 else (pairs[i][1], pairs[i][0], pairs[i][2]) for i in at]
            y = torch.tensor([0.99 if p[2] else 0.01 for p in part], device=device)
            loss = F.binary_cross_entropy_with_logits(model(batch_of(teacher.tok, part, device)), y)
            best.zero_grad(), loss.backward(), best.step(), slow.step()
            total += loss.item() * len(part)
        print(f"verifier: epoch {epoch + 1}/{epochs}: {total / len(pairs):.4f}", flush=True)
    return model.eval()


@torch.no_grad()
def score(model, tok, pairs, device, batch=128):
    out = []
    for i in range(0, len(pairs), batch):
        out.append(model(batch_of(tok, [sides(*p[:2]) for p in pairs[i:i + batch]], device)).cpu())
    return torch.cat(out)


def calibrate(logits, same):
    """Scale and bias of greatest likelihood."""
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    best = torch.optim.LBFGS([p], max_iter=100)

    def closure():
        best.zero_grad()
        loss = F.binary_cross_entropy_with_logits(p[0] * logits + p[1], same) + 1e-4 * ((p[0] - 1) ** 2 + p[1] ** 2)
        loss.backward()
        return loss

    best.step(closure)
    scale, bias = p.detach().tolist()
    return max(scale, 1e-3), bias # a model that orders pairs the wrong way round has nothing to say


def export(model, vocab, path, scale, bias, licence):
    c, s = model.net.config, {k: v.detach().cpu().numpy() for k, v in model.state_dict().items()}
    n = len(model.net.encoder.layer)
    meta = {"general.architecture": "bert", "general.name": f"larder-pair-{n}x{c.hidden_size}", "general.license": licence,
            "bert.block_count": n, "bert.embedding_length": c.hidden_size, "bert.feed_forward_length": c.intermediate_size,
            "bert.context_length": c.max_position_embeddings, "bert.attention.head_count": c.num_attention_heads,
            "bert.attention.layer_norm_epsilon": float(c.layer_norm_eps), "bert.attention.causal": False,
            "bert.pooling_type": 4, "bert.larder.tokens_max": 192, "larder.pair.scale": scale, "larder.pair.bias": bias}
    e = "net.embeddings."
    out = [("token_embd.weight", s[e + "word_embeddings.weight"], "Q8_0"),
           ("position_embd.weight", s[e + "position_embeddings.weight"], "F32"),
           ("token_types.weight", s[e + "token_type_embeddings.weight"], "F32"),
           ("token_embd_norm.weight", s[e + "LayerNorm.weight"], "F32"),
           ("token_embd_norm.bias", s[e + "LayerNorm.bias"], "F32")]
    parts = {"attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
             "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
             "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"}
    for i in range(n):
        for ours, theirs in parts.items():
            name = f"net.encoder.layer.{i}.{theirs}"
            kind = "F32" if "norm" in ours else "Q8_0"
            out.append((f"blk.{i}.{ours}.weight", s[name + ".weight"], kind))
            out.append((f"blk.{i}.{ours}.bias", s[name + ".bias"], "F32"))
    out += [("cls.weight", s["pool.weight"], "F32"), ("cls.bias", s["pool.bias"], "F32"),
            ("cls.output.weight", s["out.weight"], "F32"), ("cls.output.bias", s["out.bias"], "F32")]
    gguf.write(path, meta | gguf.vocabulary(vocab), out)

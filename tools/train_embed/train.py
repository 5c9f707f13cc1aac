# SPDX-License-Identifier: Apache-2.0
"""Trains the models that ship. See README.md.

    python train.py --data DIR --out DIR [--fraction 1.0] [--teacher DIR]

--fraction 0.01 is a smoke test of the whole recipe. Scores: larder eval pairs."""

import argparse
import csv
import os
import random

import torch

import data
import static
import verifier
from minilm import Teacher

LICENCE = "Apache-2.0"
SIZE_MAX = 32_000_000


def write_pairs(path, pairs, r):
    """As larder train pairs reads them; a label that is a probability is drawn."""
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow(["question1", "question2", "is_duplicate"])
        out.writerows((a, b, int(r.random() < same)) for a, b, same, _ in pairs)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--data", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--teacher")
    a.add_argument("--fraction", type=float, default=1.0)
    a.add_argument("--pairs", type=int, default=76800)
    a.add_argument("--dim", type=int, default=256)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--threads", type=int, default=1)
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed), os.makedirs(args.out, exist_ok=True)
    teacher, r = Teacher(args.teacher), random.Random(args.seed)
    n = max(1024, int(args.pairs * args.fraction))
    maker = data.Maker(args.seed, data.near_synonyms(args.data, teacher))
    lines = data.read_lines(args.data) + [maker.topic() for _ in range(int(42000 * args.fraction))]
    lines = r.sample(list(dict.fromkeys(lines)), max(600, int(len(set(lines)) * args.fraction)))
    vectors = teacher.encode(lines)

    words = os.path.join(args.out, "larder-static.gguf")
    table, weight = static.train(teacher, lines, vectors, args.dim, 6)
    static.export(table, weight, teacher.vocab, words, LICENCE)

    pairs = data.make_pairs(args.data, maker, n * 4 // 5) + data.neighbours(lines, vectors, n // 5, r)
    r.shuffle(pairs)
    model = verifier.train(teacher, pairs, os.path.join(args.out, "verifier.pt"))
    encoder = os.path.join(args.out, "larder-encoder.gguf")
    verifier.export(teacher, model, encoder, LICENCE)
    held = data.Maker(args.seed + 1000, maker.synonyms)
    few = max(200, int(4000 * args.fraction))
    write_pairs(os.path.join(args.out, "held.csv"),
                data.make_pairs(args.data, held, few) + data.neighbours(lines, vectors, few, random.Random(4242)), r)
    size = os.path.getsize(words) + os.path.getsize(encoder)
    print(f"{size} bytes together; calibrate: larder train pairs --layers 0 with held.csv")
    if size > SIZE_MAX:
        raise SystemExit("over 32 MB together: fewer dimensions or layers")


if __name__ == "__main__":
    main()

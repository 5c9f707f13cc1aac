# SPDX-License-Identifier: Apache-2.0
"""The recall tasks of docs/recall.md, as token ids for training and measuring.

A sample is (ids, answers): a list of exactly or nearly n ids, and a list of (at, length):
ids[at : at + length] are the words to be generated, one token each; at - 1 is the question's key.
"""

import random

KEYS, VALUES, FILLER = "keys", "values", "filler"
TASKS = ["single", "multi-key", "multi-query", "variable", "copy"]
LEAST = 128


def read_words(path):
    lists, name = {}, None
    with open(path) as f:
        for line in f:
            line = line.strip()
            if line.startswith("#"):
                continue
            if line.endswith(":"):
                name = line[:-1]
                lists[name] = []
            else:
                lists[name].extend(line.split())
    return lists


def whole_tokens(words):
    """What must be one token for this file: the words with their blank, and a line's end."""
    return [" " + w for name in (KEYS, VALUES, FILLER) for w in words[name]] + [".\n"]


class Recall:
    def __init__(self, tok, words, bos):
        def one(text):
            ids = tok.encode(text)
            assert len(ids) == 1, (text, ids)
            return ids[0]

        self.keys, self.values, self.filler = (
            [one(" " + w) for w in words[name]] for name in (KEYS, VALUES, FILLER)
        )
        self.dot, self.dot_line, self.mark, self.bos = one("."), one(".\n"), one("?"), bos

    # Facts are lists of sentences (ids, the full stop included); a question is (key, answer).

    def pair(self, a, b):
        return [a, b, self.dot]

    def pairs(self, rng, count):
        keys = rng.sample(self.keys, count)
        values = [rng.choice(self.values) for _ in keys]
        return [self.pair(k, v) for k, v in zip(keys, values)], list(
            zip(keys, [[v] for v in values])
        )

    def chains(self, rng, count):
        keys, facts, questions = rng.sample(self.keys, 4 * count), [], []
        for _ in range(count):
            chain = [keys.pop() for _ in range(rng.randint(2, 4))] + [rng.choice(self.values)]
            facts += [self.pair(a, b) for a, b in zip(chain, chain[1:])]
            questions.append((chain[0], chain[1:]))
        return facts, questions

    def segment(self, rng, length):
        words = rng.sample(self.keys + self.values, length)
        return [words + [self.dot]], [(words[0], words[1:])]

    def task(self, rng, name, n):
        """(facts, questions) of a sample of n tokens."""
        p = min(48, n // 16)
        if name == "single":
            return self.pairs(rng, 1)
        if name == "multi-key":
            facts, q = self.pairs(rng, p)
            return facts, rng.sample(q, 1)
        if name == "multi-query":
            facts, q = self.pairs(rng, p)
            return facts, rng.sample(q, min(8, p))
        if name == "variable":
            facts, q = self.chains(rng, 4)
            return facts, rng.sample(q, 1)
        return self.segment(rng, 24)

    def filler_sentences(self, rng, left):
        out = []
        while True:
            k = rng.randint(4, 8)
            if k + 1 > left:
                return out
            left -= k + 1
            out.append(rng.choices(self.filler, k=k) + [self.dot])

    def lay_out(self, rng, n, facts, questions, body=None):
        """The whole sample: body (given, or of filler), facts at random gaps, questions."""
        used = 1 + sum(map(len, facts)) + sum(3 + len(a) for _, a in questions)
        if body is None:
            body = self.filler_sentences(rng, n - used)
        facts = rng.sample(facts, len(facts))
        gaps = sorted(rng.randint(0, len(body)) for _ in facts)
        ids, at = [self.bos], 0
        for gap, fact in zip(gaps, facts):
            for sentence in body[at:gap]:
                ids += sentence
            ids += fact
            at = gap
        for sentence in body[at:]:
            ids += sentence
        return ids, self.ask(ids, questions)

    def ask(self, ids, questions):
        answers = []
        for key, answer in questions:
            assert ids[-1] == self.dot
            ids[-1] = self.dot_line
            ids += [self.mark, key]
            answers.append((len(ids), len(answer)))
            ids += answer + [self.dot]
        ids.pop()  # the full stop behind the last answer
        return answers

    def sample(self, rng, name, n):
        facts, questions = self.task(rng, name, n)
        return self.lay_out(rng, n, facts, questions)

    def dense(self, rng, n, pairs_max):
        """For training: as sample, of any task, but with as many questions as are of use."""
        kind = rng.random()
        if kind < 0.45:
            facts, q = self.pairs(rng, rng.randint(max(1, pairs_max // 2), pairs_max))
            q = rng.sample(q, min(len(q), 24))
        elif kind < 0.5:
            facts, q = self.pairs(rng, rng.randint(1, 3))
        elif kind < 0.75:
            facts, q = self.chains(rng, 4 if pairs_max >= 16 else 2)
            q = rng.sample(q, len(q))
        else:
            facts, q = self.segment(rng, rng.randint(6, min(40, n // 5)))
        return self.lay_out(rng, n, facts, q)


def evaluation(recall, name, n, count, seed):
    """`count` samples, each of its own generator."""
    return [recall.sample(random.Random(f"{seed} {name} {n} {i}"), name, n) for i in range(count)]


def score(name, answer, right):
    """answer: a list of words per question; right: the same, of booleans word for word."""
    if name == "copy":
        flags = right[0]
        return (flags + [False]).index(False) / len(answer[0])
    return sum(all(r) for r in right) / len(right)

# SPDX-License-Identifier: Apache-2.0
"""Byte-level BPE as GPT-2 and Llama 3 write it: training, encoding, decoding.

The pre-tokeniser is Llama 3's ("llama-bpe" in GGUF), of which two properties are used: a word
that is a token as a whole is that token whether or not merges lead there (so that the recall
words, which are put into the vocabulary by hand, need no merges), and ".\n" is one piece.
"""

import collections
import json
import re

SPECIAL = ["<|bos|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BOS, EOS, IM_START, IM_END = range(4)
PIECES = re.compile(
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
    r"|(?:[^\w\r\n]|_)?[^\W\d_]+"
    r"|\d{1,3}"
    r"| ?(?:[^\s\w]|_)+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def spelling():
    """Byte -> printable character, GPT-2's alphabet."""
    out, extra = {}, 256
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255:
            out[b] = chr(b)
        else:
            out[b] = chr(extra)
            extra += 1
    return out


SPELL = spelling()
UNSPELL = {c: b for b, c in SPELL.items()}


def spell(text):
    return "".join(SPELL[b] for b in text.encode())


class Tokenizer:
    def __init__(self, tokens, merges):
        self.tokens = tokens
        self.merges = [tuple(m) for m in merges]
        self.id = {t: i for i, t in enumerate(tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.known = {}

    def piece(self, text):
        ids = self.known.get(text)
        if ids is None:
            word = spell(text)
            whole = self.id.get(word, 0)
            ids = (whole,) if whole >= len(SPECIAL) else tuple(self.id[s] for s in self.merge(word))
            self.known[text] = ids
        return ids

    def merge(self, word):
        parts = list(word)
        while len(parts) > 1:
            ranks = [self.rank.get(p, len(self.rank)) for p in zip(parts, parts[1:])]
            best = min(ranks)
            if best == len(self.rank):
                break
            i = ranks.index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return parts

    def encode(self, text):
        """Text without control tokens."""
        out = []
        for m in PIECES.finditer(text):
            out.extend(self.piece(m.group()))
        return out

    def decode(self, ids):
        chars = "".join(self.tokens[i] if i >= len(SPECIAL) else spell(self.tokens[i]) for i in ids)
        return bytes(UNSPELL[c] for c in chars).decode(errors="replace")

    def save(self, path):
        with open(path, "w") as f:
            json.dump({"tokens": self.tokens, "merges": self.merges}, f, ensure_ascii=False)

    @classmethod
    def load(cls, path):
        with open(path) as f:
            d = json.load(f)
        return cls(d["tokens"], d["merges"])


def train(texts, size, whole):
    """texts: [(weight, text)]; whole: texts that become tokens as they are. Deterministic."""
    count = collections.Counter()
    for weight, text in texts:
        for m in PIECES.finditer(text):
            count[m.group()] += weight
    words = [[list(spell(w)), n] for w, n in sorted(count.items())]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (parts, n) in enumerate(words):
        for p in zip(parts, parts[1:]):
            pairs[p] += n
            where[p].add(i)
    tokens = SPECIAL + [SPELL[b] for b in range(256)] + [spell(w) for w in whole]
    have, merges = set(tokens), []
    while len(tokens) < size:
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        joined = best[0] + best[1]
        if joined not in have:
            have.add(joined)
            tokens.append(joined)
        for i in sorted(where.pop(best)):
            parts, n = words[i]
            for p in zip(parts, parts[1:]):
                pairs[p] -= n
            k = 0
            while k < len(parts) - 1:
                if (parts[k], parts[k + 1]) == best:
                    parts[k : k + 2] = [joined]
                k += 1
            for p in zip(parts, parts[1:]):
                pairs[p] += n
                where[p].add(i)
        del pairs[best]
    return Tokenizer(tokens, merges)

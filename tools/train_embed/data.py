# SPDX-License-Identifier: Apache-2.0
"""Pairs of questions whose label is known because they were generated, and text to distil on.

Only text whose licence lets the weights ship: CLINC150 (CC BY 3.0), PPDB lexical synonyms (CC BY 3.0),
GSM8K questions (MIT), MuSiQue questions (CC BY 4.0), MT-bench questions (Apache-2.0), and sentences made
from words.py. Never the Quora pairs, which are for research only."""

import json
import math
import os
import random
import re

import topics
import words


def read_lines(folder):
    """Plain questions of the permissive sets; missing files are passed over, loudly."""
    out = []

    def load(name, pick):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            print(f"data: no {name}: left out")
            return
        with open(path, encoding="utf-8") as f:
            out.extend(t for t in pick(f) if t)

    def clinc(f):
        sets = json.load(f)
        return [row[0] for name in ("train", "oos_train") for row in sets[name]]

    def gsm(f):
        return [re.split(r"(?<=[.?!])\s+", json.loads(line)["question"])[-1] for line in f]

    def bench(f):
        return [turn for line in f for turn in json.loads(line)["turns"] if len(turn) < 300]

    load("categories/clinc150_full.json", clinc)
    load("text/gsm8k_train.jsonl", gsm)
    load("text/rag_musique_75.json", lambda f: [x["question"] for x in json.load(f)])
    load("chains/mt_bench_question.jsonl", bench)
    return out


def read_synonyms(folder, vocab):
    """word -> list of words; single lower-case words of the vocabulary that do not share a stem."""
    banned = {frozenset(p) for p in words.ANTONYMS}
    out = {}
    path = os.path.join(folder, "pairs/ppdb_lexical_synonyms.tsv")
    if not os.path.exists(path):
        print("data: no PPDB: no synonyms")
        return out
    with open(path, encoding="utf-8") as f:
        for line in f:
            a, _, b = line.rstrip("\n").partition("\t")
            if not (a.isalpha() and b.isalpha() and a.islower() and b.islower()):
                continue
            if len(a) < 4 or len(b) < 4 or a not in vocab or b not in vocab or frozenset((a, b)) in banned:
                continue
            out.setdefault(a, []).append(b)
            out.setdefault(b, []).append(a)
    return out


KINDS = {k: [x.strip() for x in v.replace("\n", "").split("|")] for k, v in topics.KINDS.items()}
FORMS = {"one": topics.INTENTS, "two": topics.PAIRS, "directed": topics.DIRECTED}


class Maker:
    """One seeded generator; every method gives a text, or None where it does not apply."""

    def __init__(self, seed, synonyms):
        self.r = random.Random(seed)
        self.synonyms = synonyms

    # ---- whole questions: a meaning, and ways to say it

    def meaning(self):
        kind = self.r.random()
        if kind < 0.6:
            row = self.r.randrange(len(words.ACTIONS))
            return ("do", row, self.r.randrange(len(words.ACTIONS[row])), self.r.randrange(len(words.THINGS)),
                    self.r.choice(words.PLACES))
        if kind < 0.8:
            return ("fact", self.r.randrange(len(words.ATTRIBUTES)), self.r.choice(words.ENTITIES[:32]))
        return ("number", self.r.randrange(len(words.NUMBERED)), self.number(), self.number(), self.r.randint(1900, 2030))

    def number(self):
        return self.r.choice([self.r.randint(2, 12), self.r.randint(10, 99), self.r.randint(100, 999)])

    def say(self, m):
        pick = self.r.choice
        if m[0] == "do":
            action, thing = pick(words.ACTIONS[m[1]][m[2]]), pick(words.THINGS[m[3]])
            my = pick(["my ", "the ", "my ", ""])
            return self.dress(pick(words.FRAMES).format(x=f"{action} {my}{thing}{m[4]}"))
        if m[0] == "fact":
            return self.dress(pick(words.FACT_FRAMES).format(x=pick(words.ATTRIBUTES[m[1]]).format(e=m[2])))
        return self.dress(pick(words.NUMBERED[m[1]]).format(n=m[2], m=m[3], y=m[4]))

    def near(self, m):
        """Another meaning that differs in one thing."""
        m = list(m)
        if m[0] == "do":
            where = self.r.choice([1, 2, 2, 2, 3, 3, 4])
            row = words.ACTIONS[m[1]]
            if where == 2 and len(row) > 1:
                m[2] = self.r.choice([i for i in range(len(row)) if i != m[2]])
            elif where == 4:
                m[4] = self.r.choice([p for p in words.PLACES if p and p != m[4]])
            elif where == 1:
                m[1] = self.r.choice([i for i in range(len(words.ACTIONS)) if i != m[1]])
                m[2] = 0
            else:
                m[3] = self.r.choice([i for i in range(len(words.THINGS)) if i != m[3]])
        elif m[0] == "fact":
            if self.r.random() < 0.5:
                m[1] = self.r.choice([i for i in range(len(words.ATTRIBUTES)) if i != m[1]])
            else:
                m[2] = self.r.choice([e for e in words.ENTITIES[:32] if e != m[2]])
        else: # numbers that the sentence shows
            shown = "".join(words.NUMBERED[m[1]])
            for i, key in ((2, "{n}"), (3, "{m}"), (4, "{y}")):
                if key in shown:
                    m[i] += self.r.choice([-1, 1, 10, 100])
                    break
        return tuple(m)

    def dress(self, t):
        if self.r.random() < 0.15:
            t = self.r.choice(words.POLITE) + t
        if self.r.random() < 0.5:
            t = t[0].upper() + t[1:]
        return t + self.r.choice(["?", "", "?", "."])

    # ---- changes to a given question

    def same(self, t):
        """The same question in other words."""
        for _ in range(4):
            change = self.r.choice([self.synonym, self.contract, self.polite, self.typo, self.plain])
            out = change(t)
            if out and out != t:
                return out
        return None

    def other(self, t):
        """Almost the same words, another question."""
        for change in self.r.sample([self.negate, self.antonym, self.renumber, self.rename, self.turn], 5):
            out = change(t)
            if out and out != t:
                return out
        return None

    def synonym(self, t):
        parts = t.split(" ")
        at = [i for i, w in enumerate(parts) if w.lower() in self.synonyms]
        if not at:
            return None
        i = self.r.choice(at)
        parts[i] = self.r.choice(self.synonyms[parts[i].lower()])
        return " ".join(parts)

    def contract(self, t):
        for long, short in self.r.sample(words.CONTRACTIONS, len(words.CONTRACTIONS)):
            if re.search(rf"\b{long}\b", t):
                return re.sub(rf"\b{long}\b", short, t, count=1)
            if short in t:
                return t.replace(short, long, 1)
        return None

    def polite(self, t):
        return self.r.choice(words.POLITE) + t

    def plain(self, t):
        return t.lower().rstrip("?.! ")

    def typo(self, t):
        at = [i for i in range(1, len(t) - 2) if t[i].isalpha() and t[i + 1].isalpha() and t[i] != t[i + 1]]
        if len(t) < 15 or not at:
            return None
        i = self.r.choice(at)
        return t[:i] + t[i + 1] + t[i] + t[i + 2:]

    def negate(self, t):
        for old, new in ((r"\b(can|should|does|do|is|are|will|would|could) i\b", r"\1 i not"),
                         (r"\bhow to\b", "how not to"), (r"\bi want\b", "i do not want"),
                         (r"\b(not|never) ", ""), (r"\b(can|should|does|is|are|will) (\w+)\b", r"\1 \2 not")):
            if re.search(old, t, re.I):
                return re.sub(old, new, t, count=1, flags=re.I)
        return None

    def antonym(self, t):
        low = t.lower().split(" ")
        hits = [(i, b if low[i] == a else a) for a, b in words.ANTONYMS for i in range(len(low)) if low[i] in (a, b)]
        if not hits:
            return None
        i, to = self.r.choice(hits)
        parts = t.split(" ")
        parts[i] = to
        return " ".join(parts)

    def renumber(self, t):
        found = list(re.finditer(r"\d+", t))
        if not found:
            return None
        m = self.r.choice(found)
        value = int(m.group()) + self.r.choice([-1, 1, 2, 10, 100])
        return t[:m.start()] + str(abs(value)) + t[m.end():]

    def rename(self, t):
        hits = [e for e in words.ENTITIES if re.search(rf"\b{e}\b", t, re.I)]
        if not hits:
            return None
        e = self.r.choice(hits)
        near = words.ENTITIES.index(e) // 16 * 16
        to = self.r.choice([x for x in words.ENTITIES[near:near + 16] if x != e])
        return re.sub(rf"\b{e}\b", to, t, count=1, flags=re.I)

    def turn(self, t):
        m = re.search(r"\bfrom (\w+) to (\w+)\b", t, re.I)
        return t[:m.start()] + f"from {m.group(2)} to {m.group(1)}" + t[m.end():] if m else None

    # ---- topics.py: (form, row, kind, x, y, what narrows it)

    def topic_meaning(self):
        r, where = self.r, self.r.random()
        form = "one" if where < 0.72 else "two" if where < 0.84 else "directed" if where < 0.94 else "trouble"
        if form == "trouble":
            m = [form, 0, "product", r.choice(KINDS["product"]), r.choice(KINDS["issue"])]
        else:
            row = r.randrange(len(FORMS[form]))
            kind = r.choice(FORMS[form][row][0])
            x, y = r.sample(KINDS[kind], 2)
            m = [form, row, kind, x, None if form == "one" else y]
        return m + [r.choice(topics.NARROW) if r.random() < 0.15 else ""]

    def ways(self, m):
        return topics.TROUBLE if m[0] == "trouble" else FORMS[m[0]][m[1]][1]

    def topic_say(self, m, way=None):
        x, y = m[3], m[4]
        if m[0] == "two" and self.r.random() < 0.5:
            x, y = y, x
        t = (way or self.r.choice(self.ways(m))).format(x=x, y=y, i=y)
        a, b = self.r.choice(topics.LOOSE)
        if self.r.random() < 0.35 and t.startswith(a + " "):
            t = b + t[len(a):]
        return self.topic_dress(t + m[5])

    def topic_dress(self, t):
        r, how = self.r, self.r.random()
        change = self.typo if how < 0.05 else self.contract if how < 0.15 else self.synonym if how < 0.3 else None
        t = change and change(t) or t
        if r.random() < 0.7:
            t = t[0].upper() + t[1:]
        if r.random() < 0.8:
            t = re.sub(r"\bi\b", "I", t)
        t += r.choice(["?", "?", "?", "?", "", "?!", "."])
        how = r.random()
        if how < 0.05:
            return r.choice(topics.CONTEXT) + " " + t
        if how < 0.09:
            return t + " " + r.choice(topics.CONTEXT)
        return r.choice(words.POLITE) + t if how < 0.12 else t

    def topic_near(self, m):
        """Another meaning that differs in one thing."""
        r, m = self.r, list(m)
        more = {"one": ["intent"] * 3, "directed": ["swap"] * 3, "two": ["intent"] * 2, "trouble": ["issue"] * 2}
        what = r.choice(["filler"] * 3 + ["narrow"] + more[m[0]])
        if what == "narrow":
            m[5] = r.choice([x for x in topics.NARROW + [""] if x != m[5]])
        elif what == "swap":
            m[3], m[4] = m[4], m[3]
        elif what == "issue":
            m[4] = r.choice([x for x in KINDS["issue"] if x != m[4]])
        else:
            rows = [i for i, (kinds, _) in enumerate(FORMS.get(m[0], [])) if m[2] in kinds and i != m[1]]
            if what == "intent" and rows:
                m[1] = r.choice(rows)
            else:
                m[3] = r.choice([x for x in KINDS[m[2]] if x not in (m[3], m[4])])
        return m

    def topic(self):
        return self.topic_say(self.topic_meaning())

    def topic_pair(self, same):
        m = self.topic_meaning()
        n = m if same else self.topic_near(m)
        way = None
        if not same and m[1] == n[1] and self.r.random() < 0.45: # the same words but for what differs
            way = self.r.choice(self.ways(m))
        return self.topic_say(m, way), self.topic_say(n, way)


def near_synonyms(folder, teacher, least=0.62):
    """PPDB calls apples and potatoes synonyms; those stay whose vectors agree."""
    found = read_synonyms(folder, set(teacher.vocab))
    names = sorted(found)
    at = {w: i for i, w in enumerate(names)}
    v = teacher.encode(names) if names else None
    near = {a: [b for b in found[a] if float(v[at[a]] @ v[at[b]]) >= least] for a in names}
    return {a: bs for a, bs in near.items() if bs}


def neighbours(lines, vectors, n, r):
    """Questions and one of their neighbours; the label is what the teacher's cosine makes of it, in 0..1."""
    out = []
    for i in r.sample(range(len(lines)), min(n, len(lines))):
        near = (vectors @ vectors[i]).topk(min(40, len(lines)))
        k = min(r.choice([1, 1, 2, 3, 5, 8, 13, 21, 34]), len(near.indices) - 1)
        same = 1 / (1 + math.exp(-18 * (float(near.values[k]) - 0.8)))
        out.append((lines[i], lines[int(near.indices[k])], same, "neighbour"))
    return out


def make_pairs(folder, maker, n):
    """n of (a, b, same or not, source), half of them the same."""
    r, out = maker.r, []
    lines = [t for t in read_lines(folder) if len(t) < 160]
    while len(out) < n:
        kind, same = r.random(), len(out) % 2 == 0
        if kind < 0.6:
            pair = maker.topic_pair(same)
        elif kind < 0.78:
            m = maker.meaning()
            pair = (maker.say(m), maker.say(m if same else maker.near(m)))
        else:
            t = r.choice(lines)
            pair = (t, maker.same(t) if same else maker.other(t))
        if pair[1] and pair[0].lower() != pair[1].lower():
            out.append((pair[0], pair[1], float(same), "topic" if kind < 0.6 else "grammar" if kind < 0.78 else "change"))
    return out

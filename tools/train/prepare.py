# SPDX-License-Identifier: Apache-2.0
"""Texts in, vocabulary and token streams out: vocab.json, stories.json ..., and english.txt."""

import argparse
import json
import os
import random

import chat
import corpus
import recall
import tokenizer

VOCAB = 2048
ENGLISH_BYTES = 16_000  # of the held-out part of the book, for models/english.txt


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stories", required=True)
    p.add_argument("--book", required=True)
    p.add_argument("--nltk", nargs="+", required=True)
    p.add_argument("--words", required=True, help="models/recall_words.txt")
    p.add_argument("--english", help="where to write the held-out text that ships")
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    words = recall.read_words(a.words)
    stories, held_stories = corpus.stories(a.stories)
    book, held_book = corpus.book(a.book)
    speeches = corpus.nltk(a.nltk)
    talk = chat.Chat(words, stories)
    rng = random.Random(1)
    chats = "\n".join(t for _ in range(3000) for _, t in talk.conversation(rng, stories=False))
    tok = tokenizer.train(
        [
            (3, "\n".join(stories)),
            (1, book[:1_500_000]),
            (1, "\n".join(speeches)[:300_000]),
            (1, chats),
        ],
        VOCAB,
        recall.whole_tokens(words),
    )
    tok.save(os.path.join(a.out, "vocab.json"))
    if a.english:
        cut = held_book.rindex("\n\n", 0, ENGLISH_BYTES)
        with open(a.english, "w") as f:
            f.write(held_book[:cut] + "\n")

    def put(name, docs):
        ids = [tok.encode(d) for d in docs]
        with open(os.path.join(a.out, name + ".json"), "w") as f:
            json.dump(ids, f)
        n, c = sum(map(len, ids)), sum(map(len, docs))
        print(f"{name}: {len(docs)} texts, {n} tokens, {c / n:.2f} characters each")

    put("stories", stories)
    put("book", [book])
    put("speeches", speeches)
    put("held_stories", held_stories)
    put("held_book", [held_book])
    with open(os.path.join(a.out, "stories.txt.json"), "w") as f:
        json.dump(stories, f)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Laws of the recipe: python -m unittest (in this folder; numpy is needed, torch is not)."""

import os
import random
import tempfile
import unittest

import numpy as np

import chat
import check
import corpus
import export
import recall
import tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = recall.read_words(os.path.join(HERE, "..", "..", "models", "recall_words.txt"))
TEXT = (
    "One day, a girl said: \"I'm here!\" 1234 times.\n\n"
    "The  dog -- na\u00efve \u4e16 -- ran away.\n? apple"
)


def small_tokenizer():
    return tokenizer.train([(1, TEXT * 3)], 700, recall.whole_tokens(WORDS))


class Tokenizer(unittest.TestCase):
    def test_decoding_gives_back_what_was_encoded(self):
        tok = small_tokenizer()
        for text in (TEXT, "", " ", "\n\n \n", " apple river.\n? apple", "\u00e9\u4e16 \U0001f600"):
            self.assertEqual(tok.decode(tok.encode(text)), text)

    def test_every_recall_word_is_one_token(self):
        tok = small_tokenizer()
        for text in recall.whole_tokens(WORDS):
            self.assertEqual(len(tok.encode(text)), 1)

    def test_training_twice_gives_the_same(self):
        self.assertEqual(small_tokenizer().tokens, small_tokenizer().tokens)

    def test_merges_are_applied_best_first(self):
        tok = tokenizer.train([(5, "aaab aaab"), (1, "ab")], 260 + 3, [])
        slow = list(tokenizer.spell("aaab"))
        for a, b in tok.merges:  # one merge after the other, everywhere
            i = 0
            while i + 1 < len(slow):
                if (slow[i], slow[i + 1]) == (a, b):
                    slow[i : i + 2] = [a + b]
                i += 1
        self.assertEqual(tok.merge(tokenizer.spell("aaab")), slow)


class Recall(unittest.TestCase):
    def setUp(self):
        self.texts = check.Words(WORDS).texts
        self.maker = recall.Recall(check.Words(WORDS), WORDS, 0)

    def samples(self):
        for n in (128, 256, 1024):
            for name in recall.TASKS:
                for i, (ids, answers) in enumerate(recall.evaluation(self.maker, name, n, 20, 3)):
                    yield name, n, i, [self.texts[x] for x in ids], answers

    def test_lists_are_disjoint(self):
        lists = [set(WORDS[k]) for k in (recall.KEYS, recall.VALUES, recall.FILLER)]
        self.assertEqual([len(x) for x in lists], [120] * 3)
        self.assertEqual(len(set.union(*lists)), 360)

    def test_a_sample_is_as_long_as_asked(self):
        for name, n, i, words, _ in self.samples():
            self.assertTrue(n - 9 <= len(words) <= n, (name, n, i, len(words)))

    def test_every_answer_follows_its_key_in_the_context(self):
        for name, n, i, words, answers in self.samples():
            body = words[: answers[0][0] - 2]
            for at, k in answers:
                for j in range(at, at + k):
                    pair = [words[j - 1], words[j]]
                    self.assertIn(
                        pair, [body[x : x + 2] for x in range(len(body) - 1)], (name, n, i)
                    )

    def test_a_key_is_followed_by_one_word_only(self):
        for name, n, i, words, answers in self.samples():
            body, after = words[: answers[0][0] - 2], {}
            for a, b in zip(body, body[1:]):
                if a[1:] in WORDS[recall.KEYS] and not b.startswith("."):
                    after.setdefault(a, set()).add(b)
            self.assertTrue(all(len(x) == 1 for x in after.values()), (name, n, i))

    def test_samples_are_drawn_one_by_one(self):
        alone = self.maker.sample(random.Random("3 copy 256 7"), "copy", 256)
        self.assertEqual(alone, recall.evaluation(self.maker, "copy", 256, 8, 3)[7])

    def test_scores(self):
        self.assertEqual(recall.score("copy", ["abcd"], [[True, True, False, True]]), 0.5)
        self.assertEqual(recall.score("variable", ["ab"], [[True, False]]), 0.0)
        self.assertEqual(recall.score("multi-query", ["a", "b"], [[True], [False]]), 0.5)

    def test_words_of_an_answer(self):
        self.assertEqual(check.words_of(" river rose. x"), ["river", "rose"])
        self.assertEqual(check.words_of("\n? a"), [])
        self.assertEqual(check.words_of(" river2"), ["river"])


class Chat(unittest.TestCase):
    def test_only_answers_are_learned(self):
        tok = small_tokenizer()
        ids, learn = chat.encode(tok, [("user", "apple"), ("assistant", "river")], 0, 2, 3)
        learned = tok.decode([i for i, x in zip(ids, learn) if x])
        self.assertEqual(learned, "river<|im_end|>")
        self.assertEqual(
            tok.decode(ids),
            "<|bos|><|im_start|>user\napple<|im_end|>\n" "<|im_start|>assistant\nriver<|im_end|>\n",
        )

    def test_conversations_alternate(self):
        talk = chat.Chat(WORDS, ["a dog ran. " * 5])
        rng = random.Random(5)
        for _ in range(500):
            roles = [r for r, _ in talk.conversation(rng) if r != "system"]
            self.assertEqual(roles, ["user", "assistant"] * (len(roles) // 2))


class Corpus(unittest.TestCase):
    def test_cleaning(self):
        self.assertEqual(
            corpus.clean("a\u2019s  b\nc\r\n\r\n\r\nd\u2014e \u00e2\u20ac\u0153x"),
            "a's b c\n\nd--e \"x",
        )


class Export(unittest.TestCase):
    def test_q8_0_is_close(self):
        m = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
        raw = np.frombuffer(export.q8_0(m), dtype=[("d", "<f2"), ("q", "i1", 32)])
        back = (raw["d"].astype(np.float32)[:, None] * raw["q"]).reshape(m.shape)
        self.assertLess(np.abs(back - m).max(), np.abs(m).max() / 200)

    def test_interleaving_moves_pairs_together(self):
        rows = np.arange(8.0).reshape(8, 1)  # one head of 8: pairs (0, 4), (1, 5) ...
        self.assertEqual(export.interleaved(rows, 1, 8)[:, 0].tolist(), [0, 4, 1, 5, 2, 6, 3, 7])

    def test_file_is_aligned_and_whole(self):
        tok = small_tokenizer()
        s = {
            "vocab": len(tok.tokens),
            "width": 64,
            "layers": 1,
            "heads": 2,
            "kv_heads": 1,
            "head": 32,
            "ff": 96,
            "context": 64,
            "rope_base": 1e6,
            "eps": 1e-5,
        }
        rng = np.random.default_rng(2)
        shapes = {
            "embed.weight": (s["vocab"], 64),
            "norm": (64,),
            "blocks.0.norm1": (64,),
            "blocks.0.norm2": (64,),
            "blocks.0.qkv.weight": (128, 64),
            "blocks.0.out.weight": (64, 64),
            "blocks.0.gate_up.weight": (192, 64),
            "blocks.0.down.weight": (64, 96),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "m.gguf")
            export.write(
                path, s, {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}, tok
            )
            with open(path, "rb") as f:
                data = f.read()
        self.assertEqual(data[:8], b"GGUF\x03\0\0\0")
        self.assertEqual(len(data) % export.ALIGN, 0)


if __name__ == "__main__":
    unittest.main()

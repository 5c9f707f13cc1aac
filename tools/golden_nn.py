#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/nn/*.json: what other people's tokenisers say.

Usage: tools/golden_nn.py DATA       DATA: the directory that LR_TEST_DATA names in tests
Needs from PyPI: tokenizers, sentencepiece, gguf, llama-cpp-python (0.3.36 was used).

  pretok.json      pieces by the pre-tokenisers' own regular expressions (tokenizers, Oniguruma)
  bpe.json         a byte-level vocabulary trained on the text below, and its encodings (tokenizers)
  spm.json         a BPE vocabulary with bytes, likewise (sentencepiece)
  wordpiece.json   a vocabulary of a few words, and its encodings (tokenizers)
  vocab.json       ids by llama.cpp for the files in DATA; WordPiece: by tokenizers, since llama.cpp
                   decomposes Hangul otherwise and knows no longest word
  types.json       random blocks of each quantised type and their values as f32 (gguf)
"""
import glob
import io
import json
import os
import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "nn")

SPECIALS = "</s> <s>hi<|endoftext|>[MASK]"
TEXTS = [
    "", "Hello world", " Hello  world ", "I'm sure we'LL THEY'RE x's don't", "x\n\n  y\r\n\t z   ",
    "int main(void)\n{\n\treturn a[0] += 3*x; // 0x7f\n}\n", "1234567 12 3.14 1,000 \u0663\u0664 \u00bd\u2167",
    "     \n \n\n   \t\t", "\U0001F642\U0001F468\u200d\U0001F469\u200d\U0001F467 \U0001F1E9\U0001F1EA!",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u4e2d\u6587\u3002\ud55c\uad6d\uc5b4",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "e\u0301a\u0308 \u00c7a va? na\u00efve \u1e9e\u00df",
    "\u0391\u0392 \u03b1\u03b2 \u041f\u0440\u0438\u0432\u0435\u0442", "z" * 120, SPECIALS,
    "a\u00a0b\u2003c\u200bd\ufeff", "\u00bfQu\u00e9? \u00abq\u00bb \u201cx\u201d \u2014 \u2026 !!?$%^&*()_+|~`<=>",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22", "Once upon a time, there was a girl.",
    "CamelCaseHTTPServer snake_case \u01c5\u02b0\u00aa", "/usr/bin\n//x /* y */ #!", "'s 've ''", "\u2581a b\u2581",
]

CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
U, L = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = (r"[^\r\n\p{L}\p{N}]?" + U + "*" + L + "+%s|" + r"[^\r\n\p{L}\p{N}]?" + U + "+" + L + "*%s|"
         r"\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL)
DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
    "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102"
    "\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943")
EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
PRETOK = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA % 3],
    "qwen2": [LLAMA % 1],
    "qwen35": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL],
    "smollm": [r"\p{N}", GPT2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "deepseek-llm": ["[\r\n]", r"\s?[" + DEEPSEEK_LETTERS + "]+",
                     "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+\z", EAST, r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
                    r" ?[\p{P}\p{S}]+[\r\n]*" + TAIL],
    "gpt-4o": [CASED % (CONTRACTION + "?", CONTRACTION + "?", 3)],
    "tekken": [CASED % ("", "", 1)],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


def write(name, value):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def pretok_of(name):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in PRETOK[name]])


def pieces(name, text):
    """Bytes of each piece."""
    return [len(p.encode()) for p, _ in pretok_of(name).pre_tokenize_str(text)] if text else []


CORPUS = [t for t in TEXTS if t and len(t) < 100] + [
    "the cat sat on the mat and the dog sat on the log", "a girl and a boy went to the old town in the rain",
    "there was once a time when all the text in the world was short", "return the value of the function"] * 8


def bpe():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pretok_of("gpt-2"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tok.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    write("bpe.json", {"pre": "gpt-2", "tokens": vocab, "merges": merges,
                       "cases": [[t, tok.encode(t).ids] for t in TEXTS]})


def spm():
    import sentencepiece as sp
    out = io.BytesIO()
    lines = [l for t in CORPUS for l in t.splitlines() if l.strip()]
    sp.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="bpe", vocab_size=460, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, minloglevel=2, allow_whitespace_only_pieces=True)
    p = sp.SentencePieceProcessor(model_proto=out.getvalue())
    n = p.get_piece_size()
    types = [2 if p.is_unknown(i) else 3 if p.is_control(i) else 6 if p.is_byte(i) else 1 for i in range(n)]
    write("spm.json", {"tokens": [p.id_to_piece(i) for i in range(n)], "types": types,
                       "scores": [p.get_score(i) for i in range(n)], "cases": [[t, p.encode(t)] for t in TEXTS]})


def bert(vocab):
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None,
                                                lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tok


def wordpiece():
    words = ("[UNK] hello world ca va naive i m sure we ll they re don t x y z s ss ? ! . , ' ( ) { } [ ] / * < > $ + "
             "= ; # _ | int main void return 0 3 \u65e5 \u672c \u4e2d \u6587 ##s ##z ##e ##a ##b ##ing \u1112 ##\u1161 "
             "##\u11ab e a b c ab \u03b1\u03b2 \u043f\u0440\u0438\u0432\u0435\u0442 \u00bf que \u00ab \u201c once upon time there was "
             "girl \u0001 \u2014 \u0645\u0631\u062d\u0628\u0627 camelcase ##httpserver").split(" ")
    vocab = {w: i for i, w in enumerate(words)}
    tok = bert(vocab)
    write("wordpiece.json", {"tokens": [w[2:] if w.startswith("##") else w if w == "[UNK]" else "\u2581" + w for w in words],
                             "cases": [[t, tok.encode(t).ids] for t in TEXTS]})


def bert_file(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    toks, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    vocab = {}
    for i, (t, k) in enumerate(zip(toks.data, types.data)):
        text, kind = bytes(toks.parts[t]).decode(), int(types.parts[k][0])
        special = kind != 1 or text.startswith("[unused")
        vocab[text if special else text[1:] if text[0] == "\u2581" else "##" + text] = i
    return bert(vocab)


def vocabularies(data):
    from llama_cpp import Llama
    files = {}
    for path in sorted(glob.glob(os.path.join(data, "*.gguf"))):
        name = os.path.basename(path)
        if "bert" in name:
            tok = bert_file(path)
            files[name] = [[101] + tok.encode(t).ids + [102] for t in TEXTS]
            files[name][TEXTS.index(SPECIALS)] = None  # has a special token, which this Tokenizer lacks
            continue
        if name == "tinystories-656k-f32.gguf":
            continue  # no bytes: llama.cpp ends the process where we give an error
        model = Llama(model_path=path, vocab_only=True, verbose=False)
        files[name] = [model.tokenize(t.encode(), add_bos=True, special=True) for t in TEXTS]
    write("vocab.json", {"texts": TEXTS, "files": [{"name": n, "ids": ids} for n, ids in files.items()]})


def types():
    import numpy as np
    from gguf import GGMLQuantizationType as T
    from gguf import quants
    rng = np.random.default_rng(3)
    out = []
    for name, size, halves in [("Q8_0", 34, [0]), ("Q4_0", 18, [0]), ("Q4_1", 20, [0, 2]), ("Q5_0", 22, [0]),
                               ("Q5_1", 24, [0, 2]), ("Q4_K", 144, [0, 2]), ("Q5_K", 176, [0, 2]),
                               ("Q6_K", 210, [208])]:
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for at in halves:
            block[at:at + 2] = np.frombuffer(np.float16(rng.normal() / 8).tobytes(), dtype=np.uint8)
        values = quants.dequantize(block.reshape(1, size), T[name]).astype(np.float32)
        out.append({"type": name, "block": block.tobytes().hex(), "f32": values.tobytes().hex()})
    write("types.json", out)


def main():
    os.makedirs(OUT, exist_ok=True)
    rng = random.Random(7)
    pool = "ab Zz  '\n\r\t09.,!/_$\u00e9\u0301\u0645\u0663\u65e5\ud55c\u01c5\u02b0\u00a0\u2003\u3000\u200b\U0001F642srtv"
    mixed = ["".join(rng.choice(pool) for _ in range(rng.randint(3, 24))) for _ in range(24)]
    texts = TEXTS + mixed
    write("pretok.json", {"texts": texts, "names": list(PRETOK), "pieces": [[pieces(n, t) for t in texts] for n in PRETOK]})
    types()
    bpe()
    spm()
    wordpiece()
    vocabularies(sys.argv[1])


if __name__ == "__main__":
    main()

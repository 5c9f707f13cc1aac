# SPDX-License-Identifier: Apache-2.0
"""Our logits against transformers': python logits.py CHECK_LOGITS [--only TEXT] [--models DIR].

For every architecture that the engine runs, and every type of weights, a small model with random
weights is written as GGUF: by the `gguf` package, whose quantisers are not ours. (It has none for
K types; their blocks are random bits with sane scales, which reaches every pattern.) The file is
then read back by the same package, decoded to floats, and given to transformers in float32 on the
CPU; both get the same tokens. We feed a prompt in pieces, then token by token.

    file  ->  gguf's reader  ->  floats  ->  transformers  \\
          ->  check_logits (our reader, our kernels)        >  logits of all positions, compared

A line for each model. KV f32: the largest difference with keys and values kept in f32; it must be
within 1e-3. KV f16, the engine's default: how far that takes us from the same floats, and how far
it takes transformers when its own cache rounds so: 1e-3 to 1e-2 in both, so ours must be within
twice theirs; and it must have the same bits however the prompt is cut. (Held against each other
the two still differ: a number on the edge between two halves falls to either side.) `spread` is
the standard deviation of the logits: what differences are to be held against. --models adds the
real models of a directory (*.gguf of family llama).

Ends with 'N passed, N failed'; the exit status says whether all passed.
"""
import argparse
import math
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
from gguf.constants import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

BOUND = 1e-3
TOKENS, PROMPT, PIECE = 160, 128, 48
LAYERS, EMBD, FF, VOCAB = 3, 256, 512, 384
PLAIN = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]
KTYPES = {T.Q4_K: 144, T.Q5_K: 176, T.Q6_K: 210}  # bytes of 256 weights
MATRICES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj"}
VECTORS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
           "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
HF = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig,
      "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config}

# What a model may have beside its architecture. heads, kv, d: of attention. rope: transformers' words.
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BASE = {
    "llama": dict(heads=4, kv=2, d=64, theta=500000.0),
    "mistral": dict(heads=4, kv=1, d=128, theta=1e6, window=4096),
    "qwen2": dict(heads=4, kv=2, d=64, theta=1e6, tied=True, qkv_bias=True, eps=1e-6),
    "qwen3": dict(heads=4, kv=2, d=128, theta=1e6, tied=True, eps=1e-6),
}
VARIANTS = [
    ("llama", "tied", dict(tied=True)),
    ("llama", "one KV head a head", dict(kv=4)),
    ("llama", "biases", dict(qkv_bias=True, out_bias=True)),
    ("llama", "rope llama3, tied", dict(rope=LLAMA3, tied=True)),
    ("llama", "rope linear", dict(rope={"rope_type": "linear", "factor": 4.0})),
    ("llama", "rope yarn", dict(rope=YARN)),
    ("mistral", "no window", dict(window=None)),
    ("mistral", "tied, rope yarn", dict(tied=True, rope=YARN)),
    ("qwen2", "untied", dict(tied=False)),
    ("qwen2", "rope yarn", dict(rope=YARN)),
    ("qwen3", "untied", dict(tied=False)),
    ("qwen3", "rope yarn", dict(rope=YARN)),
]


# ---- writing

def random_k(rng, kind, rows, cols):
    """Random blocks of a K type: every bit of quants and sub-scales, scales that give 1/sqrt(cols)."""
    size = KTYPES[kind]
    raw = rng.integers(0, 256, (rows * cols // 256, size), dtype=np.uint8)
    d = rng.uniform(0.5, 1.5, len(raw))
    middle = {T.Q4_K: 7.5, T.Q5_K: 15.5}.get(kind)

    def fill(scale):
        both = (d * scale).astype(np.float16)
        if middle:  # d and dmin lead the block; on average what dmin takes away centres the weights
            least = (both.astype(np.float32) * middle).astype(np.float16)
            raw[:, 0:2] = both.reshape(-1, 1).view(np.uint8)
            raw[:, 2:4] = least.reshape(-1, 1).view(np.uint8)
        else:
            raw[:, 208:210] = both.reshape(-1, 1).view(np.uint8)
        return dequantize(raw, kind)

    fill(1e-3 / fill(1e-3).std() / math.sqrt(cols))
    return raw.reshape(rows, -1)


def matrix(rng, kind, rows, cols):
    if kind in KTYPES:
        return random_k(rng, kind, rows, cols)
    return quantize((rng.standard_normal((rows, cols)) / math.sqrt(cols)).astype(np.float32), kind)


def rope_factors(rope, theta, d):
    """Of Llama 3.1: what converters write as rope_freqs.weight."""
    old = rope["original_max_position_embeddings"]
    low, high = old / rope["low_freq_factor"], old / rope["high_freq_factor"]
    wave = 2 * math.pi * theta ** (np.arange(0, d, 2) / d)
    smooth = (old / wave - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    return np.where(wave < high, 1, np.where(wave > low, rope["factor"], between)).astype(np.float32)


def write_header(w, arch, o):
    w.add_context_length(8192)
    w.add_block_count(LAYERS)
    w.add_embedding_length(EMBD)
    w.add_feed_forward_length(FF)
    w.add_head_count(o["heads"])
    w.add_head_count_kv(o["kv"])
    w.add_key_length(o["d"])
    w.add_value_length(o["d"])
    w.add_rope_dimension_count(o["d"])
    w.add_rope_freq_base(o["theta"])
    w.add_layer_norm_rms_eps(o.get("eps", 1e-5))
    w.add_vocab_size(VOCAB)
    if o.get("window"):
        w.add_sliding_window(o["window"])
    rope = o.get("rope")
    if rope and rope["rope_type"] != "llama3":
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
        if "original_max_position_embeddings" in rope:
            w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def write(path, arch, o, kind, seed):
    """A model of random weights: each product keeps the size of what it multiplies."""
    rng = np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, arch)
    write_header(w, arch, o)

    def add(name, rows, cols):
        w.add_tensor(name, matrix(rng, kind, rows, cols), raw_dtype=kind)

    def vector(name, n, middle, size):
        w.add_tensor(name, (middle + size * rng.standard_normal(n)).astype(np.float32))

    q, kv = o["heads"] * o["d"], o["kv"] * o["d"]
    add("token_embd.weight", VOCAB, EMBD)
    for i in range(LAYERS):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", EMBD, 1, .2)
        vector(b + "ffn_norm.weight", EMBD, 1, .2)
        for name, rows, cols in [("attn_q", q, EMBD), ("attn_k", kv, EMBD), ("attn_v", kv, EMBD),
                                 ("attn_output", EMBD, q), ("ffn_gate", FF, EMBD),
                                 ("ffn_up", FF, EMBD), ("ffn_down", EMBD, FF)]:
            add(b + name + ".weight", rows, cols)
        if arch == "qwen3":
            vector(b + "attn_q_norm.weight", o["d"], 1, .2)
            vector(b + "attn_k_norm.weight", o["d"], 1, .2)
        if o.get("qkv_bias"):
            for name, n in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)]:
                vector(b + name + ".bias", n, 0, .5)
        if o.get("out_bias"):
            vector(b + "attn_output.bias", EMBD, 0, .5)
    vector("output_norm.weight", EMBD, 1, .2)
    if not o.get("tied"):
        add("output.weight", VOCAB, EMBD)
    if o.get("rope", {}).get("rope_type") == "llama3":
        w.add_tensor("rope_freqs.weight", rope_factors(o["rope"], o["theta"], o["d"]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- the other engine

def unpermute(x, heads):
    """Back from pairs (2p, 2p + 1) to (p, p + d/2): what converters of llama did to q and k."""
    return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def weights(reader, arch, heads, kv):
    state = {}
    for t in reader.tensors:
        x = np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)
        parts = t.name.split(".")
        if t.name == "rope_freqs.weight":
            continue
        if parts[0] != "blk":
            state[{"token_embd": "model.embed_tokens", "output_norm": "model.norm",
                   "output": "lm_head"}[parts[0]] + ".weight"] = torch.from_numpy(x)
            continue
        if arch in ("llama", "mistral") and parts[2] in ("attn_q", "attn_k"):
            x = unpermute(x, heads if parts[2] == "attn_q" else kv)
        name = MATRICES.get(parts[2]) or VECTORS[parts[2]]
        state[f"model.layers.{parts[1]}.{name}.{parts[3]}"] = torch.from_numpy(np.ascontiguousarray(x))
    return state


def build(reader, arch, o, layers, embd, ff, vocab):
    rope = dict(o.get("rope") or {"rope_type": "default"}, rope_theta=o["theta"])
    more = {}
    if arch == "llama":
        more["attention_bias"] = bool(o.get("out_bias"))
    if arch == "mistral":
        more["sliding_window"] = o.get("window")
    config = HF[arch](hidden_size=embd, intermediate_size=ff, num_hidden_layers=layers,
                      num_attention_heads=o["heads"], num_key_value_heads=o["kv"], head_dim=o["d"],
                      vocab_size=vocab, rms_norm_eps=o.get("eps", 1e-5), rope_parameters=rope,
                      max_position_embeddings=8192, tie_word_embeddings=bool(o.get("tied")),
                      attn_implementation="eager", **more)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    missing, unknown = model.load_state_dict(weights(reader, arch, o["heads"], o["kv"]), strict=False)
    if set(missing) - ({"lm_head.weight"} if o.get("tied") else set()) or unknown:
        raise RuntimeError(f"weights do not fit: missing {missing}, unknown {unknown}")
    model.tie_weights()
    return model


def described(reader):
    """What a file of family llama says: as the options of BASE, and its sizes."""
    def get(key, otherwise=None):
        field = reader.get_field(key)
        return field.contents() if field else otherwise
    arch = get("general.architecture")
    heads, embd = get(arch + ".attention.head_count"), get(arch + ".embedding_length")
    names = {t.name: t for t in reader.tensors}
    if arch != "llama" or "rope_freqs.weight" in names or get(arch + ".rope.scaling.type", "none") != "none":
        raise RuntimeError("not a plain model of family llama")
    o = dict(heads=heads, kv=get(arch + ".attention.head_count_kv", heads),
             d=get(arch + ".rope.dimension_count", embd // heads),
             theta=get(arch + ".rope.freq_base", 10000.0),
             eps=get(arch + ".attention.layer_norm_rms_epsilon"), tied="output.weight" not in names)
    return arch, o, (get(arch + ".block_count"), embd, get(arch + ".feed_forward_length"),
                     int(names["token_embd.weight"].shape[1]))


class HalfCache(transformers.DynamicCache):
    """Keys and values as f16 has them."""

    def update(self, key_states, value_states, *rest, **named):
        return super().update(key_states.half().float(), value_states.half().float(), *rest, **named)


# ---- comparing

class Suite:
    def __init__(self, program):
        self.program, self.passed, self.failed = program, 0, 0

    def ours(self, path, ids, codec, piece):
        out = subprocess.run([self.program, path, codec, str(PROMPT), str(piece)], input=ids.tobytes(),
                             stdout=subprocess.PIPE, check=True)
        return np.frombuffer(out.stdout, np.float32).reshape(len(ids), -1)

    def compare(self, label, path, arch, o, sizes):
        reader = gguf.GGUFReader(path)
        ids = np.random.default_rng(7).integers(0, sizes[3], TOKENS, dtype=np.uint32)
        model, batch = build(reader, arch, o, *sizes), torch.from_numpy(ids.astype(np.int64))[None]
        with torch.no_grad():
            exact = model(batch).logits[0].numpy()
            rounded = model(batch, past_key_values=HalfCache(), use_cache=True).logits[0].numpy()
        f32, f16 = self.ours(path, ids, "f32", PIECE), self.ours(path, ids, "f16", PIECE)
        same = (self.ours(path, ids, "f16", 256) == f16).all()
        d32, d16 = np.abs(f32 - exact).max(), np.abs(f16 - exact).max()
        cost = np.abs(rounded - exact).max()
        good = d32 <= BOUND and d16 <= max(BOUND, 2 * cost) and same
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{label:38} spread {exact.std():5.2f}  KV f32 {d32:.1e}  KV f16 {d16:.1e} (theirs "
              f"{cost:.1e})  {'' if same else 'pieces differ  '}{'pass' if good else 'FAIL'}", flush=True)


def cases():
    for arch, o in BASE.items():
        for kind in PLAIN + list(KTYPES):
            yield f"{arch} {kind.name}", arch, o, kind
    for arch, name, more in VARIANTS:
        for kind in (T.F32, T.Q8_0):
            yield f"{arch} {kind.name}, {name}", arch, {**BASE[arch], **more}, kind


def main():
    p = argparse.ArgumentParser(description="our logits against transformers'")
    p.add_argument("program")
    p.add_argument("--only", default="", help="cases whose name has this text")
    p.add_argument("--models", help="a directory of real models")
    a = p.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    suite = Suite(a.program)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; {TOKENS} tokens, "
          f"{PROMPT} of them in pieces of {PIECE}; bound {BOUND:g}")
    with tempfile.TemporaryDirectory() as folder:
        for seed, (label, arch, o, kind) in enumerate(cases()):
            if a.only in label:
                path = os.path.join(folder, f"{seed}.gguf")
                write(path, arch, o, kind, seed)
                suite.compare(label, path, arch, o, (LAYERS, EMBD, FF, VOCAB))
    for name in sorted(os.listdir(a.models)) if a.models else []:
        path = os.path.join(a.models, name)
        if name.endswith(".gguf") and gguf.GGUFReader(path).tensors:
            suite.compare(name, path, *described(gguf.GGUFReader(path)))
    print(f"{suite.passed} passed, {suite.failed} failed")
    return 1 if suite.failed or not suite.passed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of train.py as a GGUF file (version 3): matrices Q8_0, vectors F32, the vocabulary.

magic version n_tensors n_keys | key type value ... | name n_dims dims type offset ... | pad | data
"""

import argparse
import os
import struct

import numpy as np

import tokenizer

U32, F32, BOOL, TEXT, ARRAY, I32 = 4, 6, 7, 8, 9, 5
KIND_F32, KIND_Q8_0 = 0, 8
ALIGN = 32
NORMAL, CONTROL = 1, 3
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}"
)


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == TEXT:
        return text(v)
    if kind == ARRAY:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, x) for x in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def q8_0(m):
    """Blocks of 32: a half-float scale and 32 signed bytes."""
    rows = m.reshape(-1, 32).astype(np.float32)
    scale = np.abs(rows).max(1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    q = np.rint(rows * inverse[:, None]).astype(np.int8)
    out = np.empty(len(rows), dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"], out["q"] = scale.astype(np.float16), q
    return out.tobytes()


def interleaved(w, heads, head):
    """Rows of Wq, Wk: what was pair (p, p + d/2) becomes (2p, 2p + 1), as "llama" files have it."""
    return w.reshape(heads, 2, head // 2, -1).swapaxes(1, 2).reshape(heads * head, -1)


def tensors(s, p):
    q, kv = s["heads"] * s["head"], s["kv_heads"] * s["head"]
    out = [("token_embd.weight", p["embed.weight"]), ("output_norm.weight", p["norm"])]
    for i in range(s["layers"]):
        b = f"blocks.{i}."
        qkv, gate_up = p[b + "qkv.weight"], p[b + "gate_up.weight"]
        named = {
            "attn_norm": p[b + "norm1"],
            "attn_q": interleaved(qkv[:q], s["heads"], s["head"]),
            "attn_k": interleaved(qkv[q : q + kv], s["kv_heads"], s["head"]),
            "attn_v": qkv[q + kv :],
            "attn_output": p[b + "out.weight"],
            "ffn_norm": p[b + "norm2"],
            "ffn_gate": gate_up[: s["ff"]],
            "ffn_up": gate_up[s["ff"] :],
            "ffn_down": p[b + "down.weight"],
        }
        out += [(f"blk.{i}.{k}.weight", v) for k, v in named.items()]
    return out


def keys(s, tok):
    types = [CONTROL if i < len(tokenizer.SPECIAL) else NORMAL for i in range(len(tok.tokens))]
    t = "tokenizer.ggml."
    return [
        ("general.architecture", TEXT, "llama"),
        ("general.name", TEXT, "larder-mini"),
        (
            "general.description",
            TEXT,
            "A toy model to see a KV cache at work: recalls words, tells tiny stories",
        ),
        ("general.author", TEXT, "The Larder authors"),
        ("general.license", TEXT, "apache-2.0"),
        ("general.file_type", U32, 7),
        ("general.quantization_version", U32, 2),
        ("general.alignment", U32, ALIGN),
        ("llama.block_count", U32, s["layers"]),
        ("llama.context_length", U32, s["context"]),
        ("llama.embedding_length", U32, s["width"]),
        ("llama.feed_forward_length", U32, s["ff"]),
        ("llama.attention.head_count", U32, s["heads"]),
        ("llama.attention.head_count_kv", U32, s["kv_heads"]),
        ("llama.attention.key_length", U32, s["head"]),
        ("llama.attention.value_length", U32, s["head"]),
        ("llama.attention.layer_norm_rms_epsilon", F32, s["eps"]),
        ("llama.rope.freq_base", F32, s["rope_base"]),
        ("llama.rope.dimension_count", U32, s["head"]),
        ("llama.vocab_size", U32, len(tok.tokens)),
        (t + "model", TEXT, "gpt2"),
        (t + "pre", TEXT, "llama-bpe"),
        (t + "tokens", ARRAY, (TEXT, tok.tokens)),
        (t + "token_type", ARRAY, (I32, types)),
        (t + "merges", ARRAY, (TEXT, [" ".join(m) for m in tok.merges])),
        (t + "bos_token_id", U32, tokenizer.BOS),
        (t + "eos_token_id", U32, tokenizer.EOS),
        (t + "eot_token_id", U32, tokenizer.IM_END),
        (t + "padding_token_id", U32, tokenizer.EOS),
        (t + "add_bos_token", BOOL, True),
        ("tokenizer.chat_template", TEXT, TEMPLATE),
    ]


def write(path, s, params, tok):
    kv = b"".join(text(k) + struct.pack("<I", t) + value(t, v) for k, t, v in keys(s, tok))
    info, data = b"", b""
    named = tensors(s, params)
    for name, m in named:
        kind = KIND_Q8_0 if m.ndim == 2 else KIND_F32
        info += (
            text(name)
            + struct.pack("<I", m.ndim)
            + b"".join(struct.pack("<Q", d) for d in m.shape[::-1])
        )
        info += struct.pack("<IQ", kind, len(data))
        data += q8_0(m) if kind == KIND_Q8_0 else m.astype("<f4").tobytes()
        data += b"\0" * (-len(data) % ALIGN)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(named), len(keys(s, tok))) + kv + info
    with open(path + ".new", "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN) + data)
    os.replace(path + ".new", path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--vocab", required=True, help="vocab.json of prepare.py")
    p.add_argument("--out", required=True)
    a = p.parse_args()
    import torch  # here: the rest of this file needs numpy only

    c = torch.load(a.checkpoint, weights_only=False)
    params = {k: v.float().numpy() for k, v in c["model"].items()}
    write(a.out, c["shape"], params, tokenizer.Tokenizer.load(a.vocab))
    print(a.out, os.path.getsize(a.out), "bytes, step", c["state"]["step"])


if __name__ == "__main__":
    main()

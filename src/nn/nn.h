/* SPDX-License-Identifier: Apache-2.0
 * nn/nn.h - model files in, tokens and tensors out.
 *
 *   type     tensor element types, blocks, reference decoding to f32
 *   gguf     GGUF v2/v3: metadata and tensors; a streaming writer     (docs/formats/gguf.md)
 *   st       safetensors: tensors
 *   tok      tokenisers: SPM (llama), byte-level BPE (gpt2), WordPiece (bert)
 *
 * Bounds first: every count, length, dimension and offset of a file is checked against the file's
 * size and against a stated maximum before anything is allocated or read. A file that does not pass
 * gives one error that says what is wrong (err->msg) and where (err->where: "metadata key 'x'",
 * "tensor 'blk.0.attn_q.weight' offset", "byte 17"). Error numbers throughout:
 *
 *   LR_EPARSE        malformed, truncated, contradictory
 *   LR_EOVER         over one of the maxima below
 *   LR_EVERSION      a version or byte order we do not read
 *   LR_EUNSUPPORTED  a tensor type, tokeniser or pre-tokeniser we do not have: named in the message
 *   LR_ENOENT        no such key, no such file
 *   LR_EINVAL        a key of another type than asked for; text outside a vocabulary
 *   LR_ECORRUPT      a file that changed after it was opened
 *   LR_ENOMEM, LR_EIO, LR_EDENIED
 *
 * Threads: opened files and tokenisers are never written again: any number of threads may read
 * them. Writers, decoders and lists of ids belong to one thread at a time.
 */
#ifndef LR_NN_NN_H
#define LR_NN_NN_H

#include "base/base.h"

/* ---- maxima ---- */

#define LR_NN_DIMS        4u          /* dimensions of a tensor */
#define LR_NN_TENSORS_MAX (1u << 16)  /* tensors of a file */
#define LR_NN_KEYS_MAX    (1u << 16)  /* metadata keys of a file */
#define LR_NN_KEY_MAX     65535u      /* bytes of a key (GGUF's own limit) */
#define LR_NN_NAME_MAX    255u        /* bytes of a tensor's name */
#define LR_NN_TEXT_MAX    LR_MIB(16)  /* bytes of a metadata string */
#define LR_NN_ARRAY_MAX   (1u << 24)  /* elements of a metadata array */
#define LR_NN_NEST_MAX    4u          /* arrays in arrays */
#define LR_NN_META_MAX    LR_MIB(512) /* bytes of metadata in memory */
#define LR_NN_ALIGN_MAX   LR_KIB(64)  /* general.alignment; a power of two from 8 on */
#define LR_NN_HEADER_MAX  LR_MIB(64)  /* bytes of a safetensors header */
#define LR_NN_VOCAB_MAX   (1u << 21)  /* tokens, and as many merges times four */
#define LR_NN_TOKEN_MAX   4096u       /* bytes of a token's text */
#define LR_NN_INPUT_MAX   LR_MIB(16)  /* bytes of a text to encode */

/* ---- element types ---- */

/* GGUF files hold the first eleven; the rest occur in safetensors and are carried, not decoded. */
enum lr_nn_type {
    LR_NN_F32,
    LR_NN_F16,
    LR_NN_BF16,
    LR_NN_Q8_0,
    LR_NN_Q4_0,
    LR_NN_Q4_1,
    LR_NN_Q5_0,
    LR_NN_Q5_1,
    LR_NN_Q4_K,
    LR_NN_Q5_K,
    LR_NN_Q6_K,
    LR_NN_F64,
    LR_NN_I8,
    LR_NN_U8,
    LR_NN_I16,
    LR_NN_U16,
    LR_NN_I32,
    LR_NN_U32,
    LR_NN_I64,
    LR_NN_U64,
    LR_NN_BOOL,
    LR_NN_TYPES
};

struct lr_nn_type_info {
    const char *name;     /* "Q4_K" */
    uint32_t block;       /* elements that are stored together; a row is a whole number of blocks */
    uint32_t block_bytes; /* bytes of a block */
    int32_t ggml;         /* number in GGUF files; -1: not allowed there */
    /* blocks * block floats from blocks at src (any alignment); NULL for types that are only
     * carried. Scalar and plain: the twin that fast kernels are tested against. */
    void (*decode)(const uint8_t *src, size_t blocks, float *dst);
};

/* Static; type < LR_NN_TYPES. */
const struct lr_nn_type_info *lr_nn_type_info(enum lr_nn_type type);
/* By the name above, case-insensitive. LR_ENOENT. */
int lr_nn_type_find(struct lr_str name, enum lr_nn_type *out);
/* n elements as f32. LR_EINVAL unless n is a whole number of blocks; LR_EUNSUPPORTED for types that
 * are only carried. */
int lr_nn_decode(enum lr_nn_type type, const void *src, size_t n, float *dst);
/* IEEE half and bfloat16 to f32, exact; NaN stays NaN. */
float lr_nn_f16(uint16_t bits);
float lr_nn_bf16(uint16_t bits);

/* A tensor in a file. Row-major with ne[0] the contiguous dimension (a matrix of R rows of C
 * columns has ne = {C, R, 1, 1}). */
struct lr_nn_tensor {
    struct lr_str name; /* the file's */
    enum lr_nn_type type;
    uint32_t dims;           /* 0 (a scalar, safetensors only) to 4 */
    uint64_t ne[LR_NN_DIMS]; /* elements; 1 beyond dims */
    uint64_t bytes;          /* of data; checked: no size below overflows */
    const void *data;        /* the file's, until it is closed; aligned to the file's alignment
                                (safetensors: to the element, or the file is refused) */
};

/* ---- files ----
 *
 * A file below map_min bytes is read into memory. A larger one is mapped, after its size was taken;
 * metadata is copied with pread and never read through the map. If somebody truncates a mapped
 * file, touching the lost pages raises SIGBUS; a handler of ours puts pages of zeros there, so that
 * the process lives on with wrong numbers, and marks the file: *_check then says LR_ECORRUPT. So:
 * call check after a batch of work and before its result leaves the house. The handler is installed
 * with the first mapped file; faults outside our maps go to the handler that was there before.
 * A thread that blocks SIGBUS dies with the process instead: call lr_nn_thread_init in threads made
 * by lr_thread_start, which block all signals. */

struct lr_nn_file_opts {
    uint64_t map_min; /* bytes; 0 = 1 MiB */
};

/* Lets the calling thread outlive truncated maps. Cheap; may be called twice. */
void lr_nn_thread_init(void);

/* ---- GGUF ---- */

struct lr_nn_gguf;

/* The numbers are the format's. */
enum lr_nn_kv_type {
    LR_NN_KV_U8,
    LR_NN_KV_I8,
    LR_NN_KV_U16,
    LR_NN_KV_I16,
    LR_NN_KV_U32,
    LR_NN_KV_I32,
    LR_NN_KV_F32,
    LR_NN_KV_BOOL,
    LR_NN_KV_TEXT,
    LR_NN_KV_ARRAY,
    LR_NN_KV_U64,
    LR_NN_KV_I64,
    LR_NN_KV_F64,
    LR_NN_KV_TYPES
};

/* One metadata pair. A scalar is an array of one: n == 1, elem == type. */
struct lr_nn_kv {
    struct lr_str key;
    enum lr_nn_kv_type type; /* as in the file */
    enum lr_nn_kv_type elem; /* of the elements; LR_NN_KV_ARRAY: arrays in an array, not kept */
    size_t n;                /* elements */
    const void *data;        /* TEXT: struct lr_str[n]; numbers: packed as in the file, 8-aligned */
};

/* opts and err may be NULL. */
int lr_nn_gguf_open(struct lr_nn_gguf **out, const char *path, const struct lr_nn_file_opts *opts,
                    struct lr_err *err);
/* Of bytes in memory, which must outlive the file; p aligned to 64 or tensors may not be. */
int lr_nn_gguf_open_mem(struct lr_nn_gguf **out, struct lr_str bytes, struct lr_err *err);
void lr_nn_gguf_close(struct lr_nn_gguf *g); /* NULL is fine */
/* 0 while a mapped file is the one that was opened (size, time of change, no lost pages); files
 * that were read, and those in memory, always are. */
int lr_nn_gguf_check(const struct lr_nn_gguf *g, struct lr_err *err);

uint32_t lr_nn_gguf_version(const struct lr_nn_gguf *g);
size_t lr_nn_gguf_keys(const struct lr_nn_gguf *g);
const struct lr_nn_kv *lr_nn_gguf_key(const struct lr_nn_gguf *g, size_t i); /* file order */
const struct lr_nn_kv *lr_nn_gguf_find(const struct lr_nn_gguf *g, const char *key); /* or NULL */
size_t lr_nn_gguf_tensors(const struct lr_nn_gguf *g);
const struct lr_nn_tensor *lr_nn_gguf_at(const struct lr_nn_gguf *g, size_t i); /* file order */
/* By name, or NULL. */
const struct lr_nn_tensor *lr_nn_gguf_tensor(const struct lr_nn_gguf *g, const char *name);

/* Typed reads of scalars. LR_ENOENT (err untouched) when the key is absent; LR_EINVAL with err when
 * it has another type or does not fit. Integers of any width serve for u64 (not negative) and i64;
 * real takes integers too. Texts live until the file closes. */
int lr_nn_gguf_u64(const struct lr_nn_gguf *g, const char *key, uint64_t *out, struct lr_err *err);
int lr_nn_gguf_i64(const struct lr_nn_gguf *g, const char *key, int64_t *out, struct lr_err *err);
int lr_nn_gguf_real(const struct lr_nn_gguf *g, const char *key, double *out, struct lr_err *err);
int lr_nn_gguf_bool(const struct lr_nn_gguf *g, const char *key, bool *out, struct lr_err *err);
int lr_nn_gguf_text(const struct lr_nn_gguf *g, const char *key, struct lr_str *out,
                    struct lr_err *err);
/* Elements of numeric pairs, i < kv->n. false: no number, or out of the result's range. */
bool lr_nn_kv_i64(const struct lr_nn_kv *kv, size_t i, int64_t *out);
bool lr_nn_kv_u64(const struct lr_nn_kv *kv, size_t i, uint64_t *out);
bool lr_nn_kv_real(const struct lr_nn_kv *kv, size_t i, double *out);

/* The writer: metadata, then the list of tensors, then their bytes in the same order; a tensor of
 * many gigabytes passes through in pieces. Written to PATH.part, synced and renamed at the end:
 * PATH is never half a file. Any failure sticks: later calls return it again. */
struct lr_nn_gguf_writer;

/* align: 0 = 32; else stored as general.alignment. */
int lr_nn_gguf_create(struct lr_nn_gguf_writer **out, const char *path, uint32_t align,
                      struct lr_err *err);
int lr_nn_gguf_put_u32(struct lr_nn_gguf_writer *w, const char *key, uint32_t v);
int lr_nn_gguf_put_u64(struct lr_nn_gguf_writer *w, const char *key, uint64_t v);
int lr_nn_gguf_put_f32(struct lr_nn_gguf_writer *w, const char *key, float v);
int lr_nn_gguf_put_bool(struct lr_nn_gguf_writer *w, const char *key, bool v);
int lr_nn_gguf_put_text(struct lr_nn_gguf_writer *w, const char *key, struct lr_str v);
/* Any pair, scalar or array: what a reader found can be copied. LR_EINVAL for arrays of arrays. */
int lr_nn_gguf_put(struct lr_nn_gguf_writer *w, const struct lr_nn_kv *kv);
/* Announces a tensor; name, type, dims and ne count, bytes and data are ignored. */
int lr_nn_gguf_declare(struct lr_nn_gguf_writer *w, const struct lr_nn_tensor *t);
/* The next n bytes of tensor data; padding between tensors is the writer's business. */
int lr_nn_gguf_data(struct lr_nn_gguf_writer *w, const void *p, size_t n);
/* Completes the file (LR_EINVAL when bytes are missing or pairs repeat) and frees w, whatever it
 * returns. The file is read back first: what our reader refuses is not written. */
int lr_nn_gguf_finish(struct lr_nn_gguf_writer *w, struct lr_err *err);
void lr_nn_gguf_abandon(struct lr_nn_gguf_writer *w); /* frees and leaves no file; NULL is fine */

/* ---- safetensors ---- */

struct lr_nn_st;

int lr_nn_st_open(struct lr_nn_st **out, const char *path, const struct lr_nn_file_opts *opts,
                  struct lr_err *err);
/* As for GGUF: the bytes outlive the file and are aligned to 64. */
int lr_nn_st_open_mem(struct lr_nn_st **out, struct lr_str bytes, struct lr_err *err);
void lr_nn_st_close(struct lr_nn_st *s);
int lr_nn_st_check(const struct lr_nn_st *s, struct lr_err *err);
size_t lr_nn_st_tensors(const struct lr_nn_st *s);
const struct lr_nn_tensor *lr_nn_st_at(const struct lr_nn_st *s, size_t i); /* header order */
const struct lr_nn_tensor *lr_nn_st_tensor(const struct lr_nn_st *s, const char *name);
/* A text of __metadata__; {NULL, 0} when absent. */
struct lr_str lr_nn_st_text(const struct lr_nn_st *s, const char *key);

/* ---- tokenisers ---- */

struct lr_nn_tok;

#define LR_NN_NO_TOKEN UINT32_MAX

enum lr_nn_tok_kind { LR_NN_SPM, LR_NN_BPE, LR_NN_WORDPIECE };

/* What a token is; GGUF's numbers. */
enum lr_nn_token_type {
    LR_NN_TOKEN_NORMAL = 1,
    LR_NN_TOKEN_UNKNOWN = 2,
    LR_NN_TOKEN_CONTROL = 3, /* from trusted text only (LR_NN_PARSE_SPECIAL); decodes to nothing */
    LR_NN_TOKEN_USER = 4,    /* matched in text before everything else */
    LR_NN_TOKEN_UNUSED = 5,
    LR_NN_TOKEN_BYTE = 6 /* "<0x0A>" of SPM */
};

/* Tokens with a role; LR_NN_NO_TOKEN where the vocabulary has none. */
struct lr_nn_roles {
    uint32_t bos, eos, eot, unk, sep, pad, cls, mask;
};

/* The raw material. Everything is copied: it need not outlive lr_nn_tok_new. */
struct lr_nn_vocab {
    enum lr_nn_tok_kind kind;
    size_t n;
    const struct lr_str *tokens; /* (n) SPM and WordPiece: a leading U+2581 stands for a space;
                                    BPE: bytes spelled as in GPT-2 */
    const float *scores;         /* (n) SPM: required; no NaN. Others: NULL */
    const int32_t *types;        /* (n) enum lr_nn_token_type; NULL: all normal */
    size_t n_merges;
    const struct lr_str *merges; /* (n_merges) BPE: "left right", best first */
    struct lr_str pre;           /* BPE: name of the pre-tokeniser; empty: lr_nn_tok_guessed */
    struct lr_nn_roles roles;
    bool add_bos, add_eos;        /* with LR_NN_ADD_SPECIAL (WordPiece: cls and sep) */
    bool add_space_prefix;        /* SPM: a space before text at the start and after specials */
    bool keep_case, keep_accents; /* WordPiece: cased vocabularies */
    bool strip_after_special;     /* Phi-3: white space after special tokens belongs to them */
};

/* Builds hash tables once; O(size of the vocabulary). LR_EUNSUPPORTED names an unknown pre. */
int lr_nn_tok_new(struct lr_nn_tok **out, const struct lr_nn_vocab *v, struct lr_err *err);
/* From tokenizer.ggml.* of a file, which may be closed afterwards. */
int lr_nn_tok_open(struct lr_nn_tok **out, const struct lr_nn_gguf *g, struct lr_err *err);
void lr_nn_tok_close(struct lr_nn_tok *t);

enum lr_nn_tok_kind lr_nn_tok_kind(const struct lr_nn_tok *t);
size_t lr_nn_tok_size(const struct lr_nn_tok *t);
const struct lr_nn_roles *lr_nn_tok_roles(const struct lr_nn_tok *t);
bool lr_nn_tok_adds_bos(const struct lr_nn_tok *t);
bool lr_nn_tok_adds_eos(const struct lr_nn_tok *t);
/* true: the file names no pre-tokeniser (or "default"), and a general one is used, which may split
 * otherwise than the model was trained with: warn the user. */
bool lr_nn_tok_guessed(const struct lr_nn_tok *t);
/* The text in the vocabulary, the bytes it stands for, its type; id < size. Views live with t. */
struct lr_str lr_nn_tok_text(const struct lr_nn_tok *t, uint32_t id);
struct lr_str lr_nn_tok_bytes(const struct lr_nn_tok *t, uint32_t id);
enum lr_nn_token_type lr_nn_tok_type(const struct lr_nn_tok *t, uint32_t id);
/* The token with this vocabulary text, or LR_NN_NO_TOKEN. */
uint32_t lr_nn_tok_find(const struct lr_nn_tok *t, struct lr_str text);
/* Generation ends here: eos, eot, and the end-of-turn tokens of known chat formats. */
bool lr_nn_tok_ends(const struct lr_nn_tok *t, uint32_t id);

/* A growing list of ids with a stated maximum. */
struct lr_nn_ids {
    uint32_t *id; /* owned; free with lr_nn_ids_free */
    size_t n, cap;
    size_t max; /* LR_EOVER beyond */
};
void lr_nn_ids_init(struct lr_nn_ids *ids, size_t max);
void lr_nn_ids_free(struct lr_nn_ids *ids);
int lr_nn_ids_add(struct lr_nn_ids *ids, uint32_t id);

enum lr_nn_encode_flags {
    LR_NN_ADD_SPECIAL = 1,  /* bos and eos as the vocabulary says */
    LR_NN_PARSE_SPECIAL = 2 /* control tokens spelled in the text become such tokens: for templates
                               and trusted text only */
};

/* Appends the tokens of text. O(n log n) time, about 40 bytes of scratch a byte of the longest
 * piece between special tokens (SPM) or word (BPE). Malformed UTF-8 is encoded byte by byte where
 * the vocabulary has bytes. LR_EINVAL, "character U+00E9 is not in the vocabulary" at "byte 17",
 * where neither character nor bytes are (WordPiece: only when it has no unknown token); LR_EOVER
 * when text or ids exceed their maximum. On error ids is as it was. */
int lr_nn_tok_encode(const struct lr_nn_tok *t, struct lr_str text, unsigned flags,
                     struct lr_nn_ids *ids, struct lr_err *err);

/* Ids to text, piece by piece. What comes out is well-formed UTF-8 at every step: an incomplete
 * sequence is held back until it is complete; one that cannot become complete is U+FFFD. */
struct lr_nn_decoder {
    const struct lr_nn_tok *t;
    bool special; /* spell out control and unknown tokens */
    bool strip;   /* still at the start: drop the space the vocabulary puts before text */
    uint8_t n_held;
    char held[4];
};
/* Zero-cost; from_start: the ids begin a text (drop the leading space of SPM and WordPiece), else
 * they continue one. */
void lr_nn_decoder_init(struct lr_nn_decoder *d, const struct lr_nn_tok *t, bool from_start,
                        bool special);
/* Appends what can be told so far. LR_EINVAL: no such id. */
int lr_nn_decoder_add(struct lr_nn_decoder *d, uint32_t id, struct lr_buf *out);
/* What is still held back becomes U+FFFD; the decoder may go on. */
int lr_nn_decoder_end(struct lr_nn_decoder *d, struct lr_buf *out);

/* ---- pre-tokenisers (public for tests and tools) ---- */

/* Cuts text into the words that BPE never merges across. word(ctx, piece) gets them in order,
 * non-empty, and together they are the text; it may stop the cutting with an error. LR_ENOENT: no
 * pre-tokeniser of that name. */
int lr_nn_pretok(struct lr_str name, struct lr_str text,
                 int (*word)(void *ctx, struct lr_str piece), void *ctx);

/* ---- characters (unicode.c) ---- */

/* The few facts of Unicode that tokenisers, and whoever looks at words, are defined by. */
enum lr_uni {
    LR_UNI_NONE,  /* unassigned, surrogate; also malformed bytes */
    LR_UNI_UPPER, /* Lu Lt */
    LR_UNI_LOWER, /* Ll */
    LR_UNI_OTHER, /* Lm Lo */
    LR_UNI_MARK,  /* Mn */
    LR_UNI_MARK2, /* Mc Me */
    LR_UNI_NUMBER,
    LR_UNI_PUNCT,
    LR_UNI_SYMBOL,
    LR_UNI_SEPARATOR, /* Zs Zl Zp */
    LR_UNI_CONTROL,   /* Cc */
    LR_UNI_FORMAT     /* Cf Co */
};
#define LR_UNI_BAD 0xFFFFFFFFu /* stands for a malformed byte */

enum lr_uni lr_uni_class(uint32_t c);
static inline bool lr_uni_space(uint32_t c) /* White_Space */
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}
uint32_t lr_uni_lower(uint32_t c);
/* The character at p (n >= 1) and its bytes; LR_UNI_BAD and 1 where it is malformed. */
static inline size_t lr_uni_get(const char *p, size_t n, uint32_t *c)
{
    const uint8_t *b = (const uint8_t *)p;
    size_t k = lr_utf8_len(p, n);
    switch (k) {
    case 1:
        *c = b[0];
        return 1;
    case 2:
        *c = (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
        return 2;
    case 3:
        *c = (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
        return 3;
    case 4:
        *c = (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu);
        return 4;
    default:
        *c = LR_UNI_BAD;
        return 1;
    }
}
/* UTF-8 of a valid c; returns 1 to 4. */
size_t lr_uni_put(uint32_t c, char out[4]);

#endif

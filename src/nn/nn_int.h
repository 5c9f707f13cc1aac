/* SPDX-License-Identifier: Apache-2.0
 * nn/nn_int.h - what the files of nn/ share.
 */
#ifndef LR_NN_NN_INT_H
#define LR_NN_NN_INT_H

#include "nn/nn.h"

#include <sys/stat.h>

/* ---- names.c: texts to numbers ---- */

/* An open-addressing index over texts that somebody else keeps: slot -> position in the caller's
 * array, found through `at`. Filled once, then read by any thread. */
struct lr_nn_names {
    uint32_t *slots; /* position + 1; 0: empty. Owned */
    size_t mask;     /* slots - 1; 0: not opened */
    uint64_t seed;   /* secret: names come from hostile files */
    const struct lr_str *texts;
};
/* Room for n texts (n < 2^31), which are texts[0..]. */
int lr_nn_names_open(struct lr_nn_names *m, const struct lr_str *texts, size_t n);
void lr_nn_names_close(struct lr_nn_names *m);
/* Position of an equal text that was put, or LR_NN_NO_TOKEN. */
uint32_t lr_nn_names_find(const struct lr_nn_names *m, struct lr_str text);
/* Puts texts[at] and returns `at`, or the position of the equal text that was there before. */
uint32_t lr_nn_names_put(struct lr_nn_names *m, uint32_t at);

/* A name from a file made fit for an error message: cut, control characters replaced. */
struct lr_nn_shown {
    char z[80];
};
struct lr_nn_shown lr_nn_show(struct lr_str name);

/* ---- file.c: bytes of a file, read or mapped ---- */

struct lr_nn_file {
    const uint8_t *data; /* all of it; through a map only tensor data may be read */
    uint64_t size;
    int fd;          /* -1: from memory, or read completely */
    void *heap;      /* owned, when read */
    int guard;       /* slot of the mapping in the guard's table, -1 without */
    struct stat was; /* when opened; meaningful while fd >= 0 */
};
int lr_nn_file_open(struct lr_nn_file *f, const char *path, const struct lr_nn_file_opts *opts,
                    struct lr_err *err);
void lr_nn_file_mem(struct lr_nn_file *f, struct lr_str bytes);
void lr_nn_file_close(struct lr_nn_file *f);
/* n bytes at off, which must be inside; never through the map. */
int lr_nn_file_pread(const struct lr_nn_file *f, uint64_t off, void *p, size_t n);
int lr_nn_file_check(const struct lr_nn_file *f, struct lr_err *err);

/* ---- gguf.c ---- */

/* Bytes of a number of metadata; 0 for texts and arrays. */
size_t lr_nn_kv_bytes(enum lr_nn_kv_type type);

/* ---- type.c ---- */

/* Fills dims of ne up to four, computes bytes. LR_EOVER on overflow, LR_EINVAL when rows are not
 * whole blocks. */
int lr_nn_tensor_size(struct lr_nn_tensor *t);
/* The name of a ggml type number we refuse or read; NULL: nobody's. */
const char *lr_nn_ggml_name(uint32_t number);
/* LR_EUNSUPPORTED for those we do not read. */
int lr_nn_ggml_type(uint32_t number, enum lr_nn_type *out);

/* ---- unicode.c ---- */

/* The canonical decomposition of c without nonspacing marks: 0 to 3 characters. */
size_t lr_uni_bare(uint32_t c, uint32_t out[3]);

/* ---- pretok.c ---- */

/* The characters of a text. Lives through many calls; all zero at first. */
struct lr_nn_span {
    uint32_t *c;  /* (n) characters, LR_UNI_BAD where malformed */
    uint32_t *at; /* (n + 1) byte offset of each, and the end */
    uint8_t *cls; /* (n) enum lr_uni; LR_UNI_SPACE where white */
    size_t n, cap;
    size_t tail_of, tail; /* pretok.c's: where the white space before tail_of - 1 begins */
};
#define LR_UNI_SPACE 12u

/* The end of the match that begins at i, within [i, end); i when there is none. */
typedef size_t lr_nn_match(struct lr_nn_span *s, size_t i, size_t end);

struct lr_nn_pretok {      /* a row of the static table */
    const char *names;     /* "llama3 llama-bpe ...": GGUF's names for it */
    lr_nn_match *level[6]; /* cut by the first; its pieces by the second ...; NULL ends */
    bool ignore_merges;    /* a word that is a token is taken as it is */
    bool add_bos;          /* unless the file says otherwise */
};
/* NULL: no such. */
const struct lr_nn_pretok *lr_nn_pretok_find(struct lr_str name);
void lr_nn_span_free(struct lr_nn_span *s);
int lr_nn_pretok_cut(const struct lr_nn_pretok *p, struct lr_nn_span *s, struct lr_str text,
                     int (*word)(void *ctx, struct lr_str piece), void *ctx);

/* ---- tok_merge.c: the one loop SPM and BPE share ---- */

struct lr_nn_sym {
    uint32_t at, len;    /* bytes of the text; len 0: merged away */
    uint32_t id;         /* token or symbol; LR_NN_NO_TOKEN */
    uint32_t prev, next; /* LR_NN_NO_TOKEN at the ends */
};
struct lr_nn_cand;
struct lr_nn_merger {
    struct lr_nn_sym *sym;
    size_t n, cap;
    struct lr_nn_cand *heap;
    size_t heap_n, heap_cap;
    /* May a and its right neighbour b merge? Smaller rank first, then further left. */
    bool (*pair)(const void *ctx, const struct lr_nn_sym *a, const struct lr_nn_sym *b,
                 uint32_t *rank, uint32_t *id);
    const void *ctx;
};
int lr_nn_merger_room(struct lr_nn_merger *m, size_t n);
static inline void lr_nn_merger_push(struct lr_nn_merger *m, uint32_t at, uint32_t len, uint32_t id)
{
    m->sym[m->n++] = (struct lr_nn_sym){at, len, id, 0, 0};
}
/* Merges what sym[0..n) allows; survivors are linked from sym[0]. */
int lr_nn_merger_run(struct lr_nn_merger *m);
void lr_nn_merger_free(struct lr_nn_merger *m);

/* ---- tok.c and the three kinds ---- */

struct lr_nn_merge {      /* a slot of the BPE pair table */
    uint32_t left, right; /* symbols; left == LR_NN_NO_TOKEN: empty */
    uint32_t rank, id;
};

struct lr_nn_tok {
    enum lr_nn_tok_kind kind;
    size_t n;
    struct lr_arena arena;    /* texts, bytes, types, ends, special, rank */
    struct lr_str *text;      /* (n) */
    struct lr_str *bytes;     /* (n) */
    uint8_t *type;            /* (n) */
    bool *ends;               /* (n) */
    struct lr_nn_names names; /* over text: all tokens (find) */
    struct lr_nn_names plain; /* over text: those text may turn into */
    struct lr_nn_roles roles;
    bool add_bos, add_eos, guessed;

    /* tokens matched in text before anything else, ascending by bytes */
    uint32_t *special;
    size_t n_special;
    size_t special_from[257]; /* by first byte: [from[b], from[b + 1]) */
    bool strip_after_special;

    /* SPM */
    uint32_t *rank; /* (n) ascending = merged earlier */
    bool add_space_prefix;
    /* SPM: token of byte b. BPE: symbol of byte b. LR_NN_NO_TOKEN where there is none */
    uint32_t byte[256];

    /* BPE */
    const struct lr_nn_pretok *pre;
    struct lr_nn_merge *merges; /* power of two slots; owned */
    size_t merges_mask;
    uint64_t merges_seed;

    /* WordPiece */
    bool keep_case, keep_accents;
    size_t longest; /* bytes of the longest token; for all kinds */
};

/* Per call of encode. */
struct lr_nn_encoding {
    const struct lr_nn_tok *t;
    struct lr_nn_ids *ids;
    struct lr_err *err;
    const char *start; /* of the caller's text: places in messages count from it */
    struct lr_nn_merger merger;
    struct lr_nn_span span;
    struct lr_buf text; /* rewritten text */
};

int lr_nn_spm_open(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err);
/* after_special: nothing, or a special token, precedes. */
int lr_nn_spm_encode(struct lr_nn_encoding *e, struct lr_str text, bool after_special);
int lr_nn_bpe_open(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err);
int lr_nn_bpe_encode(struct lr_nn_encoding *e, struct lr_str text);
/* The byte that character c spells in GPT-2's way; -1: none. */
int lr_nn_bpe_byte(uint32_t c);
int lr_nn_wordpiece_encode(struct lr_nn_encoding *e, struct lr_str text);
/* LR_EINVAL: "character U+00E9 is not in the vocabulary", for the first of `rest` (not empty),
 * which is at that byte of the caller's text. */
int lr_nn_no_char(const struct lr_nn_encoding *e, size_t at, struct lr_str rest);

#endif

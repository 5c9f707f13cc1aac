/* SPDX-License-Identifier: Apache-2.0
 * reuse/chunk.c - what chunks are called, and what their headers say (docs/formats/chunk.md).
 *
 *   tokens  | 256 | 256 | 256 | rest        key i  = BLAKE3(key i - 1, tokens of block i)
 *             k0     k1    k2   -           id i   = BLAKE3(model, layout, codec, tenant, key i)
 *
 * The key is the store's chain: equal beginnings have equal keys on every machine. Everything else
 * that decides over the bits of rows is in the header and thereby in the id: the print of the model,
 * the shape, the element type or codec. Rows under a codec that rounds carry its name as their
 * policy, and serve nobody who asks for another.
 *
 * Tenants. A tenant's chain starts from a salt of its own, and its number is in the header: its
 * blocks have other ids than those of the same text from anybody else, so no timing tells one
 * tenant what another has asked. Shared chains have neither.
 *
 * The print sums whole tensors with xxh3, at the speed of memory, and names the sums with BLAKE3: it
 * tells models apart, and files from their later versions; it does not stand against who can
 * change weights on purpose, who owns the machine anyway.
 */
#include "kern/kern.h"
#include "reuse/reuse_int.h"

#define LAYOUT_FORMAT  1u /* order of dimensions: layer, KV head, key or value, token, element */
#define LAYOUT_VERSION 1u

/* ---- models ---- */

/* Bytes of a number as the file packs it; 0: no number, or not kept. */
static size_t number_bytes(enum lr_nn_kv_type t)
{
    switch (t) {
    case LR_NN_KV_U8:
    case LR_NN_KV_I8:
    case LR_NN_KV_BOOL:
        return 1;
    case LR_NN_KV_U16:
    case LR_NN_KV_I16:
        return 2;
    case LR_NN_KV_U32:
    case LR_NN_KV_I32:
    case LR_NN_KV_F32:
        return 4;
    case LR_NN_KV_U64:
    case LR_NN_KV_I64:
    case LR_NN_KV_F64:
        return 8;
    default:
        return 0;
    }
}

static void add_pair(struct lr_blake3 *h, const struct lr_nn_kv *kv)
{
    lr_blake3_add_str(h, kv->key);
    lr_blake3_add_u64(h, (uint64_t)kv->elem);
    lr_blake3_add_u64(h, kv->n);
    for (size_t i = 0; i < kv->n && kv->elem == LR_NN_KV_TEXT; i++)
        lr_blake3_add_str(h, ((const struct lr_str *)kv->data)[i]);
    if (kv->n && number_bytes(kv->elem))
        lr_blake3_add(h, kv->data, kv->n * number_bytes(kv->elem));
}

void lr_reuse_print(const struct lr_nn_gguf *g, char out[LR_REUSE_PRINT])
{
    struct lr_blake3 h;
    struct lr_digest d;
    lr_blake3_init_derive(&h, "larder 2026 model of rows v1");
    for (size_t i = 0; i < lr_nn_gguf_keys(g); i++)
        add_pair(&h, lr_nn_gguf_key(g, i));
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++) {
        const struct lr_nn_tensor *t = lr_nn_gguf_at(g, i);
        lr_blake3_add_str(&h, t->name);
        lr_blake3_add_u64(&h, (uint64_t)t->type);
        for (size_t k = 0; k < LR_NN_DIMS; k++)
            lr_blake3_add_u64(&h, t->ne[k]);
        lr_blake3_add_u64(&h, lr_hash64(lr_str(t->data, (size_t)t->bytes), 0));
    }
    /* All variants with a fused multiply-add agree bit for bit; "portable" stands alone (kern.h). */
    lr_blake3_add_u64(&h, strcmp(lr_kern()->name, "portable") == 0);
    lr_blake3_out(&h, d.b, sizeof d.b);
    lr_hex(d.b, sizeof d.b, out);
}

size_t lr_reuse_layer_bytes(const struct lr_reuse_rows *r)
{
    return (size_t)LR_REUSE_BLOCK * r->n_kv * ((size_t)r->k_bytes + r->v_bytes);
}

/* ---- chains ---- */

struct lr_object lr_reuse_object(const struct lr_reuse_rows *r, uint64_t tenant,
                                 const struct lr_digest *prev, const struct lr_reuse_link *l,
                                 uint32_t i)
{
    return (struct lr_object){
        .kind = LR_OBJECT_CONTENT,
        .id = l->id,
        .tenant = tenant,
        .layout = {.engine = LR_STR("larder"),
                   .format = LAYOUT_FORMAT,
                   .dtype = r->dtype,
                   .n_dims = 5,
                   .shape = {r->n_layer, r->n_kv, 2, LR_REUSE_BLOCK, r->d_head},
                   .version = LAYOUT_VERSION},
        .model = lr_strz(r->model),
        .tokens = LR_REUSE_BLOCK,
        .position = (uint64_t)i * LR_REUSE_BLOCK,
        .key = l->key,
        .prev = *prev,
        .token_ids = l->token_ids,
        .repr = LR_REPR_KV,
        .phase = LR_PHASE_PREFILL, /* rows of a reply are the same bits */
        .policy = lr_strz(r->codec),
        .codec = LR_CODEC_RAW,
        .fidelity = LR_OBJECT_LOSSLESS, /* of what the policy left */
        .payload = lr_reuse_layer_bytes(r) * r->n_layer,
        .n_parts = r->n_layer,
    };
}

void lr_reuse_chain_init(struct lr_reuse_chain *c, uint64_t tenant, bool salted)
{
    uint8_t salt[8];
    lr_put_le64(salt, tenant);
    *c = (struct lr_reuse_chain){.tenant = salted ? tenant : 0};
    lr_chain_first(lr_str(salt, salted ? sizeof salt : 0), &c->first);
}

static int reserve(struct lr_reuse_chain *c)
{
    LR_FAIL_IF(c->n == LR_REUSE_CHUNKS_MAX, LR_EOVER);
    if (c->n < c->cap)
        return 0;
    uint32_t cap = c->cap ? 2 * c->cap : 16;
    struct lr_reuse_link *p = lr_realloc(c->link, cap * sizeof *p);
    LR_FAIL_IF(!p, LR_ENOMEM);
    c->link = p;
    c->cap = cap;
    return 0;
}

int lr_reuse_chain_add(struct lr_reuse_chain *c, const struct lr_reuse_rows *r,
                       const uint32_t *tokens)
{
    LR_TRY(reserve(c));
    const struct lr_digest *prev = lr_reuse_prev(c, c->n);
    struct lr_reuse_link l = {.id = {{0}}};
    lr_chain_next(prev, tokens, LR_REUSE_BLOCK, &l.key);
    lr_chain_tokens(tokens, LR_REUSE_BLOCK, &l.token_ids);
    const struct lr_object o = lr_reuse_object(r, c->tenant, prev, &l, c->n);
    lr_store_id_content(&o, &l.id);
    c->link[c->n++] = l;
    return 0;
}

void lr_reuse_chain_free(struct lr_reuse_chain *c)
{
    lr_free(c->link);
    *c = (struct lr_reuse_chain){.n = 0};
}

/* SPDX-License-Identifier: Apache-2.0
 * store/chain.c - what things are called: chains of token blocks, and 32-byte ids.
 *
 *   h0 = BLAKE3(00 00 00 00 00 00 00 00  00 00 00 00)          empty salt: LMCache's first link
 *   h0 = BLAKE3 derive_key("larder 2026 chain salt v1")(h0 of the empty salt, salt)    else
 *   hi = BLAKE3(h(i-1), token 0 as u32 big-endian, token 1 ...)
 *
 * Idea. hi names a block together with all that came before it, the same in every process, on every
 * machine and in every language: equal prefixes have equal keys and nothing else has. The tenant's
 * salt goes into the first link, so two tenants never share a link; the derived-key mode has a
 * domain of its own, so no salt can imitate a block of tokens.
 *
 * Source: LMCache, lmcache/v1/multiprocess/token_hasher.py: hash 0 of (0, (0,)) seeds the chain when
 * no vLLM supplies its own; only complete blocks have links. Test vectors: tests/golden/chain.txt.
 *
 * Ids are BLAKE3 over framed members (every text after its length): what an object is filed under.
 * The last two bits of an id tell halves of a pair apart: 0 none, 1 kv_bytes, 2 metadata.
 */
#include "store/store_int.h"

#define BATCH 256 /* tokens turned to big-endian at a time */

static void add_be32(struct lr_blake3 *h, const uint32_t *tokens, size_t n)
{
    uint32_t be[BATCH];
    for (size_t at = 0; at < n; at += BATCH) {
        size_t k = n - at < BATCH ? n - at : BATCH;
        for (size_t i = 0; i < k; i++)
            be[i] = __builtin_bswap32(tokens[at + i]);
        lr_blake3_add(h, be, k * sizeof be[0]);
    }
}

void lr_chain_first(struct lr_str salt, struct lr_digest *out)
{
    static const uint8_t zeros[12]; /* int64 0, u32 0 */
    lr_blake3(lr_str(zeros, sizeof zeros), out);
    if (!salt.n)
        return;
    struct lr_blake3 h;
    lr_blake3_init_derive(&h, "larder 2026 chain salt v1");
    lr_blake3_add(&h, out->b, sizeof out->b);
    lr_blake3_add(&h, salt.p, salt.n);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

void lr_chain_next(const struct lr_digest *prev, const uint32_t *tokens, size_t n,
                   struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init(&h);
    lr_blake3_add(&h, prev->b, sizeof prev->b);
    add_be32(&h, tokens, n);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

size_t lr_chain_keys(struct lr_str salt, const uint32_t *tokens, size_t n, size_t block,
                     struct lr_digest *out, size_t max)
{
    struct lr_digest link;
    lr_chain_first(salt, &link);
    size_t blocks = n / block < max ? n / block : max;
    for (size_t i = 0; i < blocks; i++) {
        lr_chain_next(&link, tokens + i * block, block, &link);
        out[i] = link;
    }
    return blocks;
}

void lr_chain_tokens(const uint32_t *tokens, size_t n, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init(&h);
    add_be32(&h, tokens, n);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

/* ---- ids ---- */

void lr_digest_text(struct lr_blake3 *h, struct lr_str s)
{
    lr_blake3_add_str(h, s.n ? s : LR_STR("")); /* an absent text may be {NULL, 0} */
}

static void finish(struct lr_blake3 *h, enum lr_role role, struct lr_digest *out)
{
    lr_blake3_out(h, out->b, sizeof out->b);
    out->b[31] = (uint8_t)((out->b[31] & ~3u) | role);
}

void lr_store_id_content(const struct lr_object *o, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_derive(&h, "larder 2026 content id v1");
    lr_blake3_add_u64(&h, o->tenant);
    lr_digest_text(&h, o->model);
    lr_digest_text(&h, o->layout.engine);
    lr_blake3_add_u64(&h, o->layout.format);
    lr_blake3_add_u64(&h, o->layout.dtype);
    lr_blake3_add_u64(&h, o->layout.n_dims);
    for (uint32_t i = 0; i < o->layout.n_dims && i < LR_OBJECT_DIMS_MAX; i++)
        lr_blake3_add_u64(&h, o->layout.shape[i]);
    lr_blake3_add_u64(&h, o->layout.rank);
    lr_blake3_add_u64(&h, o->layout.version);
    lr_blake3_add_u64(&h, o->repr);
    lr_blake3_add_u64(&h, o->phase);
    lr_digest_text(&h, o->policy);
    lr_blake3_add_u64(&h, o->variant);
    lr_blake3_add(&h, o->key.b, sizeof o->key.b);
    finish(&h, LR_ROLE_NONE, out);
}

/* Cuts the suffix off a name that is half of a pair of LMCache's; its role. */
static enum lr_role role_of(struct lr_str *name)
{
    static const struct lr_str suffix[] = {LR_STR("kv_bytes"), LR_STR("metadata")};
    for (size_t i = 0; i < LR_COUNT(suffix); i++) {
        if (name->n <= suffix[i].n)
            continue;
        size_t stem = name->n - suffix[i].n, ats = 0;
        if (memcmp(name->p + stem, suffix[i].p, suffix[i].n))
            continue;
        for (size_t k = 0; k < stem; k++)
            ats += name->p[k] == '@';
        if (ats < 3)
            continue;
        name->n = stem;
        return i ? LR_ROLE_META : LR_ROLE_BYTES;
    }
    return LR_ROLE_NONE;
}

/* Half of what an id costs, once: every command of the Redis door needs one. */
static uint8_t opaque_context[32];
static pthread_once_t opaque_once = PTHREAD_ONCE_INIT;

static void derive_opaque(void)
{
    lr_blake3_context("larder 2026 opaque id v1", opaque_context);
}

void lr_store_id_opaque(uint64_t tenant, struct lr_str space, struct lr_str name,
                        struct lr_digest *out)
{
    enum lr_role role = role_of(&name);
    struct lr_blake3 h;
    (void)pthread_once(&opaque_once, derive_opaque); /* its arguments are good: it cannot fail */
    lr_blake3_init_context(&h, opaque_context);
    lr_blake3_add_u64(&h, tenant);
    lr_digest_text(&h, space);
    lr_blake3_add_u64(&h, role != LR_ROLE_NONE); /* "a@b@c@" alone is not the stem of a pair */
    lr_digest_text(&h, name);
    finish(&h, role, out);
}

float lr_store_cost(uint64_t tokens, uint64_t position, uint64_t bytes)
{
    /* Prefill is linear work a token plus attention over all before it; the two are equal at about
     * 16 Ki tokens for models of 1 to 8 billion parameters (6 d per layer against the context).
     * Without tokens: what sending the bytes again costs, as if 128 KiB were one token. */
    if (!tokens)
        return (float)(1.0 + (double)bytes / 131072.0);
    double middle = (double)position + (double)tokens / 2;
    return (float)((double)tokens * (1.0 + middle / 16384.0));
}

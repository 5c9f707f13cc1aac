/* SPDX-License-Identifier: Apache-2.0
 * match/sketch.c - how many words and pieces of words two texts share, from 128 bytes each.
 *
 * One-permutation MinHash: the features of a text (its words, and every run of four letters of its
 * folded text, blanks included) are hashed with a secret key; the hash's upper bits choose one of
 * 64 bins, each bin keeps its least value, 16 bits of it. Bins that stay empty borrow from the next
 * full one to the right (Shrivastava and Li 2014, "densification by rotation"; we add the distance,
 * as they do, so that borrowed values of different origin differ). The part of bins that agree
 * estimates the part of features shared, with a bias of 2^-16.
 *
 * Two uses. As a second opinion that knows nothing of the encoder: a text made to collide with
 * another in the encoder's space shares no words with it, and without the key nobody can search for
 * one that does in this space. And for floods: many nearly equal questions of one writer.
 */
#include "match/match_int.h"

#define GRAM 4

static void take(uint32_t least[LR_SKETCH_BINS], bool full[LR_SKETCH_BINS], struct lr_str s,
                 uint64_t key)
{
    uint64_t h = lr_hash64(s, key);
    size_t bin = h >> 58;
    uint32_t v = (uint32_t)h;
    if (!full[bin] || v < least[bin])
        least[bin] = v;
    full[bin] = true;
}

static void grams(const char *p, size_t n, uint64_t key, uint32_t least[LR_SKETCH_BINS],
                  bool full[LR_SKETCH_BINS])
{
    for (size_t i = 0; i + GRAM <= n; i++)
        take(least, full, lr_str(p + i, GRAM), key ^ GRAM);
}

void lr_sketch_read(struct lr_str text, uint64_t key, struct lr_sketch *out)
{
    struct lr_cut cut;
    uint32_t least[LR_SKETCH_BINS];
    bool full[LR_SKETCH_BINS] = {false};
    char line[LR_CUT_FOLDED];
    size_t n = 0, bins = 0;
    memset(out, 0, sizeof *out);
    if (text.n > LR_FACTS_TEXT_MAX) /* too long for the gates as well */
        text.n = LR_FACTS_TEXT_MAX;
    (void)lr_cut(text, &cut); /* of too many tokens: the first ones */
    for (size_t i = 0; i < cut.n; i++) {
        struct lr_str s = cut.token[i].text;
        if (cut.token[i].kind == LR_TOKEN_QUOTE)
            continue; /* its words follow */
        take(least, full, s, key);
        if (n + s.n + 1 <= sizeof line) {
            memcpy(line + n, s.p, s.n);
            line[n + s.n] = ' ';
            n += s.n + 1;
        }
    }
    grams(line, n, key, least, full);
    for (size_t i = 0; i < LR_SKETCH_BINS; i++)
        bins += full[i];
    out->empty = !bins;
    for (size_t i = 0; bins && i < LR_SKETCH_BINS; i++) {
        size_t far = 0;
        while (!full[(i + far) % LR_SKETCH_BINS])
            far++;
        uint64_t v = ((uint64_t)least[(i + far) % LR_SKETCH_BINS] << 8) + far;
        out->bin[i] = (uint16_t)(v * 0x9E3779B97F4A7C15u >> 48);
    }
}

float lr_sketch_same(const struct lr_sketch *a, const struct lr_sketch *b)
{
    unsigned n = 0;
    if (a->empty || b->empty)
        return 0;
    for (size_t i = 0; i < LR_SKETCH_BINS; i++)
        n += a->bin[i] == b->bin[i];
    return (float)n / LR_SKETCH_BINS;
}

/* SPDX-License-Identifier: Apache-2.0
 * nn/names.c - texts to numbers: keys, tensor names, tokens.
 *
 * Open addressing with linear probing over at most half-full power-of-two slots of 4 bytes; the
 * texts stay where their owner keeps them. A vocabulary of 128 k tokens costs 1 MiB and a lookup
 * touches one or two cache lines of slots plus the text. The hash is seeded from the system's
 * random numbers, since the names come from files strangers made: with a known seed one could write
 * a million tokens that collide. Nothing depends on the order of slots, so results stay the same.
 */
#include "nn/nn_int.h"

#include <stdio.h>

int lr_nn_names_open(struct lr_nn_names *m, const struct lr_str *texts, size_t n)
{
    size_t slots = 8;
    while (slots < n * 2)
        slots *= 2;
    m->slots = lr_calloc(slots, sizeof *m->slots);
    LR_FAIL_IF(!m->slots, LR_ENOMEM);
    m->mask = slots - 1;
    m->texts = texts;
    lr_random_bytes(&m->seed, sizeof m->seed);
    return 0;
}

void lr_nn_names_close(struct lr_nn_names *m)
{
    lr_free(m->slots);
    *m = (struct lr_nn_names){0};
}

/* The slot that holds an equal text, or the empty one where it belongs. */
static size_t probe(const struct lr_nn_names *m, struct lr_str text)
{
    size_t i = (size_t)lr_hash64(text, m->seed) & m->mask;
    while (m->slots[i] && !lr_str_eq(m->texts[m->slots[i] - 1], text))
        i = (i + 1) & m->mask;
    return i;
}

uint32_t lr_nn_names_find(const struct lr_nn_names *m, struct lr_str text)
{
    if (!m->mask)
        return LR_NN_NO_TOKEN;
    uint32_t found = m->slots[probe(m, text)];
    return found ? found - 1 : LR_NN_NO_TOKEN;
}

uint32_t lr_nn_names_put(struct lr_nn_names *m, uint32_t at)
{
    size_t i = probe(m, m->texts[at]);
    if (m->slots[i])
        return m->slots[i] - 1;
    m->slots[i] = at + 1;
    return at;
}

struct lr_nn_shown lr_nn_show(struct lr_str name)
{
    struct lr_nn_shown s;
    size_t n = name.n < 64 ? name.n : 64;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)name.p[i];
        s.z[i] = c < 0x20 || c == 0x7F || c >= 0x80 ? '?' : (char)c;
    }
    if (snprintf(s.z + n, sizeof s.z - n, "%s", n < name.n ? "..." : "") < 0)
        s.z[n] = 0; /* cannot be: the format is ours */
    return s;
}

/* SPDX-License-Identifier: Apache-2.0
 * reuse/plan.c - what to load and what to compute: a pure function of what is known.
 *
 *   tokens   |----------|----------|----------|----------|-----|      blocks of 256, and a rest
 *   have      xxxxxxx                                                  rows that are here already
 *   found     [ memory ] [ memory ] [  disk   ] [  disk   ]
 *   plan      [ load   ] [ load    ] [ load   ]  compute ........      when the last is too slow
 *
 * A block is loaded whole, also where a part of it is here: rows that are loaded again cost a copy,
 * and keep what is here a whole number of blocks. Only complete blocks have names, and the last token
 * is always computed, for its logits; a block that holds nothing but that one is of no use.
 *
 * The gain of loading the first n blocks is what computing their missing tokens would take, less what
 * moving their bytes takes; the best n wins. Blocks depend on those before them, so a slow one in
 * the middle may still pay when fast ones follow. What was never measured costs nothing: the first
 * load after a start is a measurement.
 *
 * Late. Waiting may take as long as computing would have: who waits in vain has then lost as much
 * again, and no more than patience. FLOOR keeps noise from deciding over blocks that are cheap either
 * way. Tried and dropped: one deadline for each block; the first late one decides anyway.
 */
#include "reuse/reuse_int.h"

#define FLOOR (100 * LR_MS)

/* Tokens of block b that loading it brings. */
static uint32_t brings(const struct lr_reuse_facts *f, uint32_t b)
{
    uint32_t from = b * LR_REUSE_BLOCK, to = from + LR_REUSE_BLOCK;
    from = f->have > from ? f->have : from;
    to = f->tokens - 1 < to ? f->tokens - 1 : to;
    return to > from ? to - from : 0;
}

void lr_reuse_plan(const struct lr_reuse_facts *f, struct lr_reuse_plan *out)
{
    const struct lr_reuse_speed *v = &f->speed;
    uint32_t first = f->have / LR_REUSE_BLOCK, found = f->found, tokens = 0, all = 0;
    uint32_t complete = f->tokens / LR_REUSE_BLOCK;
    double gain = 0, best = 0;
    *out = (struct lr_reuse_plan){.first = first, .tokens = f->have};
    found = found < complete ? found : complete;
    for (uint32_t b = first; b < found; b++) {
        uint32_t now = brings(f, b);
        double byte_ns = b < f->in_memory ? v->memory_ns : v->disk_ns;
        if (!now)
            break;
        all += now;
        gain += v->token_ns * now - (v->token_ns > 0 ? byte_ns * (double)f->chunk_bytes : 0);
        if (gain >= best && all >= LR_REUSE_MIN) {
            best = gain;
            out->n = b + 1 - first;
            tokens = all;
        }
    }
    if (!out->n)
        return;
    double wait = v->token_ns * tokens;
    uint64_t wait_ns = wait > FLOOR ? wait < 1e18 ? (uint64_t)wait : UINT64_MAX / 4 : FLOOR;
    if (v->token_ns <= 0 || wait_ns > f->patience_ns)
        wait_ns = f->patience_ns;
    out->tokens = f->have + tokens;
    out->deadline_ns = f->now_ns + wait_ns;
}

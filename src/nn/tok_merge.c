/* SPDX-License-Identifier: Apache-2.0
 * nn/tok_merge.c - the loop that SPM and BPE share: merge the best pair of neighbours until none is
 * left.
 *
 *   symbols, linked:   [H]<->[e]<->[l]<->[l]<->[o]      heap of candidate pairs, best first
 *   pop (l,l) -> "ll"  [H]<->[e]<->[ll]<------>[o]      push (e,ll), (ll,o)
 *
 * Best is the smallest rank, then the leftmost. A candidate whose symbols changed since it was
 * pushed is dropped when popped: symbols only grow or vanish, so the sum of lengths and a live
 * right part tell. At most n - 1 merges happen and each pushes two candidates: O(n log n) time, and
 * 20 bytes a symbol plus 24 a candidate of memory. The plain
 * way, looking for the best pair again after each merge, is O(n^2) and is what the tests compare
 * with. Measured on one of two shared cores, 1 MB of text: BPE 10 MB/s (its words are short), SPM,
 * whose one word is the whole text, 0.6 MB/s (1.8 at 64 KiB).
 */
#include "nn/nn_int.h"

struct lr_nn_cand {
    uint64_t key; /* rank << 32 | left symbol */
    uint32_t right;
    uint32_t len; /* bytes of both */
    uint32_t id;  /* of the merged symbol */
};

int lr_nn_merger_room(struct lr_nn_merger *m, size_t n)
{
    if (n <= m->cap)
        return 0;
    size_t cap = n < 64 ? 64 : n, bytes;
    LR_FAIL_IF(lr_mul_over(cap, sizeof *m->sym, &bytes), LR_EOVER);
    struct lr_nn_sym *p = lr_realloc(m->sym, bytes);
    LR_FAIL_IF(!p, LR_ENOMEM);
    m->sym = p;
    m->cap = cap;
    return 0;
}

void lr_nn_merger_free(struct lr_nn_merger *m)
{
    lr_free(m->sym);
    lr_free(m->heap);
    *m = (struct lr_nn_merger){0};
}

static int push(struct lr_nn_merger *m, struct lr_nn_cand c)
{
    if (m->heap_n == m->heap_cap) {
        size_t cap = m->heap_cap ? m->heap_cap * 2 : 64;
        struct lr_nn_cand *p = lr_realloc(m->heap, cap * sizeof *p); /* below 3 * 2^24 entries */
        LR_FAIL_IF(!p, LR_ENOMEM);
        m->heap = p;
        m->heap_cap = cap;
    }
    size_t i = m->heap_n++;
    while (i && c.key < m->heap[(i - 1) / 2].key) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = c;
    return 0;
}

static struct lr_nn_cand pop(struct lr_nn_merger *m)
{
    struct lr_nn_cand top = m->heap[0], last = m->heap[--m->heap_n];
    size_t i = 0, n = m->heap_n;
    for (size_t kid; (kid = 2 * i + 1) < n; i = kid) {
        if (kid + 1 < n && m->heap[kid + 1].key < m->heap[kid].key)
            kid++;
        if (last.key <= m->heap[kid].key)
            break;
        m->heap[i] = m->heap[kid];
    }
    m->heap[i] = last;
    return top;
}

/* A candidate for symbols a and b, if they may merge. */
static int consider(struct lr_nn_merger *m, uint32_t a, uint32_t b)
{
    struct lr_nn_cand c;
    uint32_t rank;
    if (a == LR_NN_NO_TOKEN || b == LR_NN_NO_TOKEN ||
        !m->pair(m->ctx, &m->sym[a], &m->sym[b], &rank, &c.id))
        return 0;
    c.key = (uint64_t)rank << 32 | a;
    c.right = b;
    c.len = m->sym[a].len + m->sym[b].len;
    return push(m, c);
}

int lr_nn_merger_run(struct lr_nn_merger *m)
{
    struct lr_nn_sym *s = m->sym;
    m->heap_n = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        s[i].prev = i ? i - 1 : LR_NN_NO_TOKEN;
        s[i].next = i + 1 < m->n ? i + 1 : LR_NN_NO_TOKEN;
    }
    for (uint32_t i = 1; i < m->n; i++)
        LR_TRY(consider(m, i - 1, i));
    while (m->heap_n) {
        struct lr_nn_cand c = pop(m);
        uint32_t left = (uint32_t)c.key;
        struct lr_nn_sym *a = &s[left], *b = &s[c.right];
        if (!a->len || !b->len || a->len + b->len != c.len)
            continue;
        a->len = c.len;
        a->id = c.id;
        a->next = b->next;
        b->len = 0;
        if (a->next != LR_NN_NO_TOKEN)
            s[a->next].prev = left;
        LR_TRY(consider(m, a->prev, left));
        LR_TRY(consider(m, left, a->next));
    }
    return 0;
}

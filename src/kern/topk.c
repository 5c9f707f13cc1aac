/* SPDX-License-Identifier: Apache-2.0
 * kern/topk.c - the k largest of n scores.
 *
 * Radix selection. A float's bits, with the sign handled, order as unsigned numbers; three passes
 * of 11, 11 and 10 bits count digits and narrow down the k-th largest key exactly; one more pass
 * takes everything above it and, in order, as many equals as are wanted. Linear whatever the data,
 * 8 KiB of stack, and ties fall to the lower index by construction. A heap of k (dropped) is
 * quicker below k = 16 or so but not linear; quickselect needs a copy and has bad cases.
 */
#include "kern/kern_int.h"

/* Orders as the scores do; NaN first of all, -0 as 0. */
static uint32_t key_of(float f)
{
    uint32_t bits;
    f += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &f, sizeof bits);
    if (f != f)
        return 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* The k-th largest key, 1 <= k <= n; *equal: how many of that key belong to the k. */
static uint32_t kth_key(const float *score, size_t n, size_t k, size_t *equal)
{
    static const struct {
        unsigned shift, bits;
    } digits[] = {{21, 11}, {10, 11}, {0, 10}};
    uint32_t prefix = 0, mask = 0;
    for (size_t d = 0; d < LR_COUNT(digits); d++) {
        uint32_t count[1 << 11] = {0}, top = (1u << digits[d].bits) - 1;
        for (size_t i = 0; i < n; i++) {
            uint32_t key = key_of(score[i]);
            if ((key & mask) == prefix)
                count[key >> digits[d].shift & top]++;
        }
        uint32_t digit = top;
        for (; count[digit] < k; digit--)
            k -= count[digit];
        prefix |= digit << digits[d].shift;
        mask |= top << digits[d].shift;
    }
    *equal = k;
    return prefix;
}

size_t lr_kern_topk(const float *score, size_t n, size_t k, uint32_t *idx)
{
    size_t equal, out = 0;
    k = k < n ? k : n;
    if (!k)
        return 0;
    uint32_t kth = kth_key(score, n, k, &equal);
    for (size_t i = 0; i < n && out < k; i++) {
        uint32_t key = key_of(score[i]);
        if (key > kth || (key == kth && equal)) {
            equal -= key == kth;
            idx[out++] = (uint32_t)i;
        }
    }
    return out;
}

/* Does a come after b? A total order: no two indices are equal. */
static bool after(const float *score, uint32_t a, uint32_t b)
{
    uint32_t x = key_of(score[a]), y = key_of(score[b]);
    return x < y || (x == y && a > b);
}

static void sift(const float *score, uint32_t *heap, size_t at, size_t n)
{
    uint32_t moved = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && after(score, heap[child + 1], heap[child]))
            child++;
        if (!after(score, heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

size_t lr_kern_topk_sorted(const float *score, size_t n, size_t k, uint32_t *idx)
{
    size_t m = lr_kern_topk(score, n, k, idx);
    for (size_t i = m / 2; i-- > 0;)
        sift(score, idx, i, m);
    for (size_t end = m; end > 1;) {
        uint32_t last = idx[0];
        idx[0] = idx[--end];
        idx[end] = last;
        sift(score, idx, 0, end);
    }
    return m;
}

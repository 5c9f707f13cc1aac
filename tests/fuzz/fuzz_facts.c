/* SPDX-License-Identifier: Apache-2.0
 * tests/fuzz/fuzz_facts.c - any bytes as a question: facts stay in their room, are sorted, and a text
 * passes the gates with itself unless its own words stand in two orders.
 */
#include "match/match.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct lr_fact room[LR_FACTS_MAX];
    struct lr_facts f;
    struct lr_sketch s;
    lr_sketch_read(lr_str(data, n), 1, &s);
    if (lr_facts_read(lr_str(data, n), 1, room, &f))
        return 0;
    for (size_t i = 1; i < f.n; i++)
        if (room[i - 1].kind > room[i].kind ||
            (room[i - 1].kind == room[i].kind && room[i - 1].hash >= room[i].hash))
            abort();
    const char *g = lr_gate(&f, &f);
    if (g && strcmp(g, "order"))
        abort();
    return 0;
}

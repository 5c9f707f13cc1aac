/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_safetensors.c - any bytes into the safetensors reader.
 *
 * What is accepted has tensors that lie within the input, each byte of data in exactly one of them.
 * What is refused says why and where.
 */
#include "nn/nn.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_nn_st *s;
    struct lr_err err = {0};
    uint64_t sum = 8;
    int rc = lr_nn_st_open_mem(&s, lr_str(p, n), &err);
    if (rc) {
        MUST(err.code == rc && err.msg[0] && err.where[0]);
        return 0;
    }
    sum += lr_le64(p);
    for (size_t i = 0; i < lr_nn_st_tensors(s); i++) {
        const struct lr_nn_tensor *t = lr_nn_st_at(s, i);
        const uint8_t *data = t->data;
        MUST(data >= p && t->bytes <= n && data + t->bytes <= p + n && t->dims <= LR_NN_DIMS);
        sum += t->bytes;
    }
    MUST(sum == n);
    MUST(lr_nn_st_text(s, "format").n <= n);
    lr_nn_st_close(s);
    return 0;
}

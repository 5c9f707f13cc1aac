/* SPDX-License-Identifier: Apache-2.0
 * bench/vec_peer.h - what bench/vec.c asks of the library it is compared with.
 */
#ifndef LR_BENCH_VEC_PEER_H
#define LR_BENCH_VEC_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
void *bench_peer_open(size_t dim, size_t max, size_t m, size_t ef_build);
void bench_peer_add(void *p, const float *x, uint64_t id);
size_t bench_peer_search(void *p, const float *q, size_t k, size_t ef, uint64_t *ids);
double bench_peer_bytes(void *p); /* a vector */
void bench_peer_close(void *p);
#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0
 * bench/vec_hnswlib.cc - the peer of bench/vec.c: hnswlib's graph over the same vectors.
 *
 * Built only where its headers are. One thread, inner product, the library's own defaults but for
 * what the caller names. Memory is what the library itself allocates for its elements: the data
 * block, the lists of the upper levels with their pointers, the locks, the levels and the table of
 * labels (a node of 32 bytes and a bucket each, as libstdc++ has them).
 */
#include <hnswlib/hnswlib.h>

#include <cstdint>
#include <cstdio>

#include "vec_peer.h"

namespace
{
struct peer {
    hnswlib::InnerProductSpace space;
    hnswlib::HierarchicalNSW<float> graph;
    size_t n;
    peer(size_t dim, size_t max, size_t m, size_t ef_build)
        : space(dim), graph(&space, max, m, ef_build), n(0)
    {
    }
};
} // namespace

extern "C" void *bench_peer_open(size_t dim, size_t max, size_t m, size_t ef_build)
{
    return new peer(dim, max, m, ef_build);
}

extern "C" void bench_peer_add(void *p, const float *x, uint64_t id)
{
    peer *h = static_cast<peer *>(p);
    h->graph.addPoint(x, id);
    h->n++;
}

extern "C" size_t bench_peer_search(void *p, const float *q, size_t k, size_t ef, uint64_t *ids)
{
    peer *h = static_cast<peer *>(p);
    h->graph.setEf(ef);
    auto found = h->graph.searchKnn(q, k);
    size_t n = 0;
    while (!found.empty()) {
        ids[n++] = found.top().second;
        found.pop();
    }
    return n;
}

extern "C" double bench_peer_bytes(void *p)
{
    peer *h = static_cast<peer *>(p);
    double bytes = 0;
    for (size_t i = 0; i < h->n; i++)
        if (h->graph.element_levels_[i] > 0)
            bytes +=
                double(h->graph.size_links_per_element_ * size_t(h->graph.element_levels_[i]) + 1);
    double each = double(h->graph.size_data_per_element_ + sizeof(void *) + sizeof(int) +
                         sizeof(std::mutex) + 32 + sizeof(void *));
    return bytes / double(h->n) + each;
}

extern "C" void bench_peer_close(void *p)
{
    delete static_cast<peer *>(p);
}

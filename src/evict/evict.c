/* SPDX-License-Identifier: Apache-2.0
 * evict/evict.c - the list of strategies: a new one is one file and one row here.
 */
#include "evict/evict_int.h"

const struct lr_evict_ops *const lr_evict_all[] = {
    &lr_evict_lru,
    &lr_evict_s3fifo,
    &lr_evict_cost,
    NULL,
};

const struct lr_evict_ops *lr_evict_find(struct lr_str name)
{
    for (size_t i = 0; lr_evict_all[i]; i++)
        if (lr_str_is(name, lr_evict_all[i]->name))
            return lr_evict_all[i];
    return NULL;
}

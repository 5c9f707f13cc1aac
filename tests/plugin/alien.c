/* SPDX-License-Identifier: Apache-2.0
 * alien.c - a plug-in of another ABI: to be refused.
 */
#include <larder/policy.h>

const struct lr_policy_plugin *lr_policy_plugin(uint32_t abi)
{
    static struct lr_policy_plugin list = {.size = sizeof list};
    list.abi = abi + 1;
    return &list;
}

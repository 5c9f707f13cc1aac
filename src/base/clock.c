/* SPDX-License-Identifier: Apache-2.0
 * base/clock.c
 */
#include "base/base.h"

#include <errno.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t = {0, 0};
    if (clock_gettime(id, &t))
        return 0; /* cannot happen for the two clocks used here */
    return (uint64_t)t.tv_sec * LR_SEC + (uint64_t)t.tv_nsec;
}

uint64_t lr_clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t lr_clock_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME) / LR_MS;
}

void lr_clock_sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / LR_SEC), (long)(ns % LR_SEC)};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* SPDX-License-Identifier: Apache-2.0
 * base/clock.h - the only place that asks for the time. Everything that decides takes `now` as an
 * argument; base/, net/, serve/ and cli/ read it here.
 */
#ifndef LR_BASE_CLOCK_H
#define LR_BASE_CLOCK_H

#include <stdint.h>

#define LR_US 1000ULL
#define LR_MS 1000000ULL
#define LR_SEC 1000000000ULL

uint64_t lr_clock_mono_ns(void); /* monotonic, for durations and deadlines */
uint64_t lr_clock_wall_ms(void); /* Unix milliseconds, for stamps that outlive the process */
void lr_clock_sleep_ns(uint64_t ns);

#endif

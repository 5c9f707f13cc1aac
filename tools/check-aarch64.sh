#!/bin/sh
# Builds kern/ and the files of base/ it stands on for 64-bit ARM and runs its unit tests under
# emulation. Usage: check-aarch64.sh [DIR]   (DIR: where to build, default build-aarch64)
# Needs the packages gcc-aarch64-linux-gnu and qemu-user; without them it says SKIPPED and succeeds.
# cmocka for ARM is not asked for: tools/cross/cmocka.h has the few words of it that these tests use.
cd "$(dirname "$0")/.." || exit 1
dir=${1:-build-aarch64}
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
if ! command -v "$cc" >/dev/null || [ -z "$qemu" ]; then
    echo "================================================================"
    echo "SKIPPED: NEON kernels not tested: no $cc or no qemu-aarch64"
    echo "         apt-get install gcc-aarch64-linux-gnu qemu-user"
    echo "================================================================"
    exit 0
fi
mkdir -p "$dir" || exit 1
flags="-std=c11 -O2 -g -D_GNU_SOURCE -DLR_FAULTS -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Wpointer-arith -Wvla -Wundef -Wcast-qual -Werror -ffp-contract=off
    -ffunction-sections -fdata-sections -Isrc"
objects=
for file in src/kern/*.c src/base/mem.c src/base/rng.c; do
    object=$dir/$(basename "$file" .c).o
    extra=
    [ "$file" = src/kern/variant_neondot.c ] && extra=-march=armv8.2-a+dotprod
    # base/ names libsodium, which the kernels never call: the linker drops that part
    "$cc" $flags $extra -c "$file" -o "$object" || exit 1
    objects="$objects $object"
done
failed=0
for file in tests/unit/kern/test_*.c; do
    program=$dir/$(basename "$file" .c)
    "$cc" $flags -Itools/cross "$file" $objects -static -Wl,--gc-sections -lm -o "$program" || exit 1
    for cpu in max cortex-a53; do # with and without products of bytes in one instruction
        "$qemu" -cpu $cpu "$program" || failed=1
    done
done
[ $failed = 0 ] && echo "aarch64: kern/ passed on max and cortex-a53"
exit $failed

/* SPDX-License-Identifier: Apache-2.0
 * tests/deny.c - runs a program that the kernel refuses io_uring, as containers do.
 *
 *   deny PROGRAM [ARG ...]
 *
 * A seccomp filter answers io_uring_setup, io_uring_enter and io_uring_register with EPERM (what
 * Docker's profile says), for this process and all it starts; RLIMIT_MEMLOCK is 0, for kernels where
 * rings count as locked memory. That the filter holds is tried before the program starts. Exit 77
 * where the kernel takes no filter.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Consecutive wherever there is io_uring. */
#define FIRST SYS_io_uring_setup
#define LAST  SYS_io_uring_register

static int deny(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    struct rlimit none = {0, 0};
    if (argc < 2) {
        fputs("usage: deny PROGRAM [ARG ...]\n", stderr);
        return 2;
    }
    if (setrlimit(RLIMIT_MEMLOCK, &none) || deny()) {
        fputs("SKIPPED: this kernel takes no seccomp filter\n", stderr);
        return 77;
    }
    if (syscall(FIRST, 1, NULL) != -1 || errno != EPERM) {
        fputs("deny: the filter does not hold\n", stderr);
        return 1;
    }
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
}

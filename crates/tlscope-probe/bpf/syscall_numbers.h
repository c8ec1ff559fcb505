/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The system calls that move bytes through a descriptor, by number; which
 * descriptor that is and where the bytes are, by the registers at their entry.
 */
#ifndef TLSCOPE_SYSCALL_NUMBERS_H
#define TLSCOPE_SYSCALL_NUMBERS_H

#include "base.h"

/* Names no descriptor of its own: what it does is done for others. */
#define SYS_IO_URING_ENTER 426

#if defined(__TARGET_ARCH_x86)
enum {
	SYS_READ = 0,
	SYS_WRITE = 1,
	SYS_READV = 19,
	SYS_WRITEV = 20,
	SYS_SENDFILE = 40,
	SYS_SENDTO = 44,
	SYS_RECVFROM = 45,
	SYS_SENDMSG = 46,
	SYS_RECVMSG = 47,
};
#else
enum {
	SYS_READ = 63,
	SYS_WRITE = 64,
	SYS_READV = 65,
	SYS_WRITEV = 66,
	SYS_SENDFILE = 71,
	SYS_SENDTO = 206,
	SYS_RECVFROM = 207,
	SYS_SENDMSG = 211,
	SYS_RECVMSG = 212,
};
#endif

static __always_inline enum direction syscall_direction(__u64 number)
{
	bool receives = number == SYS_READ || number == SYS_READV || number == SYS_RECVFROM ||
			number == SYS_RECVMSG;

	return receives ? DIRECTION_RECEIVED : DIRECTION_SENT;
}

static __always_inline bool syscall_names_fd(__u64 number)
{
	return number == SYS_READ || number == SYS_WRITE || number == SYS_READV ||
	       number == SYS_WRITEV || number == SYS_SENDFILE || number == SYS_SENDTO ||
	       number == SYS_RECVFROM || number == SYS_SENDMSG || number == SYS_RECVMSG;
}

static __always_inline __u64 syscall_number(const struct pt_regs *regs)
{
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(SYSCALL_NR(regs)), &SYSCALL_NR(regs));
	return number;
}

static __always_inline int syscall_fd(const struct pt_regs *regs)
{
	__u64 fd = -1;

	if (regs)
		bpf_probe_read_kernel(&fd, sizeof(fd), &SYSCALL_ARG1(regs));
	return (int)fd;
}

/* By a pointer to a vector, or to a struct msghdr: a pointer, an int in 8 bytes, then the vector.
 */
static __always_inline __u64 buffer_of_vector(__u64 at)
{
	return bpf_probe_read_user(&at, sizeof(at), (void *)at) ? 0 : at;
}

static __always_inline __u64 buffer_of_message(__u64 at)
{
	if (bpf_probe_read_user(&at, sizeof(at), (void *)at + 16))
		return 0;
	return buffer_of_vector(at);
}

/* The first buffer, in the target; 0: none. */
static __always_inline __u64 syscall_buffer(const struct pt_regs *regs)
{
	__u64 at = 0;

	if (!regs)
		return 0;
	bpf_probe_read_kernel(&at, sizeof(at), &SYSCALL_ARG2(regs));
	switch (syscall_number(regs)) {
	case SYS_SENDMSG:
	case SYS_RECVMSG: return buffer_of_message(at);
	case SYS_WRITEV:
	case SYS_READV: return buffer_of_vector(at);
	case SYS_WRITE:
	case SYS_READ:
	case SYS_SENDTO:
	case SYS_RECVFROM: return at;
	default: return 0;
	}
}

#endif

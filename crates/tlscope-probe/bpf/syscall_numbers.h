/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The system calls that move bytes through a descriptor, by number.
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

#endif

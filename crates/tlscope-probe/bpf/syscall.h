/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The route to the socket on kernels before 6.3: the descriptor that a system
 * call of the thread names while the thread is inside a TLS call.
 */
#ifndef TLSCOPE_SYSCALL_H
#define TLSCOPE_SYSCALL_H

#include "base.h"

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
	SYS_RECVMSG = 47
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
	SYS_RECVMSG = 212
};
#endif

static __always_inline bool syscall_names_fd(__u64 number)
{
	return number == SYS_READ || number == SYS_WRITE || number == SYS_READV ||
	       number == SYS_WRITEV || number == SYS_SENDFILE || number == SYS_SENDTO ||
	       number == SYS_RECVFROM || number == SYS_SENDMSG || number == SYS_RECVMSG;
}

SEC("raw_tp")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs;
	struct frame *frame;
	__u64 fd = 0;

	if (!syscall_names_fd(ctx->args[1]))
		return 0;
	frame = frame_current();
	if (!frame)
		return 0;
	regs = (void *)ctx->args[0];
	bpf_probe_read_kernel(&fd, sizeof(fd), &SYSCALL_ARG1(regs));
	fd_used(frame->object, fd);
	return 0;
}

#endif

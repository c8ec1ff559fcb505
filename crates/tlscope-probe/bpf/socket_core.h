/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which socket a connection runs over: the one that its own call touches. The
 * address is read from the kernel's struct sock at that moment, never matched
 * by number later.
 */
#ifndef TLSCOPE_SOCKET_H
#define TLSCOPE_SOCKET_H

#include "call.h"
#include "connection.h"
#include "kernel.h"

/* The open file behind a descriptor of the current task, if it is a socket. */
static __always_inline struct socket *socket_of_fd(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots, *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	slots = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	return BPF_CORE_READ(file, private_data);
}

/*
 * The descriptor of the running system call, when it really is this socket:
 * with io_uring or a kernel thread it is not, and the number stays unknown.
 */
static __always_inline int fd_of_syscall(struct sock *sk)
{
	struct pt_regs *regs;
	struct socket *socket;
	__u64 fd = 0;

	/* bpf_task_pt_regs: 5.15. The tracepoints that lead here: 6.3. */
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return -1;
	regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	bpf_probe_read_kernel(&fd, sizeof(fd), &SYSCALL_ARG1(regs));
	socket = socket_of_fd(fd);
	if (!socket || BPF_CORE_READ(socket, sk) != sk)
		return -1;
	return fd;
}

static __always_inline void address_read(struct socket_address *to, struct sock *sk)
{
	const struct sock_common *from = &sk->__sk_common;
	__u16 port = BPF_CORE_READ(from, skc_dport);

	to->family = BPF_CORE_READ(from, skc_family);
	if (to->family != AF_INET && to->family != AF_INET6)
		return;
	to->local_port = BPF_CORE_READ(from, skc_num);
	to->remote_port = __builtin_bswap16(port);
	if (to->family == AF_INET) {
		BPF_CORE_READ_INTO((__u32 *)to->local, from, skc_rcv_saddr);
		BPF_CORE_READ_INTO((__u32 *)to->remote, from, skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&to->local, from, skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&to->remote, from, skc_v6_daddr);
	}
}

/* fd < 0: look it up, but only when the socket is new to the connection. */
static __always_inline void connection_touches(__u64 object, struct sock *sk, int fd)
{
	struct connection *connection = connection_get(object);
	__u32 ports = BPF_CORE_READ(sk, __sk_common.skc_portpair);
	struct socket_address address = {.fd = fd};

	if (!connection)
		return;
	if (connection->sock == (__u64)sk && connection->port_pair == ports)
		return;
	if (fd < 0)
		address.fd = fd_of_syscall(sk);
	address_read(&address, sk);
	connection->socket = address;
	connection->port_pair = ports;
	connection->sock = (__u64)sk;
}

/* sock_send_length and sock_recv_length fire in the caller's context (6.3). */
static __always_inline int socket_used(struct bpf_raw_tracepoint_args *ctx)
{
	struct frame *frame = frame_current();

	if (frame)
		connection_touches(frame->object, (struct sock *)ctx->args[0], -1);
	return 0;
}

SEC("raw_tp")
int sock_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used(ctx);
}

SEC("raw_tp")
int sock_recv_length(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used(ctx);
}

static __always_inline void fd_used(__u64 object, __u32 fd)
{
	struct socket *socket = socket_of_fd(fd);

	if (socket)
		connection_touches(object, BPF_CORE_READ(socket, sk), fd);
}

#endif

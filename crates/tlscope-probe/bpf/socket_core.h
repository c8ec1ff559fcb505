/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Reading sockets with CO-RE. Before 6.3, the system call that a thread makes
 * inside a TLS call leads from its descriptor to the socket.
 */
#ifndef TLSCOPE_SOCKET_CORE_H
#define TLSCOPE_SOCKET_CORE_H

#include "kernel.h"

/* See hello.h. */
#define HELLOS_TELL true

/* What a descriptor of the current task stands for, or NULL. */
static __always_inline struct file *file_of_fd(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots, *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	slots = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}

static __always_inline bool file_is(struct file *file, __u16 type)
{
	return file && (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == type;
}

static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct socket *socket = NULL;

	if (file_is(file, S_IFSOCK))
		socket = BPF_CORE_READ(file, private_data);
	return socket ? BPF_CORE_READ(socket, sk) : NULL;
}

/* The socket behind a descriptor of the current task, or NULL. */
static __always_inline struct sock *sock_of_fd(__u32 fd)
{
	return sock_of_file(file_of_fd(fd));
}

/* bpf_task_pt_regs: 5.15. The tracepoints that need it: 6.3. */
static __always_inline struct pt_regs *syscall_registers(void)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return NULL;
	return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

/*
 * Where the thread's stack was when it entered the kernel; 0: not known. A
 * call that is below it has ended, with its return unseen.
 */
static __always_inline __u64 stack_in_use(void)
{
	struct pt_regs *regs = syscall_registers();
	__u64 stack = 0;

	if (regs)
		bpf_probe_read_kernel(&stack, sizeof(stack), &regs->sp);
	return stack;
}

static __always_inline __u32 sock_ports(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_portpair);
}

/* A bit field before 5.6. */
static __always_inline __u32 sock_protocol(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
}

static __always_inline void sock_address(struct socket_address *to, struct sock *sk)
{
	const struct sock_common *from = &sk->__sk_common;
	__u16 port = BPF_CORE_READ(from, skc_dport);

	to->family = BPF_CORE_READ(from, skc_family);
	if (!is_inet(to))
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

#endif

/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The kernel types that the core object reads, cut to the fields it uses.
 * CO-RE finds each field by name in the running kernel's BTF.
 */
#ifndef TLSCOPE_KERNEL_H
#define TLSCOPE_KERNEL_H

#include "base.h"
#include <bpf/bpf_core_read.h>

#define S_IFMT	 0170000
#define S_IFIFO	 0010000
#define S_IFSOCK 0140000

#define FMODE_READ  1
#define FMODE_WRITE 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u32 skc_portpair;
	__u16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_protocol;
};

struct socket {
	struct sock *sk;
};

struct inode {
	__u16 i_mode;
};

struct file {
	__u32 f_mode;
	void *private_data;
	struct inode *f_inode;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
};

/* The head of an io_kiocb, by opcode. */
struct io_sr_msg {
	void *buf;
	void *umsg;
};

struct io_rw {
	__u64 addr;
};

struct fdtable {
	__u32 max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct atomic {
	int counter;
};

struct signal_struct {
	struct atomic live; /* threads that have not begun to exit */
};

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
};
#endif

struct task_struct {
	int tgid;
	struct files_struct *files;
	struct signal_struct *signal;
#if defined(__TARGET_ARCH_x86)
	struct thread_struct thread;
#endif
};

#pragma clang attribute pop

#endif

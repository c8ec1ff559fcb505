/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The few types and helpers that every program here uses, without vmlinux.h:
 * in the noncore object it would turn register reads into CO-RE relocations.
 */
#ifndef TLSCOPE_BASE_H
#define TLSCOPE_BASE_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define AF_UNIX	 1
#define AF_INET	 2
#define AF_INET6 10

static __always_inline bool is_inet(const struct socket_address *address)
{
	return address->family == AF_INET || address->family == AF_INET6;
}

/*
 * A function that several programs hold, or one several times. Global functions are verified once
 * (5.6), by scalars alone before 5.12, and have a part of the stack of their own while they run;
 * where tail calls are in use, 4.18 takes no function at all.
 */
#ifdef TLSCOPE_CORE
#define SHARED __noinline
#else
#define SHARED static __always_inline
#endif

/* Keeps clang from folding away a bound that the verifier has to see. */
#define opaque(value) asm volatile("" : "+r"(value))

/*
 * One load from the context at a constant offset: clang would join several
 * into one at a computed offset, which the verifier refuses.
 */
#define REGISTER(ctx, field)                                                                       \
	({                                                                                         \
		__u64 value;                                                                       \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                              \
			     : "=r"(value)                                                         \
			     : "r"(ctx), "i"(__builtin_offsetof(struct pt_regs, field)));          \
		value;                                                                             \
	})

/*
 * Registers at a probe, as ptrace(2) lays them out: user-visible ABI, so no
 * relocation is needed. RETURN_POPS is what a return adds to the stack pointer.
 */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define ARG1(ctx)	   REGISTER(ctx, di)
#define ARG2(ctx)	   REGISTER(ctx, si)
#define ARG3(ctx)	   REGISTER(ctx, dx)
#define ARG4(ctx)	   REGISTER(ctx, cx)
#define ARG5(ctx)	   REGISTER(ctx, r8)
#define ARG6(ctx)	   REGISTER(ctx, r9)
#define RETURNED(ctx)	   REGISTER(ctx, ax)
#define STACK(ctx)	   REGISTER(ctx, sp)
#define SYSCALL_ARG1(regs) ((regs)->di)
#define SYSCALL_ARG2(regs) ((regs)->si)
#define SYSCALL_NR(regs)   ((regs)->orig_ax)
#define RETURN_POPS	   8
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	unsigned long regs[31], sp, pc, pstate;
	/* Behind what user space knows: only where the kernel's own copy is read. */
	unsigned long orig_x0;
	int syscallno;
};
#define ARG1(ctx)	   REGISTER(ctx, regs[0])
#define ARG2(ctx)	   REGISTER(ctx, regs[1])
#define ARG3(ctx)	   REGISTER(ctx, regs[2])
#define ARG4(ctx)	   REGISTER(ctx, regs[3])
#define ARG5(ctx)	   REGISTER(ctx, regs[4])
#define ARG6(ctx)	   REGISTER(ctx, regs[5])
#define RETURNED(ctx)	   REGISTER(ctx, regs[0])
#define STACK(ctx)	   REGISTER(ctx, sp)
/* The other place of the first argument holds the result when the call ends. */
#define SYSCALL_ARG1(regs) ((regs)->orig_x0)
#define SYSCALL_ARG2(regs) ((regs)->regs[1])
#define SYSCALL_NR(regs)   ((regs)->syscallno)
#define RETURN_POPS	   0
#else
#error "no register layout for this architecture"
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What BPF programs and user space say to each other. Mirrored in src/abi.rs;
 * a test compares both with the BTF of both objects. Fixed widths, no
 * pointers, no implicit padding: every struct is a multiple of 8 bytes.
 */
#ifndef TLSCOPE_ABI_H
#define TLSCOPE_ABI_H

#define COMM_LEN       16
#define LABEL_MAX      48
#define SECRET_MAX     64
#define RANDOM_LEN     32
#define PATH_MAX_STEPS 4

/* Longest payload of one data record: one TLS record's plaintext. */
#define CHUNK_MAX 16384

enum record_kind {
	RECORD_DATA = 1,
	RECORD_SECRET = 2,
	RECORD_CLOSE = 3,
	RECORD_OWNER = 4,
};

enum direction {
	DIRECTION_RECEIVED = 0,
	DIRECTION_SENT = 1,
};

/* Slots of the `counters` map. */
enum counter {
	COUNTER_BUFFER_FULL_RECORDS,
	COUNTER_BUFFER_FULL_BYTES,
	COUNTER_UNREADABLE_BYTES,
	COUNTER_OVERSIZE_BYTES,
	COUNTER_UNMATCHED_RETURNS,
	COUNTER_DEEP_CALLS,
	COUNTER_SECRETS_UNREADABLE,
	COUNTER_SECRETS_LOST,
	COUNTER_SECRETS_ELSEWHERE,
	COUNTER_MAX,
};

struct config {
	__u32 pid_set; /* only processes in the `pids` map are wanted */
	__u32 uid;
	__u32 uid_set;	    /* uid is a filter only when this is not 0 */
	__u32 shards;	    /* ring buffers in use: a power of two */
	__u32 wakeup_bytes; /* fill level of a ring at which its reader is woken */
	__u32 ended;	    /* the capture is over: probes go one after the other */
	__u32 attaching;    /* 1 + the image whose probes come one after the other */
	__u32 reserved;
};

/* A walk from a pointer to a field: all steps but the last are dereferenced. */
struct field_path {
	__u32 steps;
	__u32 offset[PATH_MAX_STEPS];
	__u32 reserved;
};

/* An attach cookie: the number of the image, and above it the probe's address. */
#define COOKIE_IMAGE_MASK    0xffffULL
#define COOKIE_ADDRESS_SHIFT 16

enum goroutine_place {
	GOROUTINE_IN_REGISTER,
	GOROUTINE_THREAD_LOCAL, /* at an offset from the thread pointer */
	GOROUTINE_BY_SLOT,	/* the offset stands at an address of the image */
};

/* What the probes of a Go image need. Addresses are the image's own. */
struct go_layout {
	__u32 stack_abi;  /* arguments on the stack, not in registers */
	__u32 place;	  /* enum goroutine_place */
	__s64 goroutine;  /* offset, or address of the slot with it */
	__u32 unlabelled; /* the key log's function is handed no label */
	__u32 reserved;
	struct field_path connection; /* from a *tls.Conn to its net.Conn */
	struct field_path tcp_fd;     /* from a *net.TCPConn to its descriptor */
	__u64 tcp_type;
	__u64 tls_type;
};

#define ARGUMENT_NONE 0xffffffffU

/*
 * Which argument of HKDF-Expand-Label is what, counted from 0. No connection:
 * it is the one whose handshake runs. No label length: the label ends in a 0.
 * No output length: the output points at a pointer, with the length behind it.
 */
struct expansion_abi {
	__u32 connection;
	__u32 label;
	__u32 label_length;
	__u32 output;
	__u32 output_length;
	__u32 early; /* what it derives of early data is of use */
};

/*
 * Layout values of one probed image, and in which argument of its key-log
 * sink each value stands, counted from 0. random_arg is where the walk to the
 * client random starts. A master secret without a length field is 48 bytes.
 */
struct image {
	struct field_path client_random;
	struct field_path master_secret;
	struct field_path master_secret_length;
	__u32 connection_arg;
	__u32 random_arg;
	__u32 label_arg;
	__u32 secret_arg;
	__u32 length_arg;
	__u32 packet_size; /* from a GnuTLS packet to the size of its datum; 0: none */
	__u32 births;	   /* every connection passes a probe when it is born */
	__u32 reserved;
	struct expansion_abi expansion;
	struct go_layout go;
};

struct record_header {
	__u32 kind;
	__u32 size;    /* of the whole record, in bytes */
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 reserved;
	char comm[COMM_LEN];
};

/* Beyond every AF_*. */
#define FAMILY_PIPE 0x100

/* Addresses in network order; an IPv4 address fills the first 4 bytes. */
struct socket_address {
	__s32 fd;	  /* -1: not known */
	__u16 family;	  /* AF_*, FAMILY_PIPE; 0: not known */
	__u16 local_port; /* host order */
	__u16 remote_port;
	__u16 older; /* not known, and its connection is older than the probes */
	__u16 reserved[2];
	__u8 local[16];
	__u8 remote[16];
};

struct connection_id {
	__u64 object;	  /* address of the library's connection object */
	__u64 generation; /* differs for each connection the object serves */
};

struct data_record {
	struct record_header header;
	struct connection_id connection;
	struct socket_address socket;
	__u64 offset;	   /* in the connection and direction */
	__u64 call_offset; /* where the call that carried the bytes begins */
	__u64 call_length;
	__u32 direction;
	__u32 length; /* of the payload that follows */
};

struct secret_record {
	struct record_header header;
	struct connection_id connection;
	struct socket_address socket;
	__u32 label_length; /* 0: a TLS 1.2 master secret */
	__u32 secret_length;
	char label[LABEL_MAX];
	__u8 client_random[RANDOM_LEN];
	__u8 secret[SECRET_MAX];
};

/* No map and no subprogram names the type, so BTF lacks it: checked here. */
_Static_assert(sizeof(struct secret_record) == 264, "mirrored in src/abi.rs");
_Static_assert(__builtin_offsetof(struct secret_record, label) == 120, "mirrored in src/abi.rs");
_Static_assert(__builtin_offsetof(struct secret_record, secret) == 200, "mirrored in src/abi.rs");

struct close_record {
	struct record_header header;
	struct connection_id connection;
	__u64 total[2]; /* bytes carried, by direction */
};

/* A process used a socket. The remote port of an unconnected one is 0. */
struct owner_record {
	struct record_header header;
	struct socket_address socket;
	__u32 protocol; /* IPPROTO_*; 0: not known */
	__u32 reserved;
};

/* Which end of a connection the library is: asked only where no call touches a socket. */
enum side {
	SIDE_UNKNOWN,
	SIDE_CLIENT,
	SIDE_SERVER,
};

/* Key and value of the `connections` map, which user space reads at the end. */
struct connection_key {
	__u64 object;
	__u32 pid;
	__u32 reserved;
};

/* Flags of a connection. */
enum connection_flag {
	CONNECTION_CLOSED = 1,	/* it was closed, and serves nothing more */
	CONNECTION_DIRECT = 2,	/* its socket is known from the objects themselves */
	CONNECTION_WRAPPED = 4, /* the objects do not lead to a socket */
	CONNECTION_BORN = 8,	/* its first call is seen, and all after it */
	CONNECTION_UNDER = 16,	/* its socket is that of a call inside its own */
	CONNECTION_NAMED = 32,	/* its hellos tell its sockets */
	CONNECTION_APART = 64,	/* it works without a socket: the program carries its records */
};

/* What carries a connection in one direction. */
struct carrier {
	__u64 sock; /* the kernel's struct sock, to notice a change */
	__u32 port_pair;
	__u32 first_at; /* of a hello's: the ports, remote and local, where it was received first */
	struct socket_address address;
};

struct connection {
	__u64 generation;
	__u64 total[2];		    /* bytes that ended calls carried, by direction */
	__u64 ahead;		    /* bytes sent beyond that, by a write under way */
	struct carrier carriers[2]; /* by direction; most have one socket for both */
	__u32 side;		    /* enum side */
	__u32 flags;		    /* enum connection_flag */
	__u32 sought;		    /* calls that found no hello of the other direction */
	__u32 reserved;
};

#endif

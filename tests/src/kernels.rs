//! tlscope on other kernels and on aarch64, in virtual machines.
//!
//! `matrix` is the table of kernels. On this machine `fetch` gets kernel, qemu and user
//! space from Debian's packages, `initramfs` packs a root with the static programs of
//! `scripts/dist.sh`, `boot` runs it, `verdict` reads the transcript and lets tshark decrypt
//! what was captured, `report` writes docs/kernel-support.md. In the machine `cases` runs
//! the harness of the end-to-end tests.

pub mod boot;
pub mod cases;
pub mod fetch;
pub mod initramfs;
pub mod matrix;
pub mod peers;
pub mod report;
pub mod subjects;
pub mod transcript;
pub mod verdict;

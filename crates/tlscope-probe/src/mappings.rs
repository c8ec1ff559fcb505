//! Code that processes map, told by the kernel as it happens: `exec`, the
//! loader's work and `dlopen` alike. It is what `perf record` uses to name code:
//! records of perf events, paid for by a mapping and by nothing else.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::time::Duration;

use libbpf_rs::{MapHandle, MapType};
use libbpf_sys::{perf_buffer, perf_event_attr, perf_event_header};

use crate::object;

/// Per CPU. A start of a program with twenty libraries writes some 3 KiB.
const PAGES: usize = 64;

/// A process has mapped a file as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub pid: u32,
    /// With the generation, tells an inode from one that later has its number.
    pub file: (u32, u32, u64, u64),
    /// As the process sees it; `//anon` and the like for what is no file.
    pub path: Vec<u8>,
}

/// What came since the last look.
#[derive(Debug, Default)]
pub struct News {
    pub mapped: Vec<Mapped>,
    /// Records did not fit: anything may have been mapped.
    pub lost: bool,
}

/// Watches every process of the machine.
pub struct Mappings {
    buffer: NonNull<perf_buffer>,
    /// Written by the callback, which runs inside `wait` alone.
    news: NonNull<News>,
    _map: MapHandle,
}

// SAFETY: neither pointer is bound to a thread, and both are used through `&mut self` alone.
unsafe impl Send for Mappings {}

impl fmt::Debug for Mappings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mappings").finish_non_exhaustive()
    }
}

impl Mappings {
    pub fn watch() -> io::Result<Self> {
        object::keep_libbpf_log();
        let mut attr = attributes();
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let cpus = libbpf_rs::num_possible_cpus().map_err(io::Error::other)?;
        // libbpf wants a map to put the events into; nothing reads it.
        let map = MapHandle::create(
            MapType::PerfEventArray,
            Some("mappings"),
            4,
            4,
            cpus as u32,
            &options,
        )
        .map_err(io::Error::other)?;
        let news = NonNull::from(Box::leak(Box::new(News::default())));
        let options = libbpf_sys::perf_buffer_raw_opts {
            sz: size_of::<libbpf_sys::perf_buffer_raw_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        // SAFETY: the map is open, `attr` and `options` outlive the call, and `news` is freed
        // only behind the buffer.
        let buffer = unsafe {
            libbpf_sys::perf_buffer__new_raw(
                map.as_fd().as_raw_fd(),
                PAGES as libbpf_sys::size_t,
                &raw mut attr,
                Some(take),
                news.as_ptr().cast(),
                &raw const options,
            )
        };
        let Some(buffer) = NonNull::new(buffer) else {
            let error = io::Error::last_os_error();
            // SAFETY: it came from a Box, and nothing else refers to it.
            drop(unsafe { Box::from_raw(news.as_ptr()) });
            return Err(error);
        };
        Ok(Self {
            buffer,
            news,
            _map: map,
        })
    }

    /// Waits up to `patience` for the first mapping, then gives all there are.
    pub fn wait(&mut self, patience: Duration) -> News {
        let milliseconds = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the buffer lives as long as `self`. An error is a signal: there is no news then.
        unsafe { libbpf_sys::perf_buffer__poll(self.buffer.as_ptr(), milliseconds) };
        // SAFETY: the callback does not run now, and no other reference exists.
        std::mem::take(unsafe { self.news.as_mut() })
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        // SAFETY: both were made by `watch`, and the buffer, which refers to `news`, goes first.
        unsafe {
            libbpf_sys::perf_buffer__free(self.buffer.as_ptr());
            drop(Box::from_raw(self.news.as_ptr()));
        }
    }
}

/// An event that never happens, with the side records of mappings.
fn attributes() -> perf_event_attr {
    let mut attr = perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_SOFTWARE,
        size: size_of::<perf_event_attr>() as u32,
        config: u64::from(libbpf_sys::PERF_COUNT_SW_DUMMY),
        ..Default::default()
    };
    // Of mappings with PROT_EXEC only: `mmap_data` would be the others.
    attr.set_mmap(1);
    attr.set_mmap2(1);
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = 1;
    attr
}

unsafe extern "C" fn take(
    context: *mut c_void,
    _cpu: c_int,
    event: *mut perf_event_header,
) -> c_int {
    // SAFETY: libbpf hands out what `watch` gave it, and a whole record, for the time of the call.
    let (news, record) = unsafe {
        let size = usize::from((*event).size);
        (
            &mut *context.cast::<News>(),
            std::slice::from_raw_parts(event.cast::<u8>(), size),
        )
    };
    // SAFETY: as above.
    match unsafe { (*event).type_ } {
        libbpf_sys::PERF_RECORD_MMAP2 => news.mapped.extend(parse(record)),
        libbpf_sys::PERF_RECORD_LOST => news.lost = true,
        _ => {}
    }
    libbpf_sys::LIBBPF_PERF_EVENT_CONT
}

/// `PERF_RECORD_MMAP2` of `perf_event_open(2)`: header, pid, tid, address, length, page offset,
/// major, minor, inode, generation, protection, flags, path.
fn parse(record: &[u8]) -> Option<Mapped> {
    const PID: usize = 8;
    const MAJOR: usize = 40;
    const INODE: usize = 48;
    const PATH: usize = 72;
    let word = |at| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let long = |at| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let path = record.get(PATH..)?.split(|&b| b == 0).next()?;
    Some(Mapped {
        pid: word(PID)?,
        file: (
            word(MAJOR)?,
            word(MAJOR + 4)?,
            long(INODE)?,
            long(INODE + 8)?,
        ),
        path: path.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_and_a_short_one_is_not() {
        let mut record = vec![0; 72];
        record[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        record[40..44].copy_from_slice(&254_u32.to_ne_bytes());
        record[48..56].copy_from_slice(&99_u64.to_ne_bytes());
        record[56..64].copy_from_slice(&3_u64.to_ne_bytes());
        record.extend_from_slice(b"/lib/libssl.so.3\0\0\0");
        let expected = Mapped {
            pid: 7,
            file: (254, 0, 99, 3),
            path: b"/lib/libssl.so.3".to_vec(),
        };
        assert_eq!(parse(&record), Some(expected));
        assert_eq!(parse(&record[..60]), None);
    }
}

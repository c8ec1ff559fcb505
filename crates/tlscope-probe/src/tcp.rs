//! What the kernel knows of a TCP connection of ours and std does not ask.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes written that the other end has not acknowledged. Also of a connection that broke.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and SIOCOUTQ (which is TIOCOUTQ,
    // linux/sockios.h) writes one int, to `bytes`.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_dead_reader_left_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).expect("a connection");
        let (mut reader, _) = listener.accept().expect("the connection");
        socket.write_all(b"taken").expect("a write");
        reader.read_exact(&mut [0; 5]).expect("a read");
        assert_eq!(unacknowledged(&socket).expect("a socket"), 0);
        drop(reader);
        socket
            .write_all(b"not taken")
            .expect("the end is not known yet");
        while socket.write_all(b"").is_ok() && socket.take_error().unwrap().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(unacknowledged(&socket).expect("a socket"), 9);
    }
}

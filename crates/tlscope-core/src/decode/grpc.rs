//! gRPC's framing of messages in HTTP/2 content: a flag, a length, the bytes.

use super::view::View;

const PREFIX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Grpc {
    prefix: [u8; PREFIX],
    held: usize,
    /// Of the message in progress.
    left: u32,
}

impl Grpc {
    pub(super) fn view(&mut self, mut bytes: &[u8], view: &mut View) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left as usize);
                view.content(&bytes[..taken]);
                self.left -= taken as u32;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = bytes.len().min(PREFIX - self.held);
            self.prefix[self.held..self.held + taken].copy_from_slice(&bytes[..taken]);
            self.held += taken;
            bytes = &bytes[taken..];
            if self.held == PREFIX {
                self.begin(view);
            }
        }
    }

    fn begin(&mut self, view: &mut View) {
        let [flag, a, b, c, d] = self.prefix;
        self.left = u32::from_be_bytes([a, b, c, d]);
        self.held = 0;
        let compressed = if flag & 1 == 1 { ", compressed" } else { "" };
        view.words(format_args!(
            "gRPC message, {} bytes{compressed}\n",
            self.left
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::ViewPart;

    #[test]
    fn messages_are_framed_however_they_are_cut() {
        let stream = b"\0\0\0\0\x03abc\x01\0\0\0\x02de\0\0\0\0\0";
        let mut whole = View::default();
        Grpc::default().view(stream, &mut whole);
        let parts: Vec<_> = whole.parts().collect();
        let expected: [(ViewPart, &[u8]); 5] = [
            (ViewPart::Words, b"gRPC message, 3 bytes\n"),
            (ViewPart::Content, b"abc"),
            (ViewPart::Words, b"gRPC message, 2 bytes, compressed\n"),
            (ViewPart::Content, b"de"),
            (ViewPart::Words, b"gRPC message, 0 bytes\n"),
        ];
        assert_eq!(parts, expected);
        for size in 1..stream.len() {
            let (mut grpc, mut view) = (Grpc::default(), View::default());
            stream
                .chunks(size)
                .for_each(|piece| grpc.view(piece, &mut view));
            assert_eq!(view, whole);
        }
    }
}

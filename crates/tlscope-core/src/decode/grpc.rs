//! gRPC's framing of messages in HTTP/2 content: a flag, a length, the bytes.

use super::content::Content;
use super::head::Head;
use super::view::View;

const PREFIX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Grpc {
    prefix: [u8; PREFIX],
    held: usize,
    /// Of the message in progress.
    left: u32,
    /// What compressed messages are compressed with; each begins anew.
    coding: Vec<u8>,
    content: Content,
}

impl Grpc {
    /// `None` when the head is no gRPC call's.
    pub(super) fn of(head: &Head) -> Option<Self> {
        let coding = head.field("grpc-encoding").unwrap_or_default().to_vec();
        head.has_media_type(b"application/grpc").then(|| Self {
            coding,
            ..Self::default()
        })
    }

    pub(super) fn view(&mut self, mut bytes: &[u8], view: &mut View) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left as usize);
                self.left -= taken as u32;
                self.message(&bytes[..taken], view);
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
        let is_compressed = flag & 1 == 1;
        let compressed = if is_compressed { ", compressed" } else { "" };
        view.words(format_args!(
            "gRPC message, {} bytes{compressed}\n",
            self.left
        ));
        self.content = if is_compressed {
            Content::named(&self.coding)
        } else {
            Content::default()
        };
    }

    fn message(&mut self, bytes: &[u8], view: &mut View) {
        if self.content.is_identity() {
            view.content(bytes);
            return;
        }
        let mut decoded = Vec::new();
        let result = self.content.decode(bytes, &mut decoded);
        view.content(&decoded);
        if let Err(error) = result {
            view.words(format_args!("{error}"));
        }
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

    #[test]
    fn compressed_messages_are_decoded_each_alone() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x02\0\xfd\xffhi\xac\x2a\x93\xd8\x02\0\0\0";
        let mut head = Head::trailers("HTTP/2");
        head.push(b"content-type", b"application/grpc+proto");
        head.push(b"grpc-encoding", b"gzip");
        let (mut grpc, mut view) = (Grpc::of(&head).unwrap(), View::default());
        for _ in 0..2 {
            grpc.view(
                &[&[1, 0, 0, 0, gzip.len() as u8], &gzip[..]].concat(),
                &mut view,
            );
        }
        let text: Vec<u8> = view.parts().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        let expected = "gRPC message, 25 bytes, compressed\nhi".repeat(2);
        assert_eq!(str::from_utf8(&text).unwrap(), expected);
    }
}

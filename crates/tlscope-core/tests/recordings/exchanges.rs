//! Exchanges as a sink learns them from the parts of messages.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use tlscope_core::decode::Start;
use tlscope_core::item::{Item, Message, MessagePart};
use tlscope_core::sink::Sink;
use tlscope_core::summary::Summary;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exchange {
    pub(crate) target: String,
    pub(crate) method: String,
    pub(crate) status: u16,
    /// Content of the request, and of the response as transferred.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Of the response, decoded.
    pub(crate) content: String,
}

#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Bytes are missing: only what is paired is collected, whole or not.
    lossy: bool,
    contents: HashMap<u64, Vec<u8>>,
    sent: HashMap<u64, u64>,
    exchanges: Vec<Exchange>,
}

impl Collector {
    pub(crate) fn lossy() -> Self {
        let collector = Self::default();
        collector.0.lock().unwrap().lossy = true;
        collector
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.0.lock().unwrap().exchanges)
    }

    fn message(&self, message: &Message<'_>) {
        let mut state = self.0.lock().unwrap();
        let head = message.head.expect("a message has a head");
        let is_response = matches!(head.start(), Start::Response { .. });
        match &message.part {
            MessagePart::Content { bytes, .. } if is_response => {
                state
                    .contents
                    .entry(message.exchange)
                    .or_default()
                    .extend_from_slice(bytes);
            }
            MessagePart::Finished(finished) if !is_response => {
                assert!(finished.complete || state.lossy);
                state.sent.insert(message.exchange, finished.transferred);
            }
            MessagePart::Finished(finished) => {
                let Start::Response { status, .. } = head.start() else {
                    return;
                };
                if status == 100 {
                    return;
                }
                assert!(state.lossy || (finished.complete && finished.timing.is_some()));
                let Some(request) = finished.request.as_ref() else {
                    assert!(state.lossy, "the request was seen");
                    return;
                };
                let Start::Request { method, target } = request.start() else {
                    panic!("a response answers a request");
                };
                let content = state.contents.remove(&message.exchange).unwrap_or_default();
                assert_eq!(finished.decoded, content.len() as u64);
                let exchange = Exchange {
                    target: target.to_owned(),
                    method: method.to_owned(),
                    status,
                    sent: state
                        .sent
                        .get(&message.exchange)
                        .copied()
                        .unwrap_or_default(),
                    received: finished.transferred,
                    content: String::from_utf8_lossy(&content).into_owned(),
                };
                state.exchanges.push(exchange);
            }
            MessagePart::Head(_)
            | MessagePart::Content { .. }
            | MessagePart::Frame(_)
            | MessagePart::Trailers(_) => {}
        }
    }
}

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        if let Item::Message(message) = item {
            self.message(message);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }
}

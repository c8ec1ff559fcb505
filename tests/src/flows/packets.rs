//! Whose packets these are: every end of a group's rows, in one capture of packets.

use std::collections::BTreeMap;

use super::{End, Group, STYLES, Shown, Way, as_shown};
use crate::Tlscope;
use crate::pcap::{PacketCapture, PcapFile, address};
use crate::scene::Scene;

/// By the first packets of a connection its ends may not be known yet; those with data wait for
/// secrets, which are made later. Tshark does not look into those that were sent again.
const PACKETS: &str = "tls.app_data and not tcp.analysis.retransmission";
const FIELDS: [&str; 7] = [
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
    "frame.comment",
];

/// The comments of all packets from one address to another.
type Comments = BTreeMap<(String, String), Vec<String>>;

/// On loopback, where other programs may talk too.
#[track_caller]
pub fn assert_packets_named(scene: &Scene, group: Group) {
    let tlscope = Tlscope::pcap("lo").args(Way::Best.flags());
    let capture = PacketCapture::start_with(tlscope, scene, "");
    let rows = STYLES.iter().filter(|style| style.group == group);
    let rows: Vec<_> = rows.map(|row| (row, row.run(scene, &mut |_| {}))).collect();
    let (file, _) = capture.stop();
    let comments = comments(&file);
    let mut seen = 0;
    for (row, ends) in &rows {
        for end in ends {
            seen += usize::from(end.assert_named(&comments, row.what));
        }
    }
    assert!(seen >= 2, "ends with addresses: {seen}");
}

#[track_caller]
fn comments(file: &PcapFile) -> Comments {
    let mut found = Comments::new();
    for row in file.rows(PACKETS, &FIELDS) {
        let [v4, v6, port, to_v4, to_v6, to_port, comment] = row.as_slice() else {
            panic!("no such fields: {row:?}");
        };
        let ends = (address(v4, v6, port), address(to_v4, to_v6, to_port));
        found.entry(ends).or_default().push(comment.clone());
    }
    found
}

impl End {
    /// What it sent is from it, what it received is to it; false where it has no address.
    #[track_caller]
    fn assert_named(&self, comments: &Comments, what: &str) -> bool {
        let read = self.read.as_ref().unwrap_or(&self.written);
        let [read, written] = [read, &self.written].map(|said| as_shown(said, Shown::Same));
        let (Some(reads_at), Some(writes_at)) = (read.local, written.local) else {
            return false;
        };
        // Half a conversation is none that waits for secrets: it may be written before its ends
        // are known, but never with others.
        let may_lack = reads_at != writes_at;
        for (from, to, word) in [
            (&writes_at, &written.remote, "from"),
            (&read.remote, &reads_at, "to"),
        ] {
            let packets = comments.get(&(from.clone(), to.clone()));
            let packets = packets.unwrap_or_else(|| panic!("{what}: none from {from} to {to}"));
            let (any, own) = (format!("{word} pid "), format!("{word} pid {} (", self.pid));
            for comment in packets {
                let named = comment.contains(&own) || may_lack && !comment.contains(&any);
                assert!(
                    named,
                    "{what}: from {from} to {to}: no {own:?} in {comment:?}"
                );
            }
        }
        true
    }
}

use super::build::{Tcp, ethernet, ip};
use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(from: &str, to: &str) -> Tcp<'static> {
    Tcp {
        from: address(from),
        to: address(to),
        sequence: 0x0102_0304,
        acknowledged: 0x0506_0708,
        flags: 0x12,
        payload: b"payload",
    }
}

fn samples() -> Vec<(LinkType, Vec<u8>)> {
    let v4 = tcp("10.0.0.1:40000", "10.0.0.2:443");
    let v6 = tcp("[fd00::1]:40000", "[fd00::2]:443");
    let frame = ethernet(&v4);
    let tagged = |tags: &[u8]| [&frame[..12], tags, &frame[12..]].concat();
    let sll = |kind: [u8; 2]| [&[0; 14][..], &kind].concat();
    let mut gso = v4.ip();
    gso[2..4].copy_from_slice(&[0, 0]);
    vec![
        (LinkType::ETHERNET, frame.clone()),
        (LinkType::ETHERNET, [&frame[..], &[0; 6]].concat()),
        (LinkType::ETHERNET, ethernet(&v6)),
        (LinkType::ETHERNET, tagged(&[0x81, 0, 0, 5])),
        (
            LinkType::ETHERNET,
            tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]),
        ),
        (
            LinkType::ETHERNET,
            [
                &frame[..12],
                &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21],
                &v4.ip(),
            ]
            .concat(),
        ),
        (LinkType::RAW, v4.ip()),
        (LinkType::RAW, gso),
        (LinkType::IPV6, v6.ip()),
        (LinkType::NULL, [&[2, 0, 0, 0], &v4.ip()[..]].concat()),
        (LinkType::PPP, [&[0xff, 3, 0, 0x57], &v6.ip()[..]].concat()),
        (LinkType::LINUX_SLL, [sll([8, 0]), v4.ip()].concat()),
        (
            LinkType::LINUX_SLL2,
            [&[0x86, 0xdd][..], &[0; 18], &v6.ip()].concat(),
        ),
    ]
}

#[test]
fn every_link_type_leads_to_the_segment() {
    for (link, frame) in samples() {
        let segment = dissect(link, &frame).unwrap_or_else(|| panic!("{link:?} {frame:x?}"));
        assert_eq!(segment.payload, b"payload", "{link:?}");
        assert_eq!(segment.endpoints.source.port(), 40_000);
        assert_eq!(segment.endpoints.destination.port(), 443);
        let header = segment.tcp.unwrap();
        assert_eq!(header.sequence, 0x0102_0304);
        assert_eq!(header.acknowledged, 0x0506_0708);
        assert!(header.flags.syn() && !header.flags.finishes());
    }
}

#[test]
fn extension_headers_are_passed_over() {
    let inner = tcp("[fd00::1]:1", "[fd00::2]:2");
    // Hop-by-hop, routing, a first fragment, authentication, destination.
    let headers: [(u8, &[u8]); 5] = [
        (0, &[43, 0, 0, 0, 0, 0, 0, 0]),
        (43, &[44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (44, &[51, 0, 0, 1, 0, 0, 0, 9]),
        (51, &[60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (60, &[6, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let chain: Vec<u8> = headers.iter().flat_map(|h| h.1.to_vec()).collect();
    let packet = ip(inner.from, inner.to, 0, &[chain, inner.segment()].concat());
    assert_eq!(dissect(LinkType::RAW, &packet).unwrap().payload, b"payload");
    // A later fragment has no ports.
    let later = [&[6, 0, 0x10, 0, 0, 0, 0, 9][..], b"rest"].concat();
    assert!(dissect(LinkType::RAW, &ip(inner.from, inner.to, 44, &later)).is_none());
}

#[test]
fn datagrams_have_no_sequence() {
    let udp = [&[0x9c, 0x40, 1, 0xbb, 0, 12, 0, 0][..], b"quic"].concat();
    let packet = ip(address("10.0.0.1:0"), address("10.0.0.2:0"), 17, &udp);
    let segment = dissect(LinkType::RAW, &packet).unwrap();
    assert_eq!(segment.endpoints.protocol, Protocol::Udp);
    assert_eq!((segment.tcp, segment.payload), (None, &b"quic"[..]));
}

#[test]
fn other_traffic_is_none() {
    let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
    assert!(dissect(LinkType::ETHERNET, &arp).is_none());
    assert!(dissect(LinkType(105), &[0; 100]).is_none());
    let mut fragment = tcp("10.0.0.1:1", "10.0.0.2:2").ip();
    fragment[6..8].copy_from_slice(&[0, 5]);
    assert!(dissect(LinkType::RAW, &fragment).is_none());
}

/// Whatever is cut off or changed, the answer stays within the frame.
#[test]
fn damage_is_survived() {
    for (link, frame) in samples() {
        for end in 0..frame.len() {
            if let Some(segment) = dissect(link, &frame[..end]) {
                assert!(segment.payload.len() <= 7);
            }
        }
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                if let Some(segment) = dissect(link, &damaged) {
                    assert!(segment.payload.len() < damaged.len());
                }
            }
        }
    }
}

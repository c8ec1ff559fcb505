//! Plans against the truth, where nothing needs to run: symbols, stripped copies, twins.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Scene;
use crate::program::{must, tool};
use crate::zoo::fetch::read;
use crate::zoo::plan::{Plan, Probe};

/// Names of the function that is handed each secret.
const SINKS: [&str; 2] = ["ssl_log_secret", "nss_keylog_int"];

/// What `readelf` says about an image, a reader of ELF that is not ours.
#[derive(Debug)]
pub struct Truth {
    /// Addresses of functions, by name without version.
    functions: BTreeMap<String, Vec<u64>>,
    /// Address, file offset and length of what is loaded from the file.
    segments: Vec<(u64, u64, u64)>,
    has_symtab: bool,
    has_dynsym: bool,
}

impl Truth {
    #[track_caller]
    pub fn of(image: &Path) -> Self {
        let readelf = |arguments: &[&str]| {
            let mut command = tool("readelf", "binutils");
            let out = must(command.arg("--wide").args(arguments).arg(image));
            String::from_utf8_lossy(&out).into_owned()
        };
        let symbols = readelf(&["--symbols"]);
        let mut functions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (name, address) in symbols.lines().filter_map(function) {
            functions.entry(name).or_default().push(address);
        }
        let segments = readelf(&["--segments"]);
        Self {
            functions,
            segments: segments.lines().filter_map(segment).collect(),
            has_symtab: symbols.contains("Symbol table '.symtab'"),
            has_dynsym: symbols.contains("Symbol table '.dynsym'"),
        }
    }

    pub fn has_symtab(&self) -> bool {
        self.has_symtab
    }

    /// The tables of symbols.
    pub fn tables(&self) -> impl Iterator<Item = &'static str> {
        let tables = [(self.has_dynsym, ".dynsym"), (self.has_symtab, ".symtab")];
        tables
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        let fits =
            |&&(start, _, length): &&(u64, u64, u64)| address >= start && address - start < length;
        let (start, offset, _) = self.segments.iter().find(fits)?;
        Some(address - start + offset)
    }

    /// Each probe whose function is named, by a symbol or by its code, is where the symbol of that
    /// name is, and so is the sink.
    #[track_caller]
    pub fn assert_agrees(&self, plan: &Plan) {
        for probe in &plan.probes {
            let offset = self.offset(probe.address);
            assert_eq!(offset, Some(probe.offset), "file offset of {probe:?}");
            if let Some(name) = probe.name() {
                let known = self.functions.get(name);
                let there = known.is_none_or(|all| all.contains(&probe.address));
                assert!(there, "{probe:?}, but {name} is at {known:x?}");
            }
        }
        for probe in plan.probes.iter().filter(|p| p.role == "secret_sink") {
            self.assert_sink(probe);
        }
    }

    /// The names of a sink differ by compiler: mangled, or parts and clones with an ending.
    #[track_caller]
    fn assert_sink(&self, probe: &Probe) {
        let is_sink = |name: &str| SINKS.iter().any(|sink| name.contains(sink));
        let named = self.functions.iter().filter(|(name, _)| is_sink(name));
        let sinks: Vec<_> = named.flat_map(|(_, addresses)| addresses).collect();
        let there = sinks.is_empty() || sinks.contains(&&probe.address);
        assert!(there, "{probe:?}, but the sinks are at {sinks:x?}");
    }
}

/// `Num: Value Size Type Bind Vis Ndx Name`.
fn function(line: &str) -> Option<(String, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let &[_, value, _, "FUNC", _, _, section, name, ..] = words.as_slice() else {
        return None;
    };
    let name = name.split('@').next()?.to_owned();
    let address = u64::from_str_radix(value, 16).ok()?;
    (section != "UND").then_some((name, address))
}

/// `LOAD Offset VirtAddr PhysAddr FileSiz MemSiz Flg Align`.
fn segment(line: &str) -> Option<(u64, u64, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let &["LOAD", offset, address, _, length, ..] = words.as_slice() else {
        return None;
    };
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    Some((hex(address)?, hex(offset)?, hex(length)?))
}

/// Whether functions that are probed begin with `paciasp` or `bti c`: return addresses are signed,
/// or branches have to land on marks.
#[track_caller]
pub fn is_protected(image: &Path, plan: &Plan) -> bool {
    const MARKS: [u32; 2] = [0xd503_233f, 0xd503_245f];
    let bytes = read(image);
    let first = |probe: &Probe| {
        let word = bytes.get(probe.offset as usize..)?.first_chunk()?;
        Some(u32::from_le_bytes(*word))
    };
    let mut words = plan.probes.iter().filter_map(first);
    plan.arch == "aarch64" && words.any(|word| MARKS.contains(&word))
}

/// The plan of the image without its full symbol table says nothing else: a probe may be
/// missing, none may lie elsewhere, and the secrets must be found.
#[track_caller]
pub fn assert_stripped_agrees(scene: &Scene, image: &Path, whole: &Plan) -> Plan {
    let copy = scene.fresh("stripped");
    fs::write(&copy, without_symtab(read(image))).expect("a stripped copy");
    let plan = Plan::of(&copy);
    fs::remove_file(&copy).expect("remove the stripped copy");
    for probe in &plan.probes {
        let same = |p: &&Probe| {
            (&p.role, p.offset, &p.returns) == (&probe.role, probe.offset, &probe.returns)
        };
        let there = whole.probes.iter().any(|p| same(&p));
        assert!(
            there,
            "without symbols: {probe:?}; with: {:?}",
            whole.probe(&probe.role)
        );
    }
    let path = |plan: &Plan| plan.layout.client_random.as_ref().map(|v| v.path.clone());
    if let Some(random) = path(&plan) {
        assert_eq!(Some(random), path(whole), "client random without symbols");
    }
    assert_eq!(plan.family, whole.family, "family without symbols");
    assert!(plan.has_secrets(), "no secrets without symbols");
    plan
}

/// Makes `.symtab` an unused section. Little-endian 64-bit ELF only, as all targets are.
#[track_caller]
fn without_symtab(mut image: Vec<u8>) -> Vec<u8> {
    const SYMTAB: u32 = 2;
    let number = |image: &[u8], at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&image[at..at + length]);
        u64::from_le_bytes(bytes) as usize
    };
    let (table, size, count) = (
        number(&image, 0x28, 8),
        number(&image, 0x3a, 2),
        number(&image, 0x3c, 2),
    );
    let mut removed = 0;
    for header in (0..count).map(|i| table + i * size) {
        if number(&image, header + 4, 4) == SYMTAB as usize {
            image[header + 4..header + 8].fill(0);
            removed += 1;
        }
    }
    assert_eq!(removed, 1, "symbol tables");
    image
}

/// The same version for another architecture means the same: what is probed, and how the
/// client random is reached. Offsets in objects are alike on all 64-bit machines, but padding
/// is not promised, so they are not compared.
#[track_caller]
pub fn assert_twins(plan: &Plan, twin: &Plan) {
    assert_eq!(plan.family, twin.family, "family");
    assert_eq!(plan.version, twin.version, "version");
    assert_ne!(plan.arch, twin.arch, "architecture");
    assert_eq!(plan.roles(), twin.roles(), "roles here, and in the twin");
    let (steps, twins) = (plan.steps_to_random(), twin.steps_to_random());
    assert_eq!(steps, twins, "steps to the client random");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_readelf() {
        let line =
            "   341: 0000000000024010   103 FUNC    GLOBAL DEFAULT   14 SSL_read@@OPENSSL_3.0.0";
        assert_eq!(function(line), Some(("SSL_read".into(), 0x24010)));
        let undefined =
            "     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND memcpy@GLIBC_2.14";
        assert_eq!(function(undefined), None);
        let load = "  LOAD           0x01e000 0x000000000001f000 0x000000000001e000 0x05ca3d 0x05ca3d R E 0x1000";
        assert_eq!(segment(load), Some((0x1f000, 0x1e000, 0x5_ca3d)));
    }

    #[test]
    #[should_panic(expected = "but SSL_read is at")]
    fn a_probe_beside_its_symbol_is_told() {
        let probe = Probe {
            role: "read".into(),
            symbol: Some("SSL_read".into()),
            address: 0x1004,
            offset: 0x1004,
            returns: Vec::new(),
            evidence: String::new(),
        };
        let plan = Plan {
            probes: vec![probe],
            ..Plan::default()
        };
        let truth = Truth {
            functions: [("SSL_read".to_owned(), vec![0x1000])].into(),
            segments: vec![(0, 0, 0x2000)],
            has_symtab: true,
            has_dynsym: false,
        };
        truth.assert_agrees(&plan);
    }
}

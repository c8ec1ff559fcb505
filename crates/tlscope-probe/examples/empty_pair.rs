//! Puts an empty uprobe pair on the data functions of a library until stdin
//! ends: the yardstick of `make bench`. Prints a line when all are attached.

use std::error::Error;
use std::io::{Read, stdin};
use std::path::PathBuf;

use tlscope_probe::empty::EmptyPair;

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: empty_pair LIBRARY")?
        .into();
    let plan = tlscope_image::analyze(&std::fs::read(&path)?)?;
    let offsets: Vec<u64> = plan.data_probes().map(|probe| probe.offset.0).collect();
    let sites = plan.data_probes().flat_map(|probe| &probe.returns);
    let sites: Vec<u64> = sites.map(|offset| offset.0).collect();
    let _pair = if sites.is_empty() {
        EmptyPair::attach(&path, &offsets)?
    } else {
        EmptyPair::attach_sites(&path, &[&offsets[..], &sites].concat())?
    };
    println!("{} functions have an empty pair", offsets.len());
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
